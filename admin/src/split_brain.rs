//! Do the replicas of a resource share one history, and if not, where did they part?
//!
//! Reads `replay-<host>`, `version-<nr>-<host>` and the names of the logs of one resource. Walks for every two members from their
//! replay positions back along the version links until both meet. Never decides who is right.
//!
//! Two members are apart when both have something behind the meeting point which the other has not. A member which is
//! merely late is not apart. Besides the original, two version links which state different digests for the same log at the
//! same length are taken for what they are: different contents.
//!
//! Manual: "Split Brain Situations and Emergency Handover".

use std::collections::BTreeMap;

use crate::human;
use crate::output::Output;
use crate::snapshot::{Kind, Snapshot};

const NO_DIGEST: &str = "00000000000000000000000000000000";

/// Links followed for one pair before the chain counts as endless.
const STEPS_MAX: usize = 100_000;

/// A place in the chain of logs, as far as version links tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Number of the log.
    pub nr: u64,
    /// Host that wrote the log.
    pub origin: String,
    /// Bytes of that log.
    pub len: u64,
}

impl Point {
    /// Reads the leading `log-<nr>-<origin>,<len>` of a replay link or of one half of a version link.
    pub fn parse(text: &str) -> Option<Point> {
        let (log, rest) = text.split_once(',')?;
        let (nr, origin) = log.strip_prefix("log-")?.split_once('-')?;
        let len = rest.split(',').next()?.parse().ok()?;
        Some(Point {
            nr: nr.parse().ok()?,
            origin: origin.to_owned(),
            len,
        })
    }

    /// `log-<nr>-<origin>,<len>`
    pub fn text(&self) -> String {
        format!("log-{:09}-{},{}", self.nr, self.origin, self.len)
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitBrain {
    /// The histories part behind `after`; `None` when the version links do not reach back that far.
    Forked {
        /// The last place everybody shares.
        after: Option<Point>,
        /// Bytes of logs each side has behind it; `None` when unknown.
        hosts: BTreeMap<String, Option<u64>>,
    },
    /// Two logs with one number were written by different hosts, although the members agree.
    DuplicateLog(u64),
}

/// One side of a walk.
struct Side<'a> {
    host: &'a str,
    at: Point,
    depth: u32,
    amount: u64,
}

impl Side<'_> {
    fn step_back(&mut self, tree: &Snapshot, res: &str) -> bool {
        self.amount = self.amount.saturating_add(self.at.len);
        let Some(before) = predecessor(tree, res, self.host, self.at.nr) else {
            return false;
        };
        self.at = before;
        self.depth += 1;
        true
    }
}

/// Where the histories part, if known, and how much each host has behind that point.
type Found = (Option<Point>, BTreeMap<String, Option<u64>>);

/// How the walk of two members ended.
enum Walk {
    Together,
    Apart {
        after: Option<Point>,
        amounts: Option<[u64; 2]>,
    },
}

/// Looks at one resource.
pub fn find(tree: &Snapshot, res: &str) -> Option<SplitBrain> {
    let members: Vec<(&str, Point)> = tree
        .owners(&format!("resource-{res}/replay-"))
        .into_iter()
        .filter_map(|host| {
            Some((
                host,
                Point::parse(tree.text(&format!("resource-{res}/replay-{host}")))?,
            ))
        })
        .collect();
    let mut found: Option<Found> = None;
    for (i, one) in members.iter().enumerate() {
        for two in &members[i + 1..] {
            if let Walk::Apart { after, amounts } = walk(tree, res, one, two) {
                let (point, hosts) = found.get_or_insert_with(|| (after.clone(), BTreeMap::new()));
                *point = after.min(point.take());
                for (nr, host) in [one.0, two.0].into_iter().enumerate() {
                    let amount = hosts.entry(host.to_owned()).or_insert(None);
                    *amount = (*amount).max(amounts.map(|both| both[nr]));
                }
            }
        }
    }
    match found {
        Some((after, hosts)) => Some(SplitBrain::Forked { after, hosts }),
        None => duplicate_log(tree, res).map(SplitBrain::DuplicateLog),
    }
}

