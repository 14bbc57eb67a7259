//! Where does the own replica stand in the history, and what comes next?
//!
//! Reads the own replay position, the local log files and the version links of all hosts. Which log comes next, or why
//! none, is decided in one place, `tree::lineage`; here is what follows from it for this host: how far
//! replay may go, whether it may move on, and what the own version links have to say.
//!
//! Manual: "Split Brain and Resolution"; main-loop reference 4.6, 4.11.1 to 4.11.3, 4.16.

use tree::key::Switch;
use tree::lineage::{Held, Next as Found};
use tree::{Host, LogName, LogPos, ReplayPos, VersionLink, key};

use super::role::Role;
use super::seen::Seen;
use super::{Ask, Reason, Step, emergency};
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
    /// Numbers are missing, or nobody says what the next log continues.
    Hole(Reason),
}

impl Cursor {
    /// The place the disk is a state of, once all that is here is applied, with the digest by which others know it. That
    /// is the end of what is here; behind a damage found later it can only be what was `told` of this log before.
    /// `None` when nobody can name it.
    pub fn disk_end(&self, told: Option<&VersionLink>) -> Option<ChainEnd> {
        let here = self.local.as_ref()?.end(&self.at.log);
        let told = told.map(ChainEnd::of).filter(|end| !end.digest.is_zero());
        let is_here = |end: &ChainEnd| end.log == self.at.log && end.len == self.at.offset;
        here.into_iter().chain(told).find(is_here)
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
    let at = seen.replay(seen.here)?.clone();
    let local = ask.own.logs.get(&at.log).cloned();
    let (next, parted) = ask_lineage(ask, &at.log, local.as_ref());
    let have = local.as_ref().map_or(0, |local| local.len);
    // What was written behind the place others went on from is a dead branch (L-D6), unless this is
    // the side the operator has chosen.
    let end = match &next {
        Next::Fork(_) if !is_chosen(ask, &at.log) => match parted {
            Some(place) if place.log == at.log => have.min(place.offset),
            _ => have.min(at.offset),
        },
        _ => have,
    };
    Some(Cursor {
        at,
        local,
        end,
        next,
    })
}

/// The operator wants this host to be primary whatever the others have: designated while the fetch switch was
/// off, which it still is (manual: "forced failover").
///
/// Who switches it off later (`down`, `disconnect`) stops fetching and nothing else: a designation that waits for an
/// old primary goes on waiting.
pub fn is_forced(ask: &Ask<'_>) -> bool {
    let seen = &ask.seen;
    let stamp = |path: &tree::Path| seen.tree.get(path).map(|entry| entry.stamp.clone());
    seen.designated_primary().as_ref() == Some(seen.here)
        && !seen.todo(seen.here, Switch::Fetch)
        && stamp(&key::todo(seen.res, seen.here, Switch::Fetch)) < stamp(&key::primary(seen.res))
}

/// This host has already written log `at` under the designation that holds, and was only restarted: its history is the one
/// the operator has chosen, whatever others went on from.
pub fn keeps_role(ask: &Ask<'_>, at: &LogName) -> bool {
    let seen = &ask.seen;
    let stamp = |path: &tree::Path| seen.tree.get(path).map(|entry| entry.stamp.clone());
    let designated = stamp(&key::primary(seen.res));
    let wrote =
        stamp(&key::log(seen.res, at)).max(stamp(&key::version(seen.res, at.seq, seen.here)));
    seen.designated_primary().as_ref() == Some(seen.here)
        && at.creator == *seen.here
        && designated.is_some()
        && wrote > designated
}

/// Is the history of this host the right one by an order of the operator?
pub fn is_chosen(ask: &Ask<'_>, at: &LogName) -> bool {
    is_forced(ask) || keeps_role(ask, at)
}

/// What comes after `log`, of which `local` is here?
pub fn next(ask: &Ask<'_>, log: &LogName, local: Option<&LocalLog>) -> Next {
    ask_lineage(ask, log, local).0
}

/// The same, and where histories parted, if they did.
fn ask_lineage(ask: &Ask<'_>, log: &LogName, local: Option<&LocalLog>) -> (Next, Option<LogPos>) {
    let seen = &ask.seen;
    let have = local.map_or(0, |local| local.len);
    let held = Held {
        log: log.clone(),
        len: have,
        digest: local.and_then(|local| local.digest),
    };
    let primary = seen.designated_primary().filter(|other| other != seen.here);
    let found = ask.lineage.next(seen.here, &held, primary.as_ref());
    let next = match found {
        Found::Open => Next::Open,
        Found::Unknown { log: next } => Next::Hole(match is_gone(ask, log, local) {
            true => Reason::Hole {
                at: log.at(have),
                next: next.seq,
            },
            false => Reason::NoVersion(next),
        }),
        Found::After { log, len } => Next::After { log, len },
        Found::Ready { log, empty } => Next::Ready { log, empty },
        Found::Hole { next } => Next::Hole(Reason::Hole {
            at: log.at(have),
            next,
        }),
        Found::Fork { after, between } => {
            let reason = Reason::SplitBrain {
                after: after.clone(),
                between,
            };
            return (Next::Fork(reason), after);
        }
    };
    (next, None)
}

/// Can no more of `log` be had from anybody, and nobody says whether what is here is all of it?
fn is_gone(ask: &Ask<'_>, log: &LogName, local: Option<&LocalLog>) -> bool {
    let is_complete = local.is_some_and(|local| local.sealed);
    let have = local.map_or(0, |local| local.len);
    let deleted = ask.seen.log_deleted(log) || is_forgotten(ask, log);
    !is_complete && deleted && !is_kept(ask, log, have)
}

/// Is there no key of `log`, though there are younger logs? Then it was deleted so long ago that this is forgotten too.
fn is_forgotten(ask: &Ask<'_>, log: &LogName) -> bool {
    let known = ask.seen.tree.get(&key::log(ask.seen.res, log));
    known.is_none() && ask.seen.newest_seq() > log.seq
}

/// Is there a member that keeps `log` although it was deleted, because its replica stands in it behind `have`? A version
/// link alone proves nothing: `invalidate` copies it from the primary.
pub fn is_kept(ask: &Ask<'_>, log: &LogName, have: u64) -> bool {
    let others = ask.seen.members();
    let mut places = others.filter_map(|host| ask.seen.replay(host));
    places.any(|at| at.log == *log && at.offset > have)
}

/// Who tells of more of the own log than is here, and of how much: nobody is ever told of anything that is not durable, so the
/// rest was lost here. A write torn by a crash is no loss: nobody knows of it.
pub fn lost_of<'a>(ask: &Ask<'a>, cursor: &Cursor) -> Option<(&'a Host, u64)> {
    let log = &cursor.at.log;
    if log.creator != *ask.seen.here {
        return None;
    }
    let told = |host: &'a Host| {
        let link = ask.seen.version(log.seq, host)?;
        (link.log == *log).then_some((host, link.len))
    };
    let most = ask
        .seen
        .members()
        .filter_map(told)
        .max_by_key(|(_, len)| *len);
    most.filter(|(_, len)| *len > cursor.have())
}

