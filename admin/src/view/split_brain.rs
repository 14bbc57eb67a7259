//! Do the histories of two members contradict each other?
//!
//! Reads the replay positions and version keys of all members and walks both histories back, step by step, until
//! they meet. They contradict each other when both have gone on from the meeting point. Also compares the content
//! digests of logs which both hosts know with the same length: different contents are a contradiction at equal length.
//!
//! Manual: "Split Brain".

use std::collections::{BTreeMap, BTreeSet};

use super::amount::{ReplayValue, parse_log, split_numbered, version_parts};
use super::format::{human_numbers, human_seconds};
use super::natural;
use super::world::{Res, World};
use crate::snapshot::{Kind, Time};

/// What was found out about one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitBrain {
    /// The last common position as `log-<number>-<origin>,<length>`; empty when no common one is known.
    meeting: Option<String>,
    /// When the meeting point was last written.
    since: Option<Time>,
    /// Bytes each involved host has behind the meeting point; nothing when unknown.
    hosts: BTreeMap<String, Option<u64>>,
    /// Log numbers which exist with two writers.
    duplicates: Vec<u64>,
}

/// The end of a history: a position in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    nr: u64,
    origin: String,
    len: u64,
}

impl Point {
    fn parse(part: &str) -> Option<Point> {
        let (log, len) = part.split_once(',')?;
        let (nr, origin) = parse_log(log)?;
        Some(Point {
            nr,
            origin: origin.to_owned(),
            len: len.split(',').next()?.parse().ok()?,
        })
    }

    fn text(&self) -> String {
        format!("log-{:09}-{},{}", self.nr, self.origin, self.len)
    }
}

/// One host on its way back through its history.
struct Walker<'h> {
    host: &'h str,
    at: Point,
    steps: u32,
    bytes: u64,
}

/// How two histories compare.
enum Verdict {
    /// One is a continuation of the other.
    Agree,
    /// Both went on from this point.
    SplitAfter(Point),
    /// They contradict each other, but where they parted is no longer known.
    SplitUnknown,
}

impl SplitBrain {
    pub(super) fn of(res: &Res<'_>) -> SplitBrain {
        let mut found = SplitBrain::default();
        let ends = history_ends(res);
        for (at, (left, left_end)) in ends.iter().enumerate() {
            for (right, right_end) in &ends[at + 1..] {
                let mut pair = [
                    Walker::new(left, left_end.clone()),
                    Walker::new(right, right_end.clone()),
                ];
                let verdict = compare(res, &mut pair);
                found.note(res, verdict, &pair);
            }
        }
        if found.hosts.is_empty() {
            found.duplicates = duplicates(res);
        }
        found
    }

    /// The histories contradict each other.
    pub fn is_split(&self) -> bool {
        !self.hosts.is_empty() || !self.duplicates.is_empty()
    }

