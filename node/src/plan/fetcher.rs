//! When should this host fetch transaction logs, which one, and from whom?
//!
//! Walks from the log the own replica stands in towards the newest one and takes the first that is
//! not completely here; at the newest it stays subscribed. The creator is the first choice as
//! source, then any member that says it has more than is here; a member with as much or less is
//! never asked, so no circle can come up. Stops where histories part.
//!
//! Never opens a connection or a file; `worker/fetcher.rs` does the work.
//!
//! Manual: "The State of MARS" (switches); main-loop reference 4.10; requirement L-C6.

use std::collections::BTreeSet;

use tree::key::Switch;
use tree::{Host, LogName};

use super::cursor::{self, Cursor, Next};
use super::role::Role;
use super::{Ask, FetchWant, Reason, Want, emergency};
use crate::facts::LocalLog;
use crate::job::ChainEnd;

/// How many logs ahead of replay are looked at in one decision.
const LOGS_AHEAD_MAX: usize = 1000;

/// The fetcher this host should have, or why it should have none.
pub fn want(ask: &Ask<'_>, role: &Role, cursor: Option<&Cursor>) -> Want<FetchWant> {
    match may_run(ask, role) {
        Err(reason) => Want::Rest(reason),
        Ok(()) => match cursor {
            None => Want::Rest(Reason::NoReplayPosition),
            Some(cursor) => from_gap(ask, cursor),
        },
    }
}

fn may_run(ask: &Ask<'_>, role: &Role) -> Result<(), Reason> {
    let seen = &ask.seen;
    if ask.all.stopping {
        return Err(Reason::Stopping);
    }
    if !seen.is_member(seen.here) {
        return Err(Reason::NotMember);
    }
    if ask.own.writes() {
        return Err(Reason::OwnLog);
    }
    if let Role::MayBegin(_) = role {
        return Err(Reason::BecomesPrimary);
    }
    if emergency::is_broken(ask) {
        return Err(Reason::Unlogged);
    }
    if ask.all.space.level >= emergency::LEVEL_NOTHING_FOR_OTHERS {
        return Err(Reason::SpaceLow(ask.all.space.level));
    }
    for switch in [Switch::Attach, Switch::Fetch] {
        if !ask.todo(switch) {
            return Err(Reason::SwitchedOff(switch));
        }
    }
    Ok(())
}

/// Finds the first log that is not completely here.
fn from_gap(ask: &Ask<'_>, cursor: &Cursor) -> Want<FetchWant> {
    if let Some(damage) = damage_of(ask, cursor) {
        return afresh(ask, cursor, damage);
    }
    let mut log = cursor.at.log.clone();
    let mut pred = cursor::pred_of(ask, &log, ask.seen.version(log.seq, ask.seen.here));
    let mut next = cursor.next.clone();
    for _ in 0..LOGS_AHEAD_MAX {
        match next {
            Next::Fork(reason) | Next::Hole(reason) => return Want::Rest(reason),
            Next::After { len, .. } => return from_source(ask, &log, pred, Some(len)),
            Next::Open => return newest(ask, &log, pred),
            Next::Ready { log: after, .. } => {
                pred = ask.own.logs.get(&log).and_then(|local| local.end(&log));
                log = after;
                next = cursor::next(ask, &log, ask.own.logs.get(&log));
            }
        }
    }
    Want::Rest(Reason::UpToDate)
}

/// Nothing follows this log yet, so it may grow; an own one only by what was lost here and others have.
fn newest(ask: &Ask<'_>, log: &LogName, pred: Option<ChainEnd>) -> Want<FetchWant> {
    let own = log.creator == *ask.seen.here;
    let sealed = ask.own.logs.get(log).is_some_and(|local| local.sealed);
    let nothing_lost = own && source(ask, log, must_exceed(ask, log), false).is_none();
    if sealed || nothing_lost {
        return Want::Rest(Reason::UpToDate);
    }
    from_source(ask, log, pred, None)
}

