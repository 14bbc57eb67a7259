//! The logs and version links of one resource, as names in the tree.
//!
//! Reads only; what may be deleted is decided in `verb/logs.rs` and `verb/purge.rs`.

use std::collections::{BTreeMap, BTreeSet};

use tree::VersionLink;

use crate::session::of;
use crate::snapshot::{Kind, Snapshot, Time};
use crate::split_brain::Point;

/// A transaction log, held here or known to exist elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Log {
    /// Number.
    pub nr: u64,
    /// Host that wrote it.
    pub origin: String,
    /// Length in bytes as known here.
    pub len: u64,
    /// When it last grew.
    pub written: Time,
}

impl Log {
    /// `log-<nr>-<origin>`
    pub fn name(&self) -> String {
        log_name(self.nr, &self.origin)
    }
}

/// `log-<nr>-<origin>`
pub fn log_name(nr: u64, origin: &str) -> String {
    format!("log-{nr:09}-{origin}")
}

/// `version-<nr>-<host>`
pub fn version_name(nr: u64, host: &str) -> String {
    format!("version-{nr:09}-{host}")
}

/// All logs nobody has deleted, by number and writer.
pub fn logs(tree: &Snapshot, res: &str) -> Vec<Log> {
    let prefix = of(res, "log-");
    let mut logs: Vec<Log> = tree
        .with_prefix(&prefix)
        .filter(|(_, item)| item.is_live() && item.kind != Kind::Dir)
        .filter_map(|(path, item)| {
            let (nr, origin) = numbered(&path[prefix.len()..])?;
            let len = item.value.parse().unwrap_or(0);
            Some(Log {
                nr,
                origin: origin.to_owned(),
                len,
                written: item.time(),
            })
        })
        .collect();
    logs.sort();
    logs
}

/// All version links nobody has deleted: number and host, in order.
pub fn versions(tree: &Snapshot, res: &str) -> Vec<(u64, String)> {
    let names = tree.owners(&of(res, "version-"));
    names
        .into_iter()
        .filter_map(|name| numbered(name).map(|(nr, host)| (nr, host.to_owned())))
        .collect()
}

/// All replay links which can be read: host and position.
pub fn replays(tree: &Snapshot, res: &str) -> Vec<(String, Point)> {
    let hosts = tree.owners(&of(res, "replay-"));
    hosts
        .into_iter()
        .filter_map(|host| {
            Some((
                host.to_owned(),
                Point::parse(tree.text(&of(res, format!("replay-{host}"))))?,
            ))
        })
        .collect()
}

/// `<nr>-<host>`
fn numbered(name: &str) -> Option<(u64, &str)> {
    let (nr, host) = name.split_once('-')?;
    Some((nr.parse().ok()?, host))
}

/// The two halves of a version link: where that log stands, and where the one before ended.
pub fn halves(link: &str) -> (Option<Point>, Option<Point>) {
    let (own, before) = link.split_once(':').unwrap_or((link, ""));
    let point = |half: &str| Point::parse(half.split_once(',')?.1);
    (point(own), point(before))
}

/// Holes (number, host) before which the replica of their host stands in a log of its own: it wrote past the log, and nothing else
/// says so.
fn holes(tree: &Snapshot, res: &str) -> Vec<(u64, String)> {
    let stands: BTreeMap<String, Point> = replays(tree, res).into_iter().collect();
    let mut all = versions(tree, res);
    all.retain(|(nr, host)| {
        let stands = stands.get(host);
        let before = stands.is_some_and(|at| at.origin == *host && at.nr < *nr);
        let link = tree.text(&of(res, version_name(*nr, host))).parse();
        before && link.is_ok_and(|link: VersionLink| link.is_hole())
    });
    all
}

/// Every (number, host) whose version link belongs to the history of some replay position, or says that its host wrote past its
/// log.
pub fn needed_versions(tree: &Snapshot, res: &str) -> BTreeSet<(u64, String)> {
    let mut seen = BTreeSet::new();
    let mut todo = holes(tree, res);
    for (host, at) in replays(tree, res) {
        todo.push((at.nr, at.origin));
        todo.push((at.nr, host));
    }
    while let Some((nr, host)) = todo.pop() {
        if !seen.insert((nr, host.clone())) {
            continue;
        }
        let link = |nr: u64| tree.live(&of(res, version_name(nr, &host)));
        let Some(own) = link(nr) else { continue };
        let (here, before) = halves(own);
        for point in [&here, &before].into_iter().flatten() {
            todo.push((point.nr, host.clone()));
            todo.push((point.nr, point.origin.clone()));
        }
        if let Some(next_nr) = nr.checked_add(1)
            && let Some(next) = link(next_nr)
            && halves(next).1 == here
        {
            todo.push((next_nr, host));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tree: &str) -> Snapshot {
        let lines: String = tree
            .lines()
            .map(|line| format!("{}\t1\tl\n", line.replace(" = ", "\t")))
            .collect();
        Snapshot::parse(&lines, "a", Time::from_secs(9)).expect("the test's own tree")
    }

    #[test]
    fn what_says_that_a_host_wrote_past_its_log_is_needed_while_its_replica_stands_before_it() {
        let hole = format!(
            "resource-r/version-000000013-a = {:032x},log-000000013-a,0:\n",
            0
        );
        let needs = |replay: &str| {
            let tree = parse(&format!("resource-r/replay-a = {replay}\n{hole}"));
            needed_versions(&tree, "r").contains(&(13, "a".into()))
        };
        assert!(needs("log-000000002-a,5,0"));
        assert!(!needs("log-000000015-a,5,0"));
        assert!(!needs("log-000000002-b,5,0"));
    }

    #[test]
    fn the_history_behind_a_replay_position_is_needed_and_a_fork_is_not() {
        let tree = "resource-r/replay-a = log-000000002-a,5,0
resource-r/version-000000001-a = 1,log-000000001-a,3:
resource-r/version-000000002-a = 2,log-000000002-a,5:1,log-000000001-a,3
resource-r/version-000000002-b = 9,log-000000002-b,7:1,log-000000001-a,3
";
        let needed = needed_versions(&parse(tree), "r");
        assert!(needed.contains(&(1, "a".into())) && needed.contains(&(2, "a".into())));
        assert!(!needed.contains(&(2, "b".into())));
    }
}
