//! Where does the own replica stand in the history, and what comes next?
//!
//! Reads the own replay position, the local log files and the version links of all hosts. A log
//! is followed only by one whose version link names the very end of it, length *and* digest; two
//! logs that both do, or one that goes on from an earlier place than what is held here, are a fork,
//! and nobody follows a fork.
//!
//! Manual: "Split Brain and Resolution"; main-loop reference 4.6, 4.11.1 to 4.11.3, 4.16.

use std::collections::BTreeMap;

use tree::key::Switch;
use tree::{LogName, ReplayPos, VersionLink};

use super::role::Role;
use super::seen::Seen;
use super::{Ask, Reason, Step};
use crate::facts::LocalLog;
use crate::job::ChainEnd;

/// Where the own replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The own replay position.
    pub at: ReplayPos,
    /// The file of that log here.
    pub local: Option<LocalLog>,
    /// Where this log ends for us: replay must not go beyond.
    pub end: u64,
    /// What comes next.
    pub next: Next,
}

/// What comes after the log a replica stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is known yet.
    Open,
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
    /// Others went on from somewhere else, or several did.
    Fork(Reason),
    /// Numbers are missing.
    Hole(Reason),
}

impl Cursor {
    /// The end of what is here.
    pub fn local_end(&self) -> Option<ChainEnd> {
        let local = self.local.as_ref()?;
        Some(ChainEnd {
            log: self.at.log.clone(),
            len: local.len,
            digest: local.digest,
        })
    }

    /// Is everything applied that may be applied?
    pub fn is_applied(&self) -> bool {
        self.at.offset >= self.end && self.at.dirty == 0
    }

    /// Length of the local copy.
    pub fn have(&self) -> u64 {
        self.local.as_ref().map_or(0, |local| local.len)
    }
}

/// Finds the place; `None` when the own replay position is missing.
pub fn look(ask: &Ask<'_>) -> Option<Cursor> {
    let seen = &ask.seen;
    let at = seen.replay(seen.here)?;
    let local = ask.own.logs.get(&at.log).cloned();
    let next = next(ask, &at.log, local.as_ref());
    let have = local.as_ref().map_or(0, |local| local.len);
    let shortest = successors(seen, &at.log)
        .values()
        .filter_map(|link| link.pred.as_ref())
        .filter(|(_, log, _)| *log == at.log)
        .map(|(_, _, len)| *len)
        .min();
    // What was written behind the place others went on from is a dead branch (L-D6), unless the
    // operator forces this host to be primary with all it has.
    let end = match shortest {
        Some(len) if !is_forced(ask) => have.min(len),
        _ => have,
    };
    Some(Cursor {
        at,
        local,
        end,
        next,
    })
}

/// The operator wants this host to be primary whatever the others have: designated, with the fetch
/// switch off (manual: "forced failover").
pub fn is_forced(ask: &Ask<'_>) -> bool {
    let seen = &ask.seen;
    seen.designated_primary().as_ref() == Some(seen.here) && !seen.todo(seen.here, Switch::Fetch)
}

/// All logs with the next number, each with the version link that describes it best.
pub fn successors(seen: &Seen<'_>, log: &LogName) -> BTreeMap<LogName, VersionLink> {
    let seq = log.seq + 1;
    let mut found: BTreeMap<LogName, VersionLink> = BTreeMap::new();
    for (host, link) in seen.versions(seq) {
        if link.log.seq != seq || link.pred.is_none() {
            continue;
        }
        // The creator knows best; copies of others may be old or taken over at join.
        if host == link.log.creator || !found.contains_key(&link.log) {
            found.insert(link.log.clone(), link);
        }
    }
    found
}

/// Is nothing known to be in this log?
fn is_empty(seen: &Seen<'_>, link: &VersionLink) -> bool {
    link.len == 0 && seen.log_len(&link.log).unwrap_or(0) == 0
}

/// What comes after `log`, of which `local` is here?
pub fn next(ask: &Ask<'_>, log: &LogName, local: Option<&LocalLog>) -> Next {
    let seen = &ask.seen;
    let mut from_here: Vec<VersionLink> = successors(seen, log)
        .into_values()
        .filter(|link| link.pred.as_ref().is_some_and(|(_, pred, _)| pred == log))
        .collect();
    if from_here.len() > 1 {
        // A log nobody ever wrote to is no history: a primary had just begun it when it crashed.
        from_here.retain(|link| !is_empty(seen, link) || seen.is_actual_primary(&link.log.creator));
    }
    let have = local.map_or(0, |local| local.len);
    match from_here.as_slice() {
        [] => hole(seen, log, have),
        [only] => one(seen, log, local, only),
        several => Next::Fork(Reason::SplitBrain {
            after: log.at(have),
            between: several.iter().map(|link| link.log.clone()).collect(),
        }),
    }
}

/// One log claims to continue ours: does it?
fn one(seen: &Seen<'_>, log: &LogName, local: Option<&LocalLog>, link: &VersionLink) -> Next {
    let Some((digest, _, len)) = link.pred.clone() else {
        return Next::Open;
    };
    let have = local.map_or(0, |local| local.len);
    let same = local.map_or(len == 0, |local| local.digest == digest);
    if have < len {
        return Next::After {
            log: link.log.clone(),
            len,
        };
    }
    if have == len && (same || digest.is_zero()) {
        return Next::Ready {
            log: link.log.clone(),
            empty: is_empty(seen, link),
        };
    }
    Next::Fork(Reason::SplitBrain {
        after: log.at(len),
        between: vec![log.clone(), link.log.clone()],
    })
}