/// Do the histories of two members exclude each other? Also true when the links do not tell.
pub fn are_apart(tree: &Snapshot, res: &str, one: &str, two: &str) -> bool {
    let at = |host| Point::parse(tree.text(&format!("resource-{res}/replay-{host}")));
    let (Some(a), Some(b)) = (at(one), at(two)) else {
        return false;
    };
    matches!(walk(tree, res, &(one, a), &(two, b)), Walk::Apart { .. })
}

fn walk<'t>(tree: &Snapshot, res: &str, one: &(&'t str, Point), two: &(&'t str, Point)) -> Walk {
    let start = |(host, at): &(&'t str, Point)| Side {
        host,
        at: at.clone(),
        depth: 0,
        amount: 0,
    };
    let (mut a, mut b) = (start(one), start(two));
    let mut apart = false;
    let unknown = Walk::Apart {
        after: None,
        amounts: None,
    };
    for _ in 0..STEPS_MAX {
        if a.at == b.at {
            let apart = apart || (a.depth > 0 && b.depth > 0) || digests_differ(tree, res, &a, &b);
            return verdict(apart, a.at.clone(), &a, &b);
        }
        let stepped = if a.at.nr > b.at.nr {
            a.step_back(tree, res)
        } else if a.at.nr < b.at.nr {
            b.step_back(tree, res)
        } else if a.at.origin != b.at.origin {
            apart = true;
            a.step_back(tree, res) & b.step_back(tree, res)
        } else {
            let (point, depth) = if a.at.len < b.at.len {
                (a.at.clone(), a.depth)
            } else {
                (b.at.clone(), b.depth)
            };
            a.amount = a.amount.saturating_add(a.at.len);
            b.amount = b.amount.saturating_add(b.at.len);
            return verdict(apart || depth > 0, point, &a, &b);
        };
        if !stepped {
            return unknown;
        }
    }
    unknown
}

fn verdict(apart: bool, point: Point, a: &Side<'_>, b: &Side<'_>) -> Walk {
    if apart {
        Walk::Apart {
            after: Some(point),
            amounts: Some([a.amount, b.amount]),
        }
    } else {
        Walk::Together
    }
}

/// What host `host` knows to lie before log `nr`: the second half of its link of that log, or the first half of the link before.
fn predecessor(tree: &Snapshot, res: &str, host: &str, nr: u64) -> Option<Point> {
    let link = |nr: u64| tree.live(&format!("resource-{res}/version-{nr:09}-{host}"));
    let half = match link(nr) {
        Some(own) => own.rsplit(':').next()?,
        None => link(nr.checked_sub(1)?)?.split(':').next()?,
    };
    Point::parse(half.split_once(',')?.1)
}

/// Both stand at the same place, but their links state different contents up to there.
fn digests_differ(tree: &Snapshot, res: &str, a: &Side<'_>, b: &Side<'_>) -> bool {
    let digest = |side: &Side<'_>| {
        let link = tree.live(&format!(
            "resource-{res}/version-{:09}-{}",
            side.at.nr, side.host
        ))?;
        let (digest, place) = link.split(':').next()?.split_once(',')?;
        let known = digest != NO_DIGEST && Point::parse(place).as_ref() == Some(&side.at);
        known.then(|| digest.to_owned())
    };
    matches!((digest(a), digest(b)), (Some(a), Some(b)) if a != b)
}

fn duplicate_log(tree: &Snapshot, res: &str) -> Option<u64> {
    let prefix = format!("resource-{res}/log-");
    let mut last = None;
    for (path, item) in tree.with_prefix(&prefix) {
        if !item.is_live() || !matches!(item.kind, Kind::File | Kind::Key) {
            continue;
        }
        let nr: Option<u64> = path[prefix.len()..]
            .split('-')
            .next()
            .and_then(|nr| nr.parse().ok());
        if nr.is_some() && nr == last {
            return nr;
        }
        last = nr;
    }
    None
}

