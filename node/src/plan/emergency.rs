//! When does a primary cease logging, and how does it begin again?
//!
//! When nothing can be logged any more, for lack of space or because the log cannot be written, the application goes
//! on: the logger drains and ends, and requests go straight to the disk. Before the first of them the history is
//! broken for all to see: an empty log is named behind a hole in the numbers, which no secondary ever crosses
//! (`invalidate` heals them). A crash in this state replays nothing: the disk is newer than the logs.
//! With space enough again, logging begins in that empty log.
//!
//! ```text
//!            must_cease                 drained, hole stored              is_over
//! logging ───────────────► requests wait ──────────────► bypass ───────────────────► logging, behind the hole
//!                                                          ▲ start with a hole stored
//! ```
//!
//! Manual: "Emergency Mode and its Resolution"; main-loop reference 4.15, lessons L-B4, invariant 39.

use tree::{LogName, VersionLink, key};

use super::cursor::Cursor;
use super::role::Role;
use super::seen::Seen;
use super::{Ask, LoggerWant, Reason, Want};
use crate::ports::KeyChange;

/// At this level of the state directory every primary ceases.
pub const LEVEL_JAMMED: u8 = 4;

/// At this level a secondary fetches nothing more, and nothing is copied to it.
pub const LEVEL_NOTHING_FOR_OTHERS: u8 = 3;

/// At this level a secondary gives up logs it has applied itself.
pub const LEVEL_GIVES_UP_LOGS: u8 = 2;

/// The first log behind a hole has a number greater by this than the greatest one known.
const HOLE: u64 = 11;

/// Why logging has to cease, if it has to.
pub fn must_cease(ask: &Ask<'_>) -> Option<Reason> {
    if let Some(progress) = ask.own.logger.progress()
        && let Some(error) = &progress.log_error
    {
        return Some(Reason::Ceased(error.clone()));
    }
    let space = &ask.all.space;
    if space.level >= LEVEL_JAMMED {
        let why = Reason::SpaceLow(space.level).to_string();
        return Some(Reason::Ceased(why));
    }
    let limit = ask.seen.member(ask.seen.here).emergency_limit();
    let percent = space.percent()?;
    (limit > 0 && percent < limit).then(|| {
        let why =
            format!("{percent} % of the state directory is free, emergency-limit is {limit} %");
        Reason::Ceased(why)
    })
}

/// May logging begin again? Not at the first sign of space: it would cease again at once.
fn is_over(ask: &Ask<'_>) -> bool {
    must_cease(ask).is_none() && ask.all.space.level == 0
}

/// Is this host writing past its log, or has it done so without having begun a new one? Also after a crash.
pub fn is_broken(ask: &Ask<'_>) -> bool {
    ask.own.bypassing || is_marked(&ask.seen)
}

/// Does the own replica stand in an own log, with a hole of its own behind it?
fn is_marked(seen: &Seen<'_>) -> bool {
    let Some(at) = seen.replay(seen.here) else {
        return false;
    };
    at.log.creator == *seen.here && own_holes(seen).any(|seq| seq > at.log.seq)
}

/// Numbers of own version links that say: nothing ever was here.
fn own_holes<'a>(seen: &Seen<'a>) -> impl Iterator<Item = u64> + use<'a> {
    let here = seen.here;
    let links = seen.lineage.links();
    let holes = links.filter(move |link| link.log.creator == *here && link.is_hole());
    holes.map(|link| link.log.seq)
}

/// What the logger does in an emergency; `None` when there is none. `role` would let it do `otherwise`.
pub fn logger(
    ask: &Ask<'_>,
    role: &Role,
    cursor: Option<&Cursor>,
    otherwise: impl FnOnce() -> Want<LoggerWant>,
) -> Want<LoggerWant> {
    let needed = ask.own.export.is_some() || ask.own.held || log_is_lost(ask);
    let ceased = must_cease(ask);
    match role {
        // The device is closed, or was never opened: nobody needs a way around the log.
        Role::Leaving(reason) if !needed => Want::Rest(reason.clone()),
        _ if ask.own.held && !ask.own.logger.is_busy() => {
            Want::Rest(ceased.unwrap_or_else(hysteresis))
        }
        Role::Primary | Role::Leaving(_) if ask.own.logger.is_busy() => match ceased {
            Some(reason) => Want::Rest(reason),
            None => otherwise(),
        },
        Role::Primary if is_over(ask) => Want::Run(begin_behind_hole(ask, cursor)),
        Role::Primary | Role::Leaving(_) => Want::Rest(ceased.unwrap_or_else(hysteresis)),
        Role::MayBegin(_) => match (otherwise(), is_marked(&ask.seen), ceased) {
            (Want::Run(_), true, ceased) if !is_over(ask) => {
                Want::Rest(ceased.unwrap_or_else(hysteresis))
            }
            (Want::Run(_), false, Some(reason)) if stands_in_own_log(ask, cursor) => {
                Want::Rest(reason)
            }
            (want, _, _) => want,
        },
        Role::Secondary(_) | Role::NotYetPrimary(_) => otherwise(),
    }
}

