//! Making good what a host wrote while its clock was far ahead.
//!
//! The others hold back what is stamped too far in their future, so nothing of it has reached them. But the host itself
//! never goes back behind its own stamps: once its clock is right again, everything it says would wait for years. An
//! operator who knows that the clock is right *now* has it start once with `mars node --forget-future`:
//!
//! * What only this host speaks about (its replay position, version links, logs, indicators) is true as it stands. It is
//!   stamped anew, with the time of now.
//! * Everything else it wrote meanwhile, wishes of operators above all, may have been overtaken at the others. It is kept with
//!   the oldest stamp there is, so that whatever anybody else has wins.
//! * Both go on behind every stamp this host has really used: the clock lease remembers it, even where all entries that
//!   bore such a stamp have been overwritten meanwhile.
//! * The host counts nothing as seen, so that what the others have really comes.
//!
//! Entries of others in the future are a sign that the clock here is behind: then nothing is changed.
//!
//! Lessons E10; the original rewrites the stamps of all keys, whoever wrote them.

use crate::keys::{Key, Writer};
use crate::lease::Lease;
use crate::name::Host;
use crate::path::Path;
use crate::stamp::{Issue, SECOND_NS, Stamp};
use crate::tree::Entry;

/// Stamp of what loses against everything: as provisional keys at join.
const OLDEST_NS: u64 = SECOND_NS;

/// What has to be stored instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The entries that change.
    pub changed: Vec<(Path, Entry)>,
    /// The new clock lease: the greatest reading used.
    pub lease: Lease,
}

/// The clock here seems to be behind, not ahead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} was written by {writer} {} s ahead of the clock here: first set the clock of this host, nothing was changed",
    ahead_ns / SECOND_NS
)]
pub struct ClockBehind {
    /// A key.
    pub path: Path,
    /// Who wrote it.
    pub writer: Host,
    /// How far ahead.
    pub ahead_ns: u64,
}

/// What `me` has to change when its clock, which shows `wall_ns` now, is right and its `entries` or its `lease` are more
/// than `max_future_ns` ahead of it. Nothing changes when they are not.
///
/// # Errors
/// [`ClockBehind`] when another host has written in the future as well.
pub fn forget(
    me: &Host,
    entries: &[(Path, Entry)],
    lease: &Lease,
    wall_ns: u64,
    max_future_ns: u64,
) -> Result<Option<Forgotten>, ClockBehind> {
    let limit = wall_ns.saturating_add(max_future_ns);
    let times = |entry: &Entry| [entry.stamp.ns, entry.issue.nr];
    let is_ahead = |entry: &Entry| times(entry).iter().any(|ns| *ns > limit);
    let by_others = |entry: &Entry| entry.issue.writer != *me || entry.stamp.writer != *me;
    if let Some((path, entry)) = entries
        .iter()
        .find(|(_, entry)| is_ahead(entry) && by_others(entry))
    {
        return Err(ClockBehind {
            path: path.clone(),
            writer: entry.issue.writer.clone(),
            ahead_ns: entry.issue.nr.max(entry.stamp.ns) - wall_ns,
        });
    }
    let sane = entries.iter().flat_map(|(_, entry)| times(entry));
    let newest = sane.filter(|ns| *ns <= limit).max().unwrap_or(0);
    let mut next = newest.max(wall_ns).max(lease.within(limit));
    let mut ahead: Vec<&(Path, Entry)> = entries
        .iter()
        .filter(|(_, entry)| is_ahead(entry))
        .collect();
    if ahead.is_empty() && lease.upto_ns() <= limit {
        return Ok(None);
    }
    // What was issued first is issued first again.
    ahead.sort_by_key(|(_, entry)| entry.issue.nr);
    let mut changed = Vec::new();
    for (path, entry) in ahead {
        next += 1;
        let ns = match (entry.stamp.ns > limit, is_own(me, path)) {
            (false, _) => entry.stamp.ns,
            (true, true) => next,
            (true, false) => OLDEST_NS,
        };
        let stamp = Stamp::new(ns, me);
        let issue = Issue {
            nr: next,
            writer: me.clone(),
        };
        let entry = entry.clone();
        changed.push((
            path.clone(),
            Entry {
                stamp,
                issue,
                ..entry
            },
        ));
    }
    Ok(Some(Forgotten {
        changed,
        lease: Lease::new(next),
    }))
}