/// May the replica go on with the next log? The switchover check of main-loop reference 4.11.3.
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
    if emergency::is_broken(ask) {
        return Err(Reason::Unlogged);
    }
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
    let digest = cursor.local.as_ref().and_then(|local| local.digest);
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
    let may_move = !ask.own.writes() && !ask.own.replayer.is_busy() && role.may_follow();
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
    open.filter(|(log, local)| match next(ask, log, Some(local)) {
        Next::Ready { log: next, .. } => next.seq > log.seq,
        _ => false,
    })
    .map(|(log, _)| log.clone())
    .collect()
}

/// The log the replica stands in, when its local copy counts as complete although the history this host follows now has more
/// of it: it had been finished by a log of another history, which was given up. Or an own one which was finished by a crash, and of
/// which others have what was lost here.
pub fn reopened(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Option<LogName> {
    let cursor = cursor?;
    let log = &cursor.at.log;
    let is_complete = cursor.local.as_ref().is_some_and(|local| local.sealed);
    let has_more = match log.creator == *ask.seen.here {
        true => !ask.own.writes() && lost_of(ask, cursor).is_some(),
        false => matches!(cursor.next, Next::After { .. }),
    };
    (is_complete && has_more).then(|| log.clone())
}

/// Own version links that do not say what the files hold (L-A6): after a crash the stored link is
/// older than the file, or a torn tail was cut off. Not those of logs that were given up by a command: a link of a log
/// which nobody chains to anything would only haunt the others.
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
        if own.is_some_and(|link| link.log != *log) && *log != cursor.at.log {
            // Another log of this number was ours; a dead branch lies here.
            continue;
        }
        let Some(end) = local.end(log) else {
            continue;
        };
        if own.is_some_and(|link| ChainEnd::of(link) == end) {
            continue;
        }
        let pred = pred_of(ask, log, own);
        let is_given_up = own.is_none() && (pred.is_none() || seen.log_deleted(log));
        if is_given_up && *log != cursor.at.log {
            continue;
        }
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
