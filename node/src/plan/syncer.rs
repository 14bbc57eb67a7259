//! When should this host copy the disk of the primary?
//!
//! While `syncstatus` is below the size, from the actual primary only: it answers through its
//! write buffer and says at which log position it read. Replay goes on meanwhile.
//!
//! Manual: "Fast Full Sync"; main-loop reference 4.12, invariants 33 to 38.

use tree::key::{self, Switch};
use tree::view::ClusterView;
use tree::{Host, LogName};

use super::cursor::{self, Cursor, Next};
use super::{Ask, Reason, SyncWant, Want, emergency};

/// The syncer this host should have, or why it should have none.
pub fn want(ask: &Ask<'_>) -> Want<SyncWant> {
    match decide(ask) {
        Ok(job) => Want::Run(job),
        Err(reason) => Want::Rest(reason),
    }
}

fn decide(ask: &Ask<'_>) -> Result<SyncWant, Reason> {
    let seen = &ask.seen;
    if ask.all.stopping {
        return Err(Reason::Stopping);
    }
    if !seen.is_member(seen.here) {
        return Err(Reason::NotMember);
    }
    if seen.is_synced(seen.here) {
        return Err(Reason::UpToDate);
    }
    let size = seen.size().ok_or(Reason::NotMember)?;
    let start = seen.sync_status(seen.here).ok_or(Reason::NotSynced)?;
    for switch in [Switch::Attach, Switch::Sync] {
        if !ask.todo(switch) {
            return Err(Reason::SwitchedOff(switch));
        }
    }
    let from = seen
        .designated_primary()
        .ok_or(Reason::NoPrimaryDesignated)?;
    if from == *seen.here || ask.own.writes() {
        return Err(Reason::OwnLog);
    }
    let emergency = key::actual(seen.res, &from, "is-emergency");
    if seen.tree.text(emergency.as_str()) == Some("1") {
        // What is written there now is in no log: no sync could ever become consistent.
        return Err(Reason::SourceCeased(from));
    }
    if !seen.is_actual_primary(&from) || !ask.all.connected.contains(&from) {
        return Err(Reason::NoSyncSource(from));
    }
    if ask.all.space.level >= emergency::LEVEL_NOTHING_FOR_OTHERS {
        return Err(Reason::SpaceLow(ask.all.space.level));
    }
    let others = ask
        .all
        .syncing
        .iter()
        .filter(|res| *res != seen.res)
        .count();
    if let Some(limit) = ClusterView::new(seen.tree).sync_limit(seen.here)
        && others as u64 >= limit
    {
        return Err(Reason::SyncLimit(limit));
    }
    // A sync would not help: the logs needed afterwards belong to another history.
    let place = cursor::look(ask).ok_or(Reason::NoReplayPosition)?;
    if let Some(fork) = cursor::fork_of(Some(&place)) {
        return Err(fork.clone());
    }
    if let Next::Hole(reason) = &place.next {
        return Err(reason.clone());
    }
    leads_to(ask, &place, &from)?;
    if ask.own.disk_bytes.is_none() {
        return Err(Reason::DiskNotOpen);
    }
    Ok(SyncWant { from, start, size })
}

/// Does the history of the source go through the log the own replica stands in? Its blocks would otherwise be made whole with logs of
/// another history; links that do not tell are no permission. `invalidate` takes the place of the primary of now.
fn leads_to(ask: &Ask<'_>, place: &Cursor, from: &Host) -> Result<(), Reason> {
    let history = ask.lineage.history(from);
    let has = |log: &LogName| history.get(&log.seq).is_some_and(|found| found.log == *log);
    let leads = match &place.next {
        Next::Ready { log, .. } => has(log) || has(&place.at.log),
        _ => has(&place.at.log),
    };
    if leads {
        return Ok(());
    }
    let newest = history.values().next_back();
    let between = newest.map(|segment| segment.log.clone());
    Err(Reason::SplitBrain {
        after: None,
        between: [place.at.log.clone()].into_iter().chain(between).collect(),
    })
}
