//! Who is primary, and when does this host become it?
//!
//! *Designated* is what the operator wants (`primary`), *actual* is who runs a logger and has the
//! device. A planned handover ends with equal final positions and digests on both sides before the
//! new host begins its own log; a forced one (designated with the fetch switch off) begins it with
//! what is here, never in another host's log, and the fork that may follow is seen by all.
//! Never does anything by itself about a fork.
//!
//! Manual: "Switching Primary / Secondary Roles"; main-loop reference 4.7, 4.11.2, 4.17.

use tree::key::Switch;
use tree::{Host, LogName};

use super::cursor::{self, Cursor, Next};
use super::{Ask, LoggerWant, Reason, emergency, word};

/// The part this host plays for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not designated, or not allowed to: be a secondary.
    Secondary(Reason),
    /// Designated, but something has to happen first.
    NotYetPrimary(Reason),
    /// Designated, and nothing stands against beginning this log.
    MayBegin(LoggerWant),
    /// The logger runs, and the operator still wants it.
    Primary,
    /// The logger runs, but the role moves away.
    Leaving(Reason),
}

impl Role {
    /// May the replica go on to the logs of others?
    pub fn may_follow(&self) -> bool {
        matches!(self, Role::Secondary(_) | Role::NotYetPrimary(_))
    }

    /// Is the operator's wish that this host writes?
    pub fn is_designated(&self) -> bool {
        matches!(
            self,
            Role::NotYetPrimary(_) | Role::MayBegin(_) | Role::Primary
        )
    }

    /// Why this host does not write, if it does not.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Role::Secondary(reason) | Role::NotYetPrimary(reason) | Role::Leaving(reason) => {
                Some(reason)
            }
            Role::MayBegin(_) | Role::Primary => None,
        }
    }
}

