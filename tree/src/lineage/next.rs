//! Which log comes next on a replica, or why none? The one decision of it; `node/src/plan/cursor.rs` asks here.
//!
//! A log is followed only by one whose version link names the very end of it, length *and* digest. Two such logs, or one
//! that goes on from an earlier place than what is held here, are a fork, and nobody follows a fork. A replica whose
//! history excludes that of the designated primary has nothing to follow at all, however many logs ago they parted. One
//! that is on the side of the designated primary already goes on there: a dead branch of others does not concern it.
//!
//! What the creator of the current log has published does not matter, for it may be dead: the predecessor part of the next
//! log says exactly what it continues.
//!
//! Manual: "Split Brain and Resolution"; invariants 22 to 24.

use std::collections::BTreeMap;

use crate::digest::Digest128;
use crate::lineage::{Lineage, Relation, Segment, compare, meeting_point, segment};
use crate::log_name::{LogName, LogPos};
use crate::name::Host;
use crate::value::VersionLink;

/// How far a host holds the log its replica stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The log.
    pub log: LogName,
    /// Bytes of it.
    pub len: u64,
    /// Digest there; `None` where nothing is here yet.
    pub digest: Option<Digest128>,
}

/// What comes after the log a replica stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, as far as known.
    Open,
    /// Another log may continue what is here, but it cannot be proven: a link or a digest is not known.
    Unknown {
        /// That log.
        log: LogName,
    },
    /// Another log does, once this one is here up to `len`.
    After {
        /// That log.
        log: LogName,
        /// Final length of the current log.
        len: u64,
    },
    /// This log continues exactly what is here.
    Ready {
        /// The log.
        log: LogName,
        /// Has anything been written to it, as far as known?
        empty: bool,
    },
    /// Others went on from somewhere else, or several did. Only an operator can choose a side.
    Fork {
        /// The last common place, where one is known.
        after: Option<LogPos>,
        /// Logs of both sides.
        between: Vec<LogName>,
    },
    /// Numbers are missing.
    Hole {
        /// The next number there is.
        next: u64,
    },
}

/// How a log that continues ours lies to what is here and to the designated primary.
enum Way {
    /// It parted from what is here, and from the primary as well: a dead branch.
    Dead,
    /// The digest of what is here is not known.
    Unknown,
    /// Either the primary or this replica is on the other side.
    Forks(LogPos),
    /// It can be followed, once so many bytes are here.
    Leads(u64),
}

/// The logs of a history before a certain one.
struct Before<'a> {
    older: &'a BTreeMap<u64, Segment>,
    /// Numbers of `older` from here on do not count.
    below: u64,
    /// The last one, as the log behind it has it.
    pred: Option<Segment>,
}

impl Before<'_> {
    fn newest_first(&self) -> impl Iterator<Item = &Segment> + Clone {
        let older = self.older.range(..self.below).rev();
        self.pred.iter().chain(older.map(|(_, segment)| segment))
    }

    fn last(&self) -> Option<&Segment> {
        self.newest_first().next()
    }
}