/// No log has the next number. Is there one behind it?
fn hole(seen: &Seen<'_>, log: &LogName, have: u64) -> Next {
    let behind = seen
        .logs()
        .into_iter()
        .filter(|other| other.seq > log.seq)
        .map(|other| other.seq)
        .min();
    match behind {
        Some(seq) if seq > log.seq + 1 => Next::Hole(Reason::Hole {
            at: log.at(have),
            next: seq,
        }),
        _ => Next::Open,
    }
}

/// May the replica go on with the next log? The switchover check of main-loop reference 4.11.3, as
/// `tree::lineage` has it: what decides is what the next log says it continues, digest of the contents
/// included, not what the creator of the current one has published, which may be dead.
pub fn may_follow(ask: &Ask<'_>, cursor: &Cursor) -> Result<LogName, Reason> {
    let seen = &ask.seen;
    let (log, empty) = match &cursor.next {
        Next::Ready { log, empty } => (log, *empty),
        Next::Fork(reason) | Next::Hole(reason) => return Err(reason.clone()),
        Next::After { len, .. } => {
            return Err(Reason::NotFetched {
                log: cursor.at.log.clone(),
                have: cursor.have(),
                want: *len,
            });
        }
        Next::Open => return Err(Reason::UpToDate),
    };
    if !cursor.is_applied() {
        return Err(Reason::NotReplayed {
            at: cursor.at.clean(),
            end: cursor.end,
        });
    }
    let window = u64::try_from(ask.config.alive_window.as_nanos()).unwrap_or(u64::MAX);
    let silent = !seen.is_alive(&log.creator, ask.all.now_ns, window);
    if empty && silent && log.creator != *seen.here {
        return Err(Reason::EmptyNext(log.clone()));
    }
    Ok(log.clone())
}

/// Is the version link of the log's creator exactly what is here? Needed before a planned handover.
pub fn equals_creator(seen: &Seen<'_>, cursor: &Cursor) -> Result<(), Reason> {
    let log = &cursor.at.log;
    if !seen.is_member(&log.creator) {
        return Ok(());
    }
    let theirs = seen
        .version(log.seq, &log.creator)
        .ok_or_else(|| Reason::NoVersion(log.clone()))?;
    let have = cursor.have();
    if theirs.len > have {
        return Err(Reason::NotFetched {
            log: log.clone(),
            have,
            want: theirs.len,
        });
    }
    let digest = cursor.local.as_ref().map(|local| local.digest);
    let same = digest == Some(theirs.digest) || theirs.digest.is_zero();
    if theirs.len != have || !same {
        return Err(Reason::VersionsDiffer {
            log: log.clone(),
            here: have,
            there: theirs.len,
        });
    }
    Ok(())
}

/// Changes of the own history that are due now, in order.
pub fn steps(ask: &Ask<'_>, role: &Role, cursor: Option<&Cursor>) -> Vec<Step> {
    let Some(cursor) = cursor else {
        return Vec::new();
    };
    let mut steps = relink(ask, cursor);
    let may_move = !ask.own.logger.is_busy() && !ask.own.replayer.is_busy() && role.may_follow();
    if may_move
        && ask.todo(Switch::Attach)
        && let Ok(log) = may_follow(ask, cursor)
    {
        steps.push(Step::Follow { log });
    }
    steps
}

/// Local copies that are complete because another log continues them at their end, although they
/// bear no seal: their creator crashed.
pub fn finished(ask: &Ask<'_>) -> Vec<LogName> {
    let open = ask.own.logs.iter().filter(|(_, local)| !local.sealed);
    open.filter(|(log, local)| matches!(next(ask, log, Some(local)), Next::Ready { .. }))
        .map(|(log, _)| log.clone())
        .collect()
}

/// Own version links that do not say what the files hold (L-A6): after a crash the stored link is
/// older than the file, or a torn tail was cut off.
fn relink(ask: &Ask<'_>, cursor: &Cursor) -> Vec<Step> {
    let seen = &ask.seen;
    let busy = ask.logs_written();
    let mut steps = Vec::new();
    for (log, local) in &ask.own.logs {
        let in_work = busy.contains(&log);
        if log.seq < cursor.at.log.seq || in_work || local.damaged.is_some() {
            continue;
        }
        let own = seen.version(log.seq, seen.here);
        if own.as_ref().is_some_and(|link| link.log != *log) && *log != cursor.at.log {
            // Another log of this number was ours; a dead branch lies here.
            continue;
        }
        let end = ChainEnd {
            log: log.clone(),
            len: local.len,
            digest: local.digest,
        };
        if own.as_ref().is_some_and(|link| ChainEnd::of(link) == end) {
            continue;
        }
        let pred = pred_of(ask, log, own.as_ref());
        steps.push(Step::Relink { end, pred });
    }
    steps
}

/// Where the log before `log` ended, from the best source there is.
pub fn pred_of(ask: &Ask<'_>, log: &LogName, own: Option<&VersionLink>) -> Option<ChainEnd> {
    let seen = &ask.seen;
    let of_link = |link: &VersionLink| {
        let (digest, pred, len) = link.pred.clone()?;
        let known = !digest.is_zero();
        known.then_some(ChainEnd {
            log: pred,
            len,
            digest,
        })
    };
    let creators = seen.version(log.seq, &log.creator);
    let same = |link: &&VersionLink| link.log == *log;
    creators
        .as_ref()
        .filter(same)
        .and_then(of_link)
        .or_else(|| own.filter(same).and_then(of_link))
}

/// Where the history of this replica parted from that of another member, if it did.
pub fn fork_of(cursor: Option<&Cursor>) -> Option<&Reason> {
    match &cursor?.next {
        Next::Fork(reason) => Some(reason),
        _ => None,
    }
}