/// Adds the warnings the operator gets for it to `out`. `window` in seconds: how long a silent host counts as reachable.
pub fn report(tree: &Snapshot, res: &str, found: &SplitBrain, window: u64, out: &mut Output) {
    let (after, hosts) = match found {
        SplitBrain::DuplicateLog(nr) => {
            out.warn(&format!(
                "SPLIT BRAIN at resource '{res}' detected: duplicate logfile number {nr:09}"
            ));
            out.hint("first resolve split brain by 'leave-resource' or 'invalidate'");
            out.hint("if this does not help, try cleanup via 'log-purge-all'");
            out.hint("if this does not help, try 'log-purge-all --force'");
            return;
        }
        SplitBrain::Forked { after, hosts } => (after, hosts),
    };
    let is_outdated = |host: &&String| **host != tree.host && !reach(tree, host, window).is_empty();
    let outdated = hosts.keys().filter(is_outdated).count();
    if outdated > 0 {
        out.hint(&format!(
            "{outdated} host infos are likely OUTDATED, so the truth may be better or worse than this:"
        ));
    }
    let point = after.as_ref().map_or_else(String::new, Point::text);
    let age = after
        .as_ref()
        .and_then(|point| age_of(tree, res, point))
        .map_or_else(|| "--:--:--".into(), human::duration);
    out.warn(&format!(
        "SPLIT BRAIN of resource '{res}' after logfile '{point}' age ~{age}"
    ));
    for (nr, (host, amount)) in hosts.iter().enumerate() {
        let words = host_words(tree, res, host, window);
        let amount = match amount {
            Some(bytes) => format!("logfile_amount='{bytes}' ({})", human::size(*bytes)),
            None => "(unknown logfile size and age)".to_owned(),
        };
        out.warn(&format!("   host{} = '{host}'{words} {amount}", nr + 1));
    }
}

/// Seconds since the newest link of that log was written.
fn age_of(tree: &Snapshot, res: &str, point: &Point) -> Option<u64> {
    let prefix = format!("resource-{res}/version-{:09}-", point.nr);
    let newest = tree
        .with_prefix(&prefix)
        .filter(|(_, item)| item.is_live())
        .map(|(_, item)| item.time())
        .max();
    let written = newest.or_else(|| {
        tree.stamp(&format!(
            "resource-{res}/log-{:09}-{}",
            point.nr, point.origin
        ))
    })?;
    Some(tree.now.sec.saturating_sub(written.sec))
}

/// The words behind a host: its role as known here, and whether it can be reached.
fn host_words(tree: &Snapshot, res: &str, host: &str, window: u64) -> String {
    let role = match tree.live(&format!("resource-{res}/actual-{host}/is-primary")) {
        Some("1") if host == tree.host => " primary",
        Some("1") => " reported-primary",
        Some(_) => "",
        None => " unknown-role",
    };
    format!("{role}{}", reach(tree, host, window))
}

