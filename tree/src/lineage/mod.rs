//! Who has written what after whom: common ancestor, split brain, holes, and which logs nobody needs.
//!
//! Every member publishes for each log how far it has it, as a digest that covers the contents and, through the
//! header of each log, all logs before. Two hosts with the same digest at the same place share their whole history up
//! to there. So histories are compared from the newest log they have in common backwards, until a place is found
//! where both agree: the common ancestor. When both have something behind it, the brain is split.
//!
//! Nothing is ever resolved here, and *unknown* is a legal answer: all-zero digests and missing links prove nothing. A log
//! nobody has written to is no history either, unless the designated primary has just begun it.
//! How the tree is read stands in `read.rs`; which log comes next for a replica is decided in `next.rs`, which logs nobody
//! needs in `rules.rs`.
//!
//! Manual: "Split Brain Situations", "Growing Up To Date". Invariants 22 to 25 of the data path.

mod next;
mod read;
mod rules;

pub use next::{Held, Next};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::Digest128;
use crate::log_name::{LogName, LogPos};
use crate::name::Host;
use crate::value::{ReplayPos, VersionLink};

/// All that the tree says about the logs of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    designated: Option<Host>,
    pub(crate) versions: BTreeMap<u64, BTreeMap<Host, VersionLink>>,
    pub(crate) replays: BTreeMap<Host, Option<ReplayPos>>,
    pub(crate) logs: BTreeMap<LogName, u64>,
    pub(crate) primaries: BTreeSet<Host>,
    histories: BTreeMap<Host, History>,
}

/// What one host says about each log number.
type History = BTreeMap<u64, Segment>;

/// One log in the history of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The log.
    pub log: LogName,
    /// How much of it belongs to this history.
    pub len: u64,
    /// Digest there; `None` where it is not known yet.
    pub digest: Option<Digest128>,
    /// The host went on to the next log from here, so `len` is final for this history.
    pub closed: bool,
}

/// How two histories lie to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Both end at the same place.
    Same {
        /// There.
        at: LogPos,
    },
    /// The first is the beginning of the second.
    Behind {
        /// Where the first ends.
        at: LogPos,
    },
    /// The second is the beginning of the first.
    Ahead {
        /// Where the second ends.
        at: LogPos,
    },
    /// Both have something the other has not.
    Fork {
        /// The last place they share, where one is known.
        after: Option<LogPos>,
    },
    /// The links do not tell.
    Unknown,
}

/// Two members whose histories exclude each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Both hosts, in order of their names.
    pub hosts: (Host, Host),
    /// The last place they share, where one is known.
    pub after: Option<LogPos>,
}

/// The brain of the resource is split. Only an operator can choose a side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitBrain {
    /// Members that exclude each other.
    pub forks: Vec<Fork>,
    /// Numbers of which several hosts have written a log.
    pub duplicates: Vec<u64>,
    /// The members, grouped: in each group nobody excludes anybody. A host that lags from before the fork fits
    /// into several.
    pub lineages: Vec<BTreeSet<Host>>,
}

impl Lineage {
    /// Who should write; `None` when nobody should, or nobody knows.
    pub fn designated(&self) -> Option<&Host> {
        self.designated.as_ref()
    }

    /// The members of the resource.
    pub fn members(&self) -> impl Iterator<Item = &Host> {
        self.replays.keys()
    }

    /// Has `host` a disk for the resource?
    pub fn is_member(&self, host: &Host) -> bool {
        self.replays.contains_key(host)
    }

    /// How far the disk of `host` has come; `None` when that is missing or cannot be read.
    pub fn replay(&self, host: &Host) -> Option<&ReplayPos> {
        self.replays.get(host)?.as_ref()
    }

    /// Log `seq` as `host` has it.
    pub fn version(&self, seq: u64, host: &Host) -> Option<&VersionLink> {
        self.versions.get(&seq)?.get(host)
    }

    /// All version links that can be read, by number of the log.
    pub fn links(&self) -> impl Iterator<Item = &VersionLink> {
        self.versions.values().flat_map(BTreeMap::values)
    }

    /// The same with the number and the host which their keys name, in this order.
    pub fn version_links(&self) -> impl Iterator<Item = (u64, &Host, &VersionLink)> {
        self.versions.iter().flat_map(|(seq, links)| {
            let links = links.iter();
            links.map(|(host, link)| (*seq, host, link))
        })
    }

    /// All logs that exist somewhere, with the length their creators published.
    pub fn logs(&self) -> &BTreeMap<LogName, u64> {
        &self.logs
    }

    /// The history of `host` by its own links: number of the log → what of it belongs to it. Empty when the host
    /// has published nothing.
    pub fn history(&self, host: &Host) -> &BTreeMap<u64, Segment> {
        static NOTHING: History = BTreeMap::new();
        self.histories.get(host).unwrap_or(&NOTHING)
    }

    /// How the histories of `a` and `b` lie to each other.
    pub fn relation(&self, a: &Host, b: &Host) -> Relation {
        compare(self.history(a).values().rev(), self.history(b))
    }