/// Does only `me` speak about this key?
fn is_own(me: &Host, path: &Path) -> bool {
    let Some((key, parts)) = Key::parse(path) else {
        return false;
    };
    let speaks = matches!(
        key.def().writer,
        Writer::OwnHost | Writer::OwnHostOrOperator
    );
    let creator = parts.log.map(|log| log.creator);
    speaks && (parts.host.as_ref() == Some(me) || creator.as_ref() == Some(me))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Value;

    const NOW: u64 = 1_700_000_000 * SECOND_NS;
    const HOUR: u64 = 3600 * SECOND_NS;
    const CENTURIES: u64 = 9 * NOW;

    fn host(name: &str) -> Host {
        Host::new(name).expect("valid")
    }

    fn entry(path: &str, writer: &str, ns: u64) -> (Path, Entry) {
        let writer = host(writer);
        let entry = Entry {
            value: Value::text("x").expect("valid"),
            stamp: Stamp::new(ns, &writer),
            issue: Issue { nr: ns, writer },
            lazy: false,
        };
        (Path::new(path).expect("valid"), entry)
    }

    fn check(entries: &[(Path, Entry)], lease: u64) -> Result<Option<Forgotten>, ClockBehind> {
        forget(&host("beta"), entries, &Lease::new(lease), NOW, HOUR)
    }

    #[test]
    fn own_facts_get_the_time_of_now_and_wishes_lose_against_everything() {
        let entries = [
            entry("resource-r/replay-beta", "beta", CENTURIES + 2),
            entry("resource-r/log-000000003-beta", "beta", CENTURIES + 1),
            entry("resource-r/primary", "beta", CENTURIES + 3),
            entry("resource-r/todo-beta/attach", "beta", CENTURIES + 4),
            entry("userspace/note", "beta", CENTURIES + 5),
            entry("resource-r/size", "beta", NOW - 5),
            entry("resource-r/replay-alpha", "alpha", NOW + HOUR),
        ];
        let forgotten = check(&entries, CENTURIES + 9)
            .expect("no mistake")
            .expect("something");
        let stamps: Vec<(String, u64, u64)> = forgotten
            .changed
            .iter()
            .map(|(path, entry)| {
                (
                    path.to_string(),
                    entry.stamp.ns,
                    entry.issue.nr - NOW - HOUR,
                )
            })
            .collect();
        let now = NOW + HOUR;
        assert_eq!(
            stamps,
            [
                ("resource-r/log-000000003-beta".to_owned(), now + 1, 1),
                ("resource-r/replay-beta".to_owned(), now + 2, 2),
                ("resource-r/primary".to_owned(), OLDEST_NS, 3),
                ("resource-r/todo-beta/attach".to_owned(), OLDEST_NS, 4),
                ("userspace/note".to_owned(), OLDEST_NS, 5),
            ]
        );
        assert_eq!(forgotten.lease, Lease::new(now + 5));
    }

    #[test]
    fn what_was_used_before_the_future_and_overwritten_there_is_not_used_again() {
        let entries = [entry("resource-r/replay-beta", "beta", CENTURIES)];
        let used = NOW + HOUR / 2;
        let lease = Lease::new(used).raised(CENTURIES, HOUR);
        let forgotten = forget(&host("beta"), &entries, &lease, NOW, HOUR)
            .expect("no mistake")
            .expect("something");
        let (_, entry) = &forgotten.changed[0];
        assert_eq!((entry.stamp.ns, entry.issue.nr), (used + 1, used + 1));
        assert_eq!(forgotten.lease, Lease::new(used + 1));
    }

    #[test]
    fn a_clock_that_is_behind_changes_nothing() {
        let entries = [
            entry("resource-r/replay-beta", "beta", CENTURIES),
            entry("resource-r/replay-alpha", "alpha", CENTURIES),
        ];
        let refused = check(&entries, CENTURIES).expect_err("alpha is ahead as well");
        assert_eq!(refused.writer, host("alpha"));
    }

    #[test]
    fn an_old_stamp_given_on_purpose_stays() {
        let (path, mut withdrawn) = entry("resource-r/primary", "beta", CENTURIES);
        withdrawn.stamp.ns = NOW - 7;
        let forgotten = check(&[(path, withdrawn)], 0)
            .expect("no mistake")
            .expect("something");
        assert_eq!(forgotten.changed[0].1.stamp.ns, NOW - 7);
        assert_eq!(forgotten.changed[0].1.issue.nr, NOW + 1);
    }

    #[test]
    fn a_sane_host_has_nothing_to_forget() {
        let entries = [entry("resource-r/replay-beta", "beta", NOW + HOUR)];
        assert_eq!(check(&entries, NOW + HOUR), Ok(None));
        let lease_only = check(&entries, CENTURIES)
            .expect("no mistake")
            .expect("the lease");
        assert_eq!(
            (lease_only.changed.len(), lease_only.lease),
            (0, Lease::new(NOW + HOUR))
        );
    }
}