/// Why what is known of a host may be old; nothing when it is not.
fn reach(tree: &Snapshot, host: &str, window: u64) -> String {
    if tree.live(&format!("ips/ip-{host}")).is_none() {
        return " unconfigured IP".to_owned();
    }
    match tree
        .live(&format!("actual-{host}/time"))
        .and_then(|time| time.parse::<crate::snapshot::Time>().ok())
    {
        None => " unreachable".to_owned(),
        Some(time) if time.is_recent(tree.now, window) => String::new(),
        Some(time) => format!(
            " interrupted ~{}",
            human::duration(tree.now.sec.saturating_sub(time.sec))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Time;

    fn check(keys: &str, said: &str) {
        let lines: String = keys
            .lines()
            .map(|line| format!("{}\t10\tl\n", line.trim().replace(" = ", "\t")))
            .collect();
        let tree =
            Snapshot::parse(&lines, "alpha", Time::from_secs(100)).expect("the test's own tree");
        let mut out = Output::default();
        if let Some(found) = find(&tree, "r") {
            report(&tree, "r", &found, 60, &mut out);
        }
        assert_eq!(out.stderr.trim_end(), said);
    }

    #[test]
    fn a_member_which_is_only_late_is_not_apart() {
        check(
            "resource-r/replay-alpha = log-000000002-alpha,500,0
             resource-r/replay-beta = log-000000001-alpha,200,0
             resource-r/version-000000002-alpha = b,log-000000002-alpha,500:a,log-000000001-alpha,300",
            "",
        );
    }

    #[test]
    fn two_logs_with_one_number_and_different_writers_part_behind_the_shared_log() {
        check(
            "ips/ip-alpha = 10.0.0.1
             actual-alpha/time = 99.000000000
             resource-r/actual-alpha/is-primary = 1
             resource-r/replay-alpha = log-000000002-alpha,500,0
             resource-r/replay-beta = log-000000002-beta,2048,0
             resource-r/version-000000002-alpha = b,log-000000002-alpha,500:a,log-000000001-alpha,300
             resource-r/version-000000001-alpha = a,log-000000001-alpha,300:
             resource-r/version-000000002-beta = c,log-000000002-beta,2048:a,log-000000001-alpha,300",
            "   HINT: 1 host infos are likely OUTDATED, so the truth may be better or worse than this:
WARNING: SPLIT BRAIN of resource 'r' after logfile 'log-000000001-alpha,300' age ~00:01:30
WARNING:    host1 = 'alpha' primary logfile_amount='500' (500 B)
WARNING:    host2 = 'beta' unknown-role unconfigured IP logfile_amount='2048' (2.000 KiB)",
        );
    }

    #[test]
    fn a_takeover_where_the_old_primary_wrote_on_parts_inside_its_last_log() {
        check(
            "resource-r/replay-alpha = log-000000001-alpha,900,0
             resource-r/replay-beta = log-000000002-beta,50,0
             resource-r/version-000000002-beta = c,log-000000002-beta,50:a,log-000000001-alpha,300",
            "   HINT: 1 host infos are likely OUTDATED, so the truth may be better or worse than this:
WARNING: SPLIT BRAIN of resource 'r' after logfile 'log-000000001-alpha,300' age ~--:--:--
WARNING:    host1 = 'alpha' unknown-role unconfigured IP logfile_amount='900' (900 B)
WARNING:    host2 = 'beta' unknown-role unconfigured IP logfile_amount='350' (350 B)",
        );
    }

    #[test]
    fn a_takeover_where_the_old_primary_wrote_nothing_more_is_no_split() {
        check(
            "resource-r/replay-alpha = log-000000001-alpha,300,0
             resource-r/replay-beta = log-000000002-beta,50,0
             resource-r/version-000000002-beta = c,log-000000002-beta,50:a,log-000000001-alpha,300",
            "",
        );
    }

    #[test]
    fn different_digests_at_the_same_place_are_a_split() {
        check(
            "resource-r/replay-alpha = log-000000001-alpha,300,0
             resource-r/replay-beta = log-000000001-alpha,300,0
             resource-r/version-000000001-alpha = a,log-000000001-alpha,300:
             resource-r/version-000000001-beta = b,log-000000001-alpha,300:",
            "   HINT: 1 host infos are likely OUTDATED, so the truth may be better or worse than this:
WARNING: SPLIT BRAIN of resource 'r' after logfile 'log-000000001-alpha,300' age ~00:01:30
WARNING:    host1 = 'alpha' unknown-role unconfigured IP logfile_amount='0' (0 B)
WARNING:    host2 = 'beta' unknown-role unconfigured IP logfile_amount='0' (0 B)",
        );
    }
}