/// Chooses the member to ask for `log`.
fn from_source(
    ask: &Ask<'_>,
    log: &LogName,
    pred: Option<ChainEnd>,
    final_len: Option<u64>,
) -> Want<FetchWant> {
    let have = ask.own.logs.get(log).map_or(0, |local| local.len);
    if have < final_len.unwrap_or(0)
        && ask.seen.log_deleted(log)
        && !cursor::is_kept(ask, log, have)
    {
        return Want::Rest(Reason::Hole {
            at: log.at(have),
            next: log.seq + 1,
        });
    }
    if let Some(from) = source(ask, log, have, final_len.is_some()) {
        return Want::Run(FetchWant {
            log: log.clone(),
            from,
            pred,
            afresh: false,
        });
    }
    Want::Rest(Reason::NoSource(log.clone()))
}

/// The creator if it can be reached, else a member with more than `have` bytes; those that failed
/// lately only when nobody else is left, and not those that refused a log which `has_ended`: who is asked for one that
/// still grows may only have been asked too early.
fn source(ask: &Ask<'_>, log: &LogName, have: u64, has_ended: bool) -> Option<Host> {
    let seen = &ask.seen;
    let has_more = |host: &&Host| {
        let link = seen.version(log.seq, host);
        link.is_some_and(|link| link.log == *log && link.len > have)
    };
    let reachable: BTreeSet<&Host> = seen
        .members()
        .filter(|host| *host != seen.here && ask.all.connected.contains(*host))
        .collect();
    let creator = reachable.get(&log.creator).copied();
    let others = reachable.iter().copied().filter(has_more);
    let mut order: Vec<&Host> = creator
        .into_iter()
        .chain(others.filter(|host| **host != log.creator))
        .collect();
    let refused = |host: &Host| ask.own.refused.contains(&(log.clone(), host.clone()));
    order.retain(|host| !(has_ended && refused(host)));
    // Whom the operator prefers comes first, in the order of the list (`connect-<me>`).
    let preferred = seen.member(seen.here).fetch_from();
    let rank = |host: &Host| preferred.iter().position(|p| p == host);
    order.sort_by_key(|host| rank(host).unwrap_or(usize::MAX));
    let fresh = order.iter().find(|host| !ask.own.avoid.contains(**host));
    fresh.or(order.first()).map(|host| (*host).clone())
}

/// The first damaged log that others may have: one of somebody else, or an own one of which a member has more.
fn damage_of(ask: &Ask<'_>, cursor: &Cursor) -> Option<LogName> {
    let damaged = |(log, local): &(&LogName, &LocalLog)| {
        let own = log.creator == *ask.seen.here;
        log.seq >= cursor.at.log.seq
            && local.damaged.is_some()
            && (!own || source(ask, log, must_exceed(ask, log), false).is_some())
    };
    let found = ask.own.logs.iter().find(damaged);
    found.map(|(log, _)| log.clone())
}

/// What a member must have more of an own log than, to be asked for it: no less than this host had told of before it was
/// damaged, else only an operator may go on with that.
fn must_exceed(ask: &Ask<'_>, log: &LogName) -> u64 {
    let told = ask.seen.version(log.seq, ask.seen.here);
    let told = told
        .filter(|link| link.log == *log)
        .map_or(0, |link| link.len);
    let here = ask.own.logs.get(log).map_or(0, |local| local.len);
    here.max(told.saturating_sub(1))
}

/// Brings a damaged log once more.
fn afresh(ask: &Ask<'_>, cursor: &Cursor, log: LogName) -> Want<FetchWant> {
    let own = ask.seen.version(log.seq, ask.seen.here);
    let pred = cursor::pred_of(ask, &log, own);
    let have = match log.creator == *ask.seen.here {
        true => must_exceed(ask, &log),
        false => 0,
    };
    match source(ask, &log, have, false) {
        Some(from) => Want::Run(FetchWant {
            log,
            from,
            pred,
            afresh: true,
        }),
        None => Want::Rest(Reason::Damaged(log.at(cursor.have()))),
    }
}
