//! Does what the keys say about the own replica hold for what lies here?
//!
//! A machine was lost, and an empty one got its name. From its peers it learns what it said in its former life: that its disk is
//! complete up to some position, perhaps that it is primary. Of the disk it finds now nothing of that is known. So a host
//! whose keys tell of a replica, but which has never had anything of that resource in its state directory, touches nothing,
//! offers nothing and gives no word about who writes, until a command makes the replica a new one: `invalidate`, or
//! `leave-resource` and `join-resource`. A state directory that is not mounted looks the same.
//!
//! Promise: nothing is called up to date that is not. Invariants 16, 29, 33.

use super::seen::Seen;
use super::{Ask, Reason, ResourcePlan, Want};

/// Do the keys tell of a replica that has a past? Not when all of it is still to be copied, nor when it stands at the beginning of
/// an own log and nothing has ever been logged: then it begins here. Keys which are not there yet may still arrive.
pub fn has_past(seen: &Seen<'_>) -> bool {
    let is_empty = seen.member(seen.here).sync_status() == Some(0);
    let lens = || seen.logs().map(|log| seen.log_len(log));
    let is_first = seen.replay(seen.here).is_some_and(|at| {
        at.log.creator == *seen.here
            && seen.log_len(&at.log) == Some(0)
            && lens().all(|len| len == Some(0))
    });
    seen.is_member(seen.here) && !is_empty && !is_first
}

/// Is nothing here to be believed?
pub fn stands(ask: &Ask<'_>) -> bool {
    ask.own.doubtful && has_past(&ask.seen)
}

/// Everything rests.
pub fn rest() -> ResourcePlan {
    ResourcePlan {
        disk: Want::Rest(Reason::FormerLife),
        logger: Want::Rest(Reason::FormerLife),
        replayer: Want::Rest(Reason::FormerLife),
        fetcher: Want::Rest(Reason::FormerLife),
        syncer: Want::Rest(Reason::FormerLife),
        export: Want::Rest(Reason::FormerLife),
        steps: Vec::new(),
        finished: Vec::new(),
        reopened: None,
        drop_logs: Vec::new(),
        keys: Vec::new(),
        indicators: Vec::new(),
        in_doubt: true,
    }
}