    /// The newest place which the histories of all members share. `None` when one of them is unknown or there
    /// is no such place.
    pub fn common_ancestor(&self) -> Option<LogPos> {
        let mut histories = self.members().map(|host| self.history(host));
        let first = histories.next()?;
        let mut ancestor = end_of(first.values().rev())?;
        for other in histories {
            let shared = match compare(first.values().rev(), other) {
                Relation::Same { at } | Relation::Behind { at } | Relation::Ahead { at } => at,
                Relation::Fork { after } => after?,
                Relation::Unknown => return None,
            };
            ancestor = ancestor.min(shared);
        }
        Some(ancestor)
    }

    /// The split brain, if there is one. A host that merely lags is none, nor is a forced failover after which
    /// the old primary wrote nothing.
    pub fn split_brain(&self) -> Option<SplitBrain> {
        let hosts: Vec<&Host> = self.members().collect();
        let histories: Vec<_> = hosts.iter().map(|host| self.history(host)).collect();
        let mut forks = Vec::new();
        let mut excludes = BTreeSet::new();
        for a in 0..hosts.len() {
            for b in a + 1..hosts.len() {
                if let Relation::Fork { after } = compare(histories[a].values().rev(), histories[b])
                {
                    excludes.insert((a, b));
                    let hosts = (hosts[a].clone(), hosts[b].clone());
                    forks.push(Fork { hosts, after });
                }
            }
        }
        let duplicates = self.duplicates();
        if forks.is_empty() && duplicates.is_empty() {
            return None;
        }
        let lineages = group(hosts.len(), &excludes)
            .into_iter()
            .map(|group| group.into_iter().map(|nr| hosts[nr].clone()).collect());
        Some(SplitBrain {
            forks,
            duplicates,
            lineages: lineages.collect(),
        })
    }

    /// Numbers of which more than one host has written a log that still exists.
    pub fn duplicates(&self) -> Vec<u64> {
        let mut creators: BTreeMap<u64, usize> = BTreeMap::new();
        for log in self.logs.keys() {
            *creators.entry(log.seq).or_default() += 1;
        }
        let double = creators.into_iter().filter(|(_, count)| *count > 1);
        double.map(|(seq, _)| seq).collect()
    }
}

fn segment((digest, log, len): &(Digest128, LogName, u64), closed: bool) -> Segment {
    Segment {
        log: log.clone(),
        len: *len,
        digest: (!digest.is_zero()).then_some(*digest),
        closed,
    }
}

/// Compares a history, newest log first, with another one, from their newest common log backwards.
fn compare<'a>(a: impl Iterator<Item = &'a Segment> + Clone, b: &History) -> Relation {
    let (Some(end_a), Some(end_b)) = (end_of(a.clone()), end_of(b.values().rev())) else {
        return Relation::Unknown;
    };
    let mut compared = false;
    for in_a in a {
        let Some(in_b) = b.get(&in_a.log.seq) else {
            continue;
        };
        compared = true;
        if let Some(at) = meeting_point(in_a, in_b) {
            return match (end_a > at, end_b > at) {
                (false, false) => Relation::Same { at },
                (false, true) => Relation::Behind { at },
                (true, false) => Relation::Ahead { at },
                (true, true) => Relation::Fork { after: Some(at) },
            };
        }
    }
    match compared {
        true => Relation::Fork { after: None },
        false => Relation::Unknown,
    }
}

/// The last place that two views of the log with the same number share; `None` when even its beginning differs,
/// or nobody can tell where the difference begins.
fn meeting_point(a: &Segment, b: &Segment) -> Option<LogPos> {
    if a.log != b.log {
        return None;
    }
    match (a.digest, b.digest) {
        (Some(ours), Some(theirs)) if a.len == b.len && ours != theirs => None,
        _ => Some(a.log.at(a.len.min(b.len))),
    }
}

/// The last byte of a history, newest log first.
fn end_of<'a>(mut history: impl Iterator<Item = &'a Segment>) -> Option<LogPos> {
    let last = history.next()?;
    Some(last.log.at(last.len))
}

/// The greatest groups of `0..count` in which nobody excludes anybody, smallest members first.
/// A resource has few members, and few of them are heads of a fork.
fn group(count: usize, excludes: &BTreeSet<(usize, usize)>) -> Vec<BTreeSet<usize>> {
    let agree = |a: usize, b: usize| !excludes.contains(&(a.min(b), a.max(b)));
    let mut groups: Vec<BTreeSet<usize>> = Vec::new();
    for start in 0..count {
        let mut group = BTreeSet::from([start]);
        for other in 0..count {
            if group.iter().all(|member| agree(*member, other)) {
                group.insert(other);
            }
        }
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relation::Same { at } => write!(f, "same at {at}"),
            Relation::Behind { at } => write!(f, "behind, ends at {at}"),
            Relation::Ahead { at } => write!(f, "ahead of {at}"),
            Relation::Fork { after: Some(at) } => write!(f, "split after {at}"),
            Relation::Fork { after: None } => write!(f, "split after an unknown place"),
            Relation::Unknown => write!(f, "unknown"),
        }
    }
}

impl fmt::Display for SplitBrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sep = "";
        for Fork {
            hosts: (a, b),
            after,
        } in &self.forks
        {
            let relation = Relation::Fork {
                after: after.clone(),
            };
            write!(f, "{sep}{a} and {b} {relation}")?;
            sep = "; ";
        }
        for seq in &self.duplicates {
            write!(f, "{sep}several logs with number {seq}")?;
            sep = "; ";
        }
        Ok(())
    }
}