impl Lineage {
    /// What comes next for `host`, which holds `held` of the log it stands in. `primary` is the designated primary, when
    /// that is another host.
    pub fn next(&self, host: &Host, held: &Held, primary: Option<&Host>) -> Next {
        let theirs = primary.map(|primary| self.history(primary));
        let theirs = theirs.filter(|theirs| !theirs.is_empty());
        let here = held.segment();
        let before = self.before(host, &held.log);
        // What nobody wrote to does not part anybody.
        let newest = (held.len > 0 || before.last().is_none()).then_some(&here);
        let ours = newest.into_iter().chain(before.newest_first());
        if let Some(theirs) = theirs
            && let Relation::Fork { after } = compare(ours, theirs)
        {
            let newest = theirs.values().next_back();
            let between = [Some(&here), newest].into_iter().flatten();
            return Next::Fork {
                after,
                between: between.map(|segment| segment.log.clone()).collect(),
            };
        }
        let mut ways = Vec::new();
        for link in self.continuing(host, &held.log, primary) {
            match way(&before, held, link, theirs) {
                Way::Dead => {}
                Way::Unknown => {
                    return Next::Unknown {
                        log: link.log.clone(),
                    };
                }
                Way::Forks(after) => {
                    let theirs = theirs.and_then(|theirs| theirs.get(&link.log.seq));
                    let rival = theirs.map(|segment| &segment.log);
                    let rival = rival.filter(|log| **log != link.log);
                    let rival = rival.unwrap_or(&held.log).clone();
                    return Next::Fork {
                        after: Some(after),
                        between: vec![link.log.clone(), rival],
                    };
                }
                Way::Leads(len) => ways.push((link, len)),
            }
        }
        match ways.as_slice() {
            [] => self.aside(held, &before, theirs),
            [(link, len)] if held.len < *len => Next::After {
                log: link.log.clone(),
                len: *len,
            },
            [(link, _)] => self.ready(link),
            several => Next::Fork {
                after: Some(held.log.at(held.len)),
                between: several.iter().map(|(link, _)| link.log.clone()).collect(),
            },
        }
    }

    /// The first member whose history excludes that of `host`, with the last place they share.
    pub fn excluded_by(&self, host: &Host) -> Option<(&Host, Option<LogPos>)> {
        let others = self.members().filter(|other| *other != host);
        others
            .filter_map(|other| match self.relation(host, other) {
                Relation::Fork { after } => Some((other, after)),
                _ => None,
            })
            .next()
    }

    /// What `host` has before `log`, as far as links tell.
    fn before(&self, host: &Host, log: &LogName) -> Before<'_> {
        let link = self.link_of(host, log);
        let pred = link.and_then(|link| link.pred.as_ref());
        Before {
            older: self.history(host),
            below: pred.map_or(log.seq, |pred| pred.1.seq),
            pred: pred.map(|pred| segment(pred, true)),
        }
    }

    /// What `host` itself says about a log, else its creator, else anybody.
    fn link_of(&self, host: &Host, log: &LogName) -> Option<&VersionLink> {
        let all = self.versions.get(&log.seq)?;
        let named = [all.get(host), all.get(&log.creator)];
        let mut links = named.into_iter().flatten().chain(all.values());
        links.find(|link| link.log == *log && link.pred.is_some())
    }

    /// The links of all logs that name `log` as what they continue, one for each. The creator knows best: copies of
    /// others may be old or taken over at join. A log nobody wrote to is a history only while its creator may still
    /// write to it.
    fn continuing(&self, host: &Host, log: &LogName, primary: Option<&Host>) -> Vec<&VersionLink> {
        let seq = log.seq + 1;
        let mut found: BTreeMap<&LogName, &VersionLink> = BTreeMap::new();
        for (owner, link) in self.versions.get(&seq).into_iter().flatten() {
            let continues = link.pred.as_ref().is_some_and(|(_, pred, _)| pred == log);
            if link.log.seq == seq
                && continues
                && (*owner == link.log.creator || !found.contains_key(&link.log))
            {
                found.insert(&link.log, link);
            }
        }
        let only = found.len() == 1 && primary.is_none();
        let lives = |link: &VersionLink| {
            let creator = &link.log.creator;
            let followed = |primary| self.history(primary).get(&seq).map(|next| &next.log);
            only || creator == host
                || primary == Some(creator)
                || self.primaries.contains(creator)
                || primary.and_then(followed) == Some(&link.log)
        };
        let all = found.into_values();
        all.filter(|link| !self.is_empty(link) || lives(link))
            .collect()
    }

    fn is_empty(&self, link: &VersionLink) -> bool {
        link.len == 0 && self.logs.get(&link.log).is_none_or(|len| *len == 0)
    }

    fn ready(&self, link: &VersionLink) -> Next {
        Next::Ready {
            log: link.log.clone(),
            empty: self.is_empty(link),
        }
    }

    /// No log goes on from here. A replica that stands in a log nobody wrote to goes on beside it; else numbers may
    /// be missing.
    fn aside(
        &self,
        held: &Held,
        before: &Before<'_>,
        theirs: Option<&BTreeMap<u64, Segment>>,
    ) -> Next {
        let seq = held.log.seq;
        let beside = theirs.and_then(|theirs| theirs.get(&seq));
        let beside = beside.filter(|beside| held.len == 0 && beside.log != held.log);
        if let Some(beside) = beside
            && let Some(link) = self.link_of(&beside.log.creator, &beside.log)
        {
            let theirs = link.pred.as_ref().map(|pred| segment(pred, true));
            if theirs == before.pred {
                return self.ready(link);
            }
            // Both logs continue something, and not the same place: nobody gets from one to the other.
            if let (Some(theirs), Some(ours)) = (&theirs, &before.pred)
                && (&theirs.log, theirs.len) != (&ours.log, ours.len)
            {
                return Next::Fork {
                    after: meeting_point(theirs, ours),
                    between: vec![held.log.clone(), beside.log.clone()],
                };
            }
        }
        let mut behind: Vec<u64> = match theirs {
            Some(theirs) => theirs.keys().copied().collect(),
            None => self.logs.keys().map(|log| log.seq).collect(),
        };
        behind.retain(|nr| *nr > seq);
        let Some(next) = behind.first() else {
            return Next::Open;
        };
        let following = theirs.and_then(|theirs| theirs.get(next));
        if *next > seq + 1 || following.is_some_and(|segment| self.is_hole(&segment.log)) {
            let exists = |nr: &&u64| self.logs.keys().any(|log| log.seq == **nr);
            let next = *behind.iter().find(exists).unwrap_or(next);
            return Next::Hole { next };
        }
        match following {
            Some(segment) => Next::Unknown {
                log: segment.log.clone(),
            },
            None => Next::Open,
        }
    }

    /// Does its creator say that there never was such a log? Whoever was cut off may have given it the very number that comes
    /// next for somebody else.
    fn is_hole(&self, log: &LogName) -> bool {
        let links = self.versions.get(&log.seq);
        let link = links.and_then(|links| links.get(&log.creator));
        link.is_some_and(|link| link.log == *log && link.is_hole())
    }
}