    fn note(&mut self, res: &Res<'_>, verdict: Verdict, pair: &[Walker<'_>; 2]) {
        let known = match verdict {
            Verdict::Agree => return,
            Verdict::SplitUnknown => false,
            Verdict::SplitAfter(point) => {
                let since = written(res, &point, pair);
                if self.meeting.is_none() || since < self.since {
                    self.since = since;
                    self.meeting = Some(point.text());
                }
                true
            }
        };
        for walker in pair {
            let bytes = known.then_some(walker.bytes);
            let entry = self.hosts.entry(walker.host.to_owned()).or_default();
            *entry = (*entry).max(bytes);
        }
    }

    /// The lines for stderr, complete with `WARNING:` or `   HINT:`; none when nothing is wrong.
    pub fn report(&self, world: &World<'_>, res: &Res<'_>, window: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.hosts.is_empty() {
            let age = self.since.map_or(-1.0, |since| world.age(since));
            lines.push(format!(
                "WARNING: SPLIT BRAIN of resource '{}' after logfile '{}' age ~{}",
                res.name,
                self.meeting.as_deref().unwrap_or(""),
                human_seconds(age)
            ));
        }
        let mut hosts: Vec<&str> = self.hosts.keys().map(String::as_str).collect();
        hosts.sort_by(|a, b| natural::compare(a, b));
        for (at, host) in hosts.iter().enumerate() {
            lines.push(self.host_line(world, res, window, at + 1, host));
        }
        lines.extend(self.duplicate_lines(res));
        lines
    }

    fn host_line(
        &self,
        world: &World<'_>,
        res: &Res<'_>,
        window: u64,
        nr: usize,
        host: &str,
    ) -> String {
        let amount = match self.hosts.get(host).copied().flatten() {
            Some(bytes) => format!(
                " logfile_amount='{bytes}' ({})",
                human_numbers("", "/", " ", &[bytes as f64])
            ),
            None => " (unknown logfile size and age)".to_owned(),
        };
        format!(
            "WARNING:    host{nr} = '{host}'{}{}{amount}",
            role_word(world, res, host),
            reach_word(world, window, host)
        )
    }

    fn duplicate_lines(&self, res: &Res<'_>) -> Vec<String> {
        let mut lines: Vec<String> = self
            .duplicates
            .iter()
            .map(|nr| {
                format!(
                    "WARNING: SPLIT BRAIN at resource '{}' detected: duplicate logfile number {nr:09}",
                    res.name
                )
            })
            .collect();
        if !lines.is_empty() {
            let hints = [
                "first resolve split brain by 'leave-resource' or 'invalidate'",
                "if this does not help, try cleanup via 'log-purge-all'",
                "if this does not help, try 'log-purge-all --force'",
            ];
            lines.extend(hints.iter().map(|hint| format!("   HINT: {hint}")));
        }
        lines
    }
}

fn role_word(world: &World<'_>, res: &Res<'_>, host: &str) -> &'static str {
    let key = format!("actual-{host}/is-primary");
    if !res.has(&key) {
        " unknown-role"
    } else if !res.actual(host, "is-primary") {
        ""
    } else if host == world.snap.host {
        " primary"
    } else {
        " reported-primary"
    }
}

fn reach_word(world: &World<'_>, window: u64, host: &str) -> String {
    if world.text(&format!("ips/ip-{host}")).is_empty() {
        return " unconfigured IP".to_owned();
    }
    match world.alive_time(host) {
        None => " unreachable".to_owned(),
        Some(time) if !time.is_recent(world.snap.now, window) => {
            format!(" interrupted ~{}", human_seconds(world.age(time)))
        }
        Some(_) => String::new(),
    }
}

impl<'h> Walker<'h> {
    fn new(host: &'h str, at: Point) -> Walker<'h> {
        Walker {
            host,
            at,
            steps: 0,
            bytes: 0,
        }
    }

    /// Goes one log back in the own history. False when nothing older is known.
    fn step(&mut self, res: &Res<'_>) -> bool {
        self.bytes = self.bytes.saturating_add(self.at.len);
        self.steps += 1;
        match predecessor(res, self.host, self.at.nr) {
            // A history only ever leads to smaller numbers; anything else is damage and must not loop.
            Some(point) if point.nr < self.at.nr => {
                self.at = point;
                true
            }
            _ => false,
        }
    }
}

/// The log before number `nr` as `host` knows it.
fn predecessor(res: &Res<'_>, host: &str, nr: u64) -> Option<Point> {
    let own = res.text(&format!("version-{nr:09}-{host}"));
    let part = version_parts(own).1;
    let point = part
        .split_once(',')
        .and_then(|(_, rest)| Point::parse(rest));
    if point.is_some() || !own.is_empty() {
        return point;
    }
    let before = nr.checked_sub(1)?;
    let older = res.text(&format!("version-{before:09}-{host}"));
    Point::parse(version_parts(older).0.split_once(',')?.1)
}

/// Where the history of every host with a replay position ends.
fn history_ends<'a>(res: &Res<'a>) -> Vec<(&'a str, Point)> {
    res.live_with_prefix("replay-")
        .filter_map(|(host, item)| {
            let replay = ReplayValue::parse(&item.value)?;
            let end = Point {
                nr: replay.nr,
                origin: replay.origin.to_owned(),
                len: replay.pos,
            };
            Some((host, end))
        })
        .collect()
}