/// The part this host should play.
pub fn of(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Role {
    let running = ask.own.writes();
    match designated_here(ask) {
        Err(reason) if running => Role::Leaving(reason),
        Err(reason) => Role::Secondary(reason),
        Ok(()) if running => Role::Primary,
        Ok(()) => match takeover(ask, cursor) {
            Ok(job) => Role::MayBegin(job),
            Err(reason) => Role::NotYetPrimary(reason),
        },
    }
}

fn designated_here(ask: &Ask<'_>) -> Result<(), Reason> {
    let seen = &ask.seen;
    if ask.all.stopping {
        return Err(Reason::Stopping);
    }
    if !seen.is_member(seen.here) {
        return Err(Reason::NotMember);
    }
    match seen.designated_primary() {
        None => return Err(Reason::NoPrimaryDesignated),
        Some(other) if other != *seen.here => return Err(Reason::OtherDesignated(other)),
        Some(_) => {}
    }
    if !ask.todo(Switch::Attach) {
        return Err(Reason::SwitchedOff(Switch::Attach));
    }
    Ok(())
}

/// The log to begin, or what stands against it.
fn takeover(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Result<LoggerWant, Reason> {
    let seen = &ask.seen;
    if !ask.all.grace_over {
        return Err(Reason::JustStarted);
    }
    let cursor = cursor.ok_or(Reason::NoReplayPosition)?;
    if emergency::is_broken(ask) {
        return behind_hole(ask, cursor);
    }
    let size = seen.size().ok_or(Reason::NotMember)?;
    if !seen.is_synced(seen.here) {
        return Err(Reason::NotSynced);
    }
    let forced = cursor::is_forced(ask);
    if let Some(log) = first_log(ask, cursor) {
        let own = seen.version(log.seq, seen.here);
        let pred = cursor::pred_of(ask, &log, own);
        return Ok(LoggerWant { log, pred, size });
    }
    is_consistent(ask, cursor, forced)?;
    own_log_first(ask, cursor)?;
    if !forced {
        nothing_comes_first(ask, cursor)?;
        if !cursor::keeps_role(ask, &cursor.at.log) {
            others_agree(ask, cursor)?;
            others_have_released(ask, cursor)?;
        }
    }
    if cursor.local.is_none() {
        return Err(Reason::LogMissing(cursor.at.log.clone()));
    }
    let told = seen.version(cursor.at.log.seq, seen.here);
    let Some(pred) = cursor.disk_end(told) else {
        // Others cannot compare their history with this one, so they must not try.
        return match forced {
            true => Ok(emergency::begin_behind_hole(ask, Some(cursor))),
            false => Err(Reason::Damaged(cursor.at.log.at(cursor.have()))),
        };
    };
    let log = LogName::new(cursor.at.log.seq + 1, seen.here);
    let pred = Some(pred);
    Ok(LoggerWant { log, pred, size })
}

/// The disk of this host is newer than all logs. Nobody may have gone on from what the logs have.
fn behind_hole(ask: &Ask<'_>, cursor: &Cursor) -> Result<LoggerWant, Reason> {
    if !cursor::is_forced(ask) {
        match &cursor.next {
            Next::Open | Next::Hole(_) => {}
            Next::Fork(reason) => return Err(reason.clone()),
            Next::Ready { .. } | Next::After { .. } => return Err(Reason::Unlogged),
        }
        others_have_released(ask, cursor)?;
    }
    Ok(emergency::begin_behind_hole(ask, Some(cursor)))
}

/// `create-resource` has just named the first log of the resource; nobody has begun it.
fn first_log(ask: &Ask<'_>, cursor: &Cursor) -> Option<LogName> {
    let at = &cursor.at;
    let fresh = cursor.local.is_none() && at.offset == 0 && at.dirty == 0;
    let written = ask.seen.log_len(&at.log).unwrap_or(0) > 0;
    (fresh && at.log.creator == *ask.seen.here && !written).then(|| at.log.clone())
}

/// Is the disk one state of the past, and has all that is here been applied?
fn is_consistent(ask: &Ask<'_>, cursor: &Cursor, forced: bool) -> Result<(), Reason> {
    if !forced {
        is_intact(ask, cursor)?;
    }
    if !cursor.is_applied() {
        return Err(Reason::NotReplayed {
            at: cursor.at.clean(),
            end: cursor.end.max(cursor.at.dirty_end().offset),
        });
    }
    let consistent_after = ask.seen.sync_pos(ask.seen.here);
    match consistent_after {
        Some(pos) if cursor.at.clean() < pos.dirty_end() => {
            Err(Reason::Inconsistent(pos.dirty_end()))
        }
        _ => Ok(()),
    }
}

/// A damaged copy is brought again, and so is what was lost of an own log.
fn is_intact(ask: &Ask<'_>, cursor: &Cursor) -> Result<(), Reason> {
    let log = &cursor.at.log;
    let Some(local) = &cursor.local else {
        return Ok(());
    };
    if let Some(damage) = &local.damaged
        && log.creator != *ask.seen.here
    {
        return Err(Reason::Damaged(damage.clone()));
    }
    match cursor::lost_of(ask, cursor) {
        None => Ok(()),
        Some((host, want)) => Err(Reason::Lost {
            log: log.clone(),
            have: local.len,
            want,
            host: host.clone(),
        }),
    }
}

/// An own log begun right before a crash comes first even when nobody wrote to it: others may hold it as ended where
/// it is, so its number is never used again (invariant 26).
fn own_log_first(ask: &Ask<'_>, cursor: &Cursor) -> Result<(), Reason> {
    match &cursor.next {
        Next::Ready { log, .. } if log.creator == *ask.seen.here => {
            Err(Reason::FollowsFirst(log.clone()))
        }
        _ => Ok(()),
    }
}

fn nothing_comes_first(ask: &Ask<'_>, cursor: &Cursor) -> Result<(), Reason> {
    match &cursor.next {
        Next::Open => Ok(()),
        Next::Ready { log, .. } => Err(Reason::FollowsFirst(log.clone())),
        Next::After { len, .. } => Err(Reason::NotFetched {
            log: cursor.at.log.clone(),
            have: cursor.have(),
            want: *len,
        }),
        // Restarted in the history the operator had chosen before.
        Next::Fork(_) if cursor::keeps_role(ask, &cursor.at.log) => Ok(()),
        Next::Fork(reason) | Next::Hole(reason) => Err(reason.clone()),
    }
}

/// No member has another history: else the operator has to choose, and only a forced command is a choice.
fn others_agree(ask: &Ask<'_>, cursor: &Cursor) -> Result<(), Reason> {
    let Some((other, after)) = ask.lineage.excluded_by(ask.seen.here) else {
        return Ok(());
    };
    let newest = ask.lineage.history(other).values().next_back();
    let between = newest.map(|segment| segment.log.clone());
    Err(Reason::SplitBrain {
        after,
        between: [cursor.at.log.clone()].into_iter().chain(between).collect(),
    })
}

/// Nobody else writes, and what the last primary wrote is here to the last byte.
fn others_have_released(ask: &Ask<'_>, cursor: &Cursor) -> Result<(), Reason> {
    let seen = &ask.seen;
    let creator = &cursor.at.log.creator;
    for host in seen.members() {
        let reachable = ask.all.connected.contains(host);
        let concerns_us = reachable || host == creator;
        if host != seen.here && concerns_us && seen.is_actual_primary(host) {
            let host = host.clone();
            return Err(Reason::OtherPrimary { host, reachable });
        }
    }
    if creator != seen.here {
        let published = seen.log_len(&cursor.at.log).unwrap_or(0);
        if published > cursor.have() {
            return Err(Reason::NotFetched {
                log: cursor.at.log.clone(),
                have: cursor.have(),
                want: published,
            });
        }
        cursor::equals_creator(seen, cursor)?;
    }
    everybody_knows(ask, creator)
}

/// What a host said about its role may be older than what it does: it may have begun under the designation before. So
/// everybody who can be asked has said that it knows the one in force, and does not write. So has, whether it can be
/// asked or not, whoever wrote last: a host that was stopped in order begins again as soon as it starts. And so has whoever
/// this host has left the turn to.
fn everybody_knows(ask: &Ask<'_>, last_writer: &Host) -> Result<(), Reason> {
    let seen = &ask.seen;
    let is_reachable = |host: &Host| ask.all.connected.contains(host);
    let left_to = word::binding(ask);
    let asked = seen.members().filter(|host| {
        let must = *host == last_writer || left_to.as_ref() == Some(*host);
        *host != seen.here && (must || is_reachable(host))
    });
    match asked.into_iter().find(|host| !seen.knows_primary(host)) {
        Some(host) => Err(Reason::NotToldYet {
            host: host.clone(),
            reachable: is_reachable(host),
        }),
        None => Ok(()),
    }
}