/// Can the log not be written any more? What is acknowledged has to go past it then, whatever else happens.
fn log_is_lost(ask: &Ask<'_>) -> bool {
    let progress = ask.own.logger.progress();
    progress.is_some_and(|progress| progress.log_error.is_some())
}

fn hysteresis() -> Reason {
    Reason::Ceased("not enough space yet to begin again".to_owned())
}

fn stands_in_own_log(ask: &Ask<'_>, cursor: Option<&Cursor>) -> bool {
    cursor.is_some_and(|cursor| cursor.at.log.creator == *ask.seen.here && cursor.local.is_some())
}

/// The job of the logger that begins behind the hole.
pub fn begin_behind_hole(ask: &Ask<'_>, cursor: Option<&Cursor>) -> LoggerWant {
    LoggerWant {
        log: LogName::new(first_behind_hole(ask, cursor), ask.seen.here),
        pred: None,
        size: ask.seen.size().unwrap_or(0),
    }
}

/// Behind the hole that is stored, or behind the one that should be. A number under which something was written
/// already is not used again.
fn first_behind_hole(ask: &Ask<'_>, cursor: Option<&Cursor>) -> u64 {
    let seen = &ask.seen;
    let at = cursor.map_or(0, |cursor| cursor.at.log.seq);
    if let Some(seq) = own_holes(seen).filter(|seq| *seq > at).max() {
        let next = LogName::new(seq + 1, seen.here);
        if seen.log_len(&next).is_none_or(|len| len == 0) && !ask.own.logs.contains_key(&next) {
            return seq + 1;
        }
    }
    let known = seen.newest_seq();
    let used = seen.resource().max_nr().unwrap_or(0);
    known.max(used).max(at) + HOLE
}

/// What all must know before the first request goes past the log, and what nobody must believe any more.
pub fn keys(ask: &Ask<'_>, logger: &Want<LoggerWant>, cursor: Option<&Cursor>) -> Vec<KeyChange> {
    if ask.own.logger.is_busy() || is_marked(&ask.seen) {
        return Vec::new();
    }
    if ask.own.bypassing {
        // The mark was deleted by hand: without it the disk would pass for a state of its history.
        let stands = ask.seen.replay(ask.seen.here);
        return match stands.is_some_and(|at| at.log.creator == *ask.seen.here) {
            true => break_history(ask, cursor),
            false => Vec::new(),
        };
    }
    match logger {
        Want::Rest(Reason::Ceased(_)) => break_history(ask, cursor),
        _ => old_holes(ask, cursor),
    }
}

/// A hole as the original makes it: the version link of a log that never existed, and an empty log behind it.
fn break_history(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Vec<KeyChange> {
    let (res, here) = (ask.seen.res, ask.seen.here);
    let seq = first_behind_hole(ask, cursor);
    let hole = VersionLink {
        digest: tree::Digest128::ZERO,
        log: LogName::new(seq - 1, here),
        len: 0,
        pred: None,
    };
    let next = LogName::new(seq, here);
    vec![
        (key::version(res, seq - 1, here), Some(hole.to_string())),
        (key::log(res, &next), Some("0".to_owned())),
        (key::maxnr(res), Some(seq.to_string())),
    ]
}

/// The replica goes on with the history of somebody else: an own hole before it means nothing any more, and must
/// not mean anything when this host is primary again.
fn old_holes(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Vec<KeyChange> {
    let Some(at) = cursor.map(|cursor| &cursor.at.log) else {
        return Vec::new();
    };
    if at.creator == *ask.seen.here {
        return Vec::new();
    }
    let stale = own_holes(&ask.seen).filter(|seq| *seq > at.seq);
    let changes = stale.flat_map(|seq| {
        let (res, here) = (ask.seen.res, ask.seen.here);
        let next = LogName::new(seq + 1, here);
        let unused = ask.seen.log_len(&next) == Some(0) && !ask.own.logs.contains_key(&next);
        let link = (key::version(res, seq, here), None);
        let log = unused.then(|| (key::log(res, &next), None));
        [Some(link), log].into_iter().flatten()
    });
    changes.collect()
}