impl Held {
    fn segment(&self) -> Segment {
        Segment {
            log: self.log.clone(),
            len: self.len,
            digest: self.digest.filter(|digest| !digest.is_zero()),
            closed: false,
        }
    }
}

/// How does `link`, which continues the log held here, lie to what is here and to the primary?
fn way(
    before: &Before<'_>,
    held: &Held,
    link: &VersionLink,
    theirs: Option<&BTreeMap<u64, Segment>>,
) -> Way {
    let Some(pred @ (digest, _, len)) = &link.pred else {
        return Way::Dead;
    };
    let here = held.digest.filter(|here| !here.is_zero());
    if held.len == *len && *len > 0 && here.is_none() {
        return Way::Unknown;
    }
    let same = digest.is_zero() || here.is_none_or(|here| here == *digest);
    let passed = held.len > *len || (held.len == *len && !same);
    let there = segment(pred, true);
    // As if something were in it: whoever has another byte behind the same place is on the other side. Not where the primary
    // itself went on through this log, although nobody wrote to it.
    let through = theirs.and_then(|theirs| theirs.get(&link.log.seq));
    let through = through.is_some_and(|segment| segment.log == link.log);
    let beyond = Segment {
        len: link.len.max(u64::from(!through)),
        ..segment(&link.as_pred(), false)
    };
    let branch = [&beyond, &there].into_iter().chain(before.newest_first());
    let parts = |theirs| matches!(compare(branch, theirs), Relation::Fork { .. });
    match (theirs.is_some_and(parts), passed) {
        (true, true) => Way::Dead,
        (false, false) => Way::Leads(*len),
        _ => Way::Forks(held.log.at(*len)),
    }
}