fn compare(res: &Res<'_>, pair: &mut [Walker<'_>; 2]) -> Verdict {
    let mut certain = false;
    loop {
        let [left, right] = pair;
        if left.at == right.at {
            let split = certain || (left.steps > 0 && right.steps > 0);
            return verdict(res, split, left.at.clone(), left, right);
        }
        if left.at.nr != right.at.nr {
            let newer = if left.at.nr > right.at.nr {
                left
            } else {
                right
            };
            if !newer.step(res) {
                return Verdict::SplitUnknown;
            }
            continue;
        }
        if left.at.origin != right.at.origin {
            certain = true;
            let (on_left, on_right) = (left.step(res), right.step(res));
            if !on_left || !on_right {
                return Verdict::SplitUnknown;
            }
            continue;
        }
        left.bytes = left.bytes.saturating_add(left.at.len);
        right.bytes = right.bytes.saturating_add(right.at.len);
        let shorter = if left.at.len < right.at.len {
            &*left
        } else {
            &*right
        };
        let (meeting, split) = (shorter.at.clone(), certain || shorter.steps > 0);
        return verdict(res, split, meeting, left, right);
    }
}

fn verdict(
    res: &Res<'_>,
    split: bool,
    meeting: Point,
    left: &Walker<'_>,
    right: &Walker<'_>,
) -> Verdict {
    if split {
        return Verdict::SplitAfter(meeting);
    }
    match first_different_contents(res, left.host, right.host) {
        Some(nr) => match predecessor(res, left.host, nr) {
            Some(point) => Verdict::SplitAfter(point),
            None => Verdict::SplitUnknown,
        },
        None => Verdict::Agree,
    }
}

/// The first log which both hosts know with the same name and length, but with different contents.
fn first_different_contents(res: &Res<'_>, left: &str, right: &str) -> Option<u64> {
    let numbers: BTreeSet<u64> = res
        .live_with_prefix("version-")
        .filter_map(|(rest, _)| split_numbered(rest))
        .filter(|(_, host)| *host == left)
        .map(|(nr, _)| nr)
        .collect();
    numbers.into_iter().find(|nr| {
        let part = |host: &str| {
            let value = res.text(&format!("version-{nr:09}-{host}"));
            version_parts(value).0.split_once(',')
        };
        match (part(left), part(right)) {
            (Some((a, at_a)), Some((b, at_b))) => {
                at_a == at_b && a != b && !is_unknown_digest(a) && !is_unknown_digest(b)
            }
            _ => false,
        }
    })
}

/// Commands that create a version key before the log exists write zeros.
fn is_unknown_digest(digest: &str) -> bool {
    digest.bytes().all(|b| b == b'0')
}

/// When the meeting point was last written, by the younger of the witnesses that are left.
fn written(res: &Res<'_>, point: &Point, pair: &[Walker<'_>; 2]) -> Option<Time> {
    let keys = pair
        .iter()
        .filter_map(|walker| res.stamp(&format!("version-{:09}-{}", point.nr, walker.host)));
    keys.min()
        .or_else(|| res.stamp(&format!("log-{:09}-{}", point.nr, point.origin)))
}

/// Log numbers which exist with more than one writer.
fn duplicates(res: &Res<'_>) -> Vec<u64> {
    let mut origins: BTreeMap<u64, u32> = BTreeMap::new();
    for (name, item) in res.with_prefix("log-") {
        if item.is_live() && item.kind != Kind::Dir {
            if let Some((nr, _)) = parse_log(name) {
                *origins.entry(nr).or_default() += 1;
            }
        }
    }
    origins
        .into_iter()
        .filter(|(_, writers)| *writers > 1)
        .map(|(nr, _)| nr)
        .collect()
}
