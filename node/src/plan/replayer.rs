//! When should this host apply logs to its disk, which one, and how far?
//!
//! On a secondary the replayer follows a log as it grows. On a former primary it repeats the own
//! last log after a crash, up to its end and no further than where others went on from it: what
//! lies behind such a place is a dead branch and is never replayed (requirement L-D6).
//!
//! Manual: "The Transaction Log Replayer"; main-loop reference 4.11, invariants 16, 19.

use tree::key::Switch;

use super::cursor::{self, Cursor, Next};
use super::role::Role;
use super::{Ask, Reason, ReplayWant, Want, emergency};
use crate::job::Bound;

/// The replayer this host should have, or why it should have none.
pub fn want(ask: &Ask<'_>, role: &Role, cursor: Option<&Cursor>) -> Want<ReplayWant> {
    match may_run(ask, role) {
        Err(reason) => Want::Rest(reason),
        Ok(()) => match cursor {
            None => Want::Rest(Reason::NoReplayPosition),
            Some(cursor) => on_log(ask, cursor),
        },
    }
}

fn may_run(ask: &Ask<'_>, role: &Role) -> Result<(), Reason> {
    if ask.all.stopping {
        return Err(Reason::Stopping);
    }
    if !ask.seen.is_member(ask.seen.here) {
        return Err(Reason::NotMember);
    }
    if ask.own.writes() {
        return Err(Reason::OwnLog);
    }
    if let Role::MayBegin(_) = role {
        return Err(Reason::BecomesPrimary);
    }
    if emergency::is_broken(ask) {
        // The disk is newer than what the logs have, also after a crash.
        return Err(Reason::Unlogged);
    }
    for switch in [Switch::Attach, Switch::Replay] {
        if !ask.todo(switch) {
            return Err(Reason::SwitchedOff(switch));
        }
    }
    if ask.own.disk_bytes.is_none() {
        return Err(Reason::DiskNotOpen);
    }
    Ok(())
}

fn on_log(ask: &Ask<'_>, cursor: &Cursor) -> Want<ReplayWant> {
    let log = &cursor.at.log;
    let own = log.creator == *ask.seen.here;
    if own && !ask.all.grace_over {
        return Want::Rest(Reason::JustStarted);
    }
    let Some(local) = &cursor.local else {
        return Want::Rest(Reason::LogMissing(log.clone()));
    };
    if let Next::Fork(reason) = &cursor.next
        && cursor.at.offset >= cursor.end
    {
        return Want::Rest(reason.clone());
    }
    if let Some(damage) = &local.damaged
        && cursor.at.offset >= cursor.end
    {
        return Want::Rest(Reason::Damaged(damage.clone()));
    }
    let grows = !own && !local.sealed && matches!(cursor.next, Next::Open | Next::After { .. });
    if !grows && cursor.is_applied() {
        return Want::Rest(rest_at_end(ask, cursor));
    }
    let bound = if grows {
        Bound::Follow
    } else {
        Bound::UpTo(cursor.end)
    };
    Want::Run(ReplayWant {
        log: log.clone(),
        start: cursor.at.offset,
        dirty_end: cursor.at.dirty_end().offset,
        bound,
    })
}

/// The log is final and applied: what is missing for the next one?
fn rest_at_end(ask: &Ask<'_>, cursor: &Cursor) -> Reason {
    match cursor::may_follow(ask, cursor) {
        Ok(next) => Reason::FollowsFirst(next),
        Err(reason) => reason,
    }
}
