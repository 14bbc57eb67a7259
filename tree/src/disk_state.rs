//! What a replica is worth: the disk state as `marsadm view-diskstate` shows it, and the amounts behind it.
//!
//! Reads the tree and a few facts about one host which are not in the tree ([`DiskFacts`]). Nothing is ever
//! called up to date that is not: wherever a value is missing, the worse state is told.
//!
//! Manual: "marsadm view", macros `diskstate`, `is-consistent`, `work-reached`.

use std::collections::BTreeMap;
use std::fmt;

use crate::key::Switch;
use crate::keys::Key;
use crate::log_name::LogName;
use crate::name::Host;
use crate::value::ReplayPos;
use crate::view::{MemberView, ResourceView};

/// What the tree does not tell about one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// Is the underlying disk there?
    pub disk_present: bool,
    /// Durable length in bytes of every log of the resource that this host holds.
    pub held: BTreeMap<LogName, u64>,
}

/// State of one replica. The worst that applies is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// The host has no disk for the resource.
    NotJoined,
    /// The disk is not there.
    NotPresent,
    /// Switched off, but still in use.
    Detaching,
    /// Switched off.
    Detached,
    /// The log ends inside a record.
    IncompleteLog,
    /// The log has a place that was never written.
    UninitializedLogRecord,
    /// The log is damaged.
    DefectiveLog,
    /// The log that is to be replayed next is gone: only `invalidate` helps.
    Orphan,
    /// Switched on, but not in use.
    NoAttach,
    /// The disk is no state of the past.
    Inconsistent,
    /// At the primary: so many bytes are in the log, but not on the disk.
    WriteBack(u64),
    /// At the designated primary, before the device appears: so many bytes of log are to be replayed.
    Recovery(u64),
    /// A true state of the past.
    Outdated {
        /// There is more to fetch.
        fetch: bool,
        /// There is more to replay.
        replay: bool,
    },
    /// The designated primary does not log at present.
    EmergencyMode,
    /// Everything that was written is on the disk.
    UpToDate,
}

/// How much of the chain of logs a member has behind it and before it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Replayed, counted from the oldest log that is still known.
    pub replayed: u64,
    /// Replayed plus what is here and can be replayed.
    pub fetched: u64,
    /// Replayed plus all that is known to exist.
    pub written: u64,
}

/// `replay-code` of a log that ends inside a record.
const INCOMPLETE_CODE: i64 = -85;
/// `replay-code` of a log with a place that was never written.
const UNINITIALIZED_CODE: i64 = -56;

impl Amounts {
    /// Counts for the member `member`, which holds the logs `held`.
    pub fn of(member: &MemberView<'_>, held: &BTreeMap<LogName, u64>) -> Amounts {
        let Some(replay) = member.replay() else {
            return Amounts::default();
        };
        let here = lengths(held.iter().map(|(log, len)| (log.seq, *len)));
        let known = known_lengths(&member.resource(), &here);
        let behind = (0..replay.log.seq).rev().map_while(|seq| known.get(&seq));
        let replayed = behind.fold(replay.offset, |sum, len| sum.saturating_add(*len));
        Amounts {
            replayed,
            fetched: replayed.saturating_add(before(&replay, &here)),
            written: replayed.saturating_add(before(&replay, &known)),
        }
    }

    /// Known, but not replayed.
    pub fn rest(&self) -> u64 {
        self.written.saturating_sub(self.replayed)
    }
}

/// Bytes before a replay position, by the lengths of the logs.
fn before(replay: &ReplayPos, lengths: &BTreeMap<u64, u64>) -> u64 {
    let current = lengths.get(&replay.log.seq).copied().unwrap_or(0);
    let rest = current.saturating_sub(replay.offset).max(replay.dirty);
    let later = (replay.log.seq + 1..).map_while(|seq| lengths.get(&seq));
    later.fold(rest, |sum, len| sum.saturating_add(*len))
}

/// Greatest known length of every log number: local copies, published lengths, version links of all hosts.
fn known_lengths(res: &ResourceView<'_>, here: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let published = res.logs().into_iter().map(|(log, len)| (log.seq, len));
    let versions = res
        .versions()
        .into_values()
        .map(|link| (link.log.seq, link.len));
    let here = here.iter().map(|(seq, len)| (*seq, *len));
    lengths(here.chain(published).chain(versions))
}

fn lengths(all: impl Iterator<Item = (u64, u64)>) -> BTreeMap<u64, u64> {
    let mut longest = BTreeMap::new();
    for (seq, len) in all {
        let held: &mut u64 = longest.entry(seq).or_default();
        *held = (*held).max(len);
    }
    longest
}

impl MemberView<'_> {
    /// Is the first copy complete, and has replay passed everything that any copied block may contain?
    pub fn is_synced(&self) -> bool {
        let passed = |barrier: ReplayPos| {
            self.replay()
                .is_some_and(|replay| replay.clean() >= barrier.clean())
        };
        !self.needs_sync()
            && self
                .sync_barrier()
                .is_none_or(|barrier| barrier.is_some_and(passed))
    }

    /// Is the disk a state of the past? At an actual primary that needs everything written back.
    pub fn is_consistent(&self) -> bool {
        let Some(replay) = self.replay() else {
            return false;
        };
        let primary = self.on(Key::IsPrimary);
        self.is_synced() && (!primary || replay.dirty == 0)
    }

    /// Is the log gone that would have to be replayed next? Never so at the actual primary.
    pub fn is_orphan(&self, held: &BTreeMap<LogName, u64>) -> bool {
        if self.on(Key::IsPrimary) {
            return false;
        }
        let Some(replay) = self.replay() else {
            return true;
        };
        held.get(&replay.log).is_none_or(|len| *len < replay.offset)
    }

    /// What the replica of this member is worth.
    pub fn disk_state(&self, facts: &DiskFacts) -> DiskState {
        if self.disk().is_none() {
            return DiskState::NotJoined;
        }
        if !facts.disk_present {
            return DiskState::NotPresent;
        }
        if !self.todo(Switch::Attach) {
            let busy = self.actual(Switch::Attach);
            return if busy {
                DiskState::Detaching
            } else {
                DiskState::Detached
            };
        }
        match self.replay_code().map_or(0, |code| code.code) {
            INCOMPLETE_CODE => return DiskState::IncompleteLog,
            UNINITIALIZED_CODE => return DiskState::UninitializedLogRecord,
            ..0 => return DiskState::DefectiveLog,
            0.. => {}
        }
        if self.is_orphan(&facts.held) {
            return DiskState::Orphan;
        }
        if !self.actual(Switch::Attach) {
            return DiskState::NoAttach;
        }
        self.attached_state(&facts.held)
    }

    /// The same for a disk that is in use and has a sound log.
    fn attached_state(&self, held: &BTreeMap<LogName, u64>) -> DiskState {
        let res = self.resource();
        let amounts = Amounts::of(self, held);
        let complete = amounts.rest() == 0;
        if !self.is_consistent() || !complete {
            let designated = res.is_designated_primary(self.host());
            return match (designated, self.on(Key::IsPrimary)) {
                (true, true) => DiskState::WriteBack(amounts.rest()),
                (true, false) => DiskState::Recovery(amounts.rest()),
                (false, _) if !self.is_consistent() => DiskState::Inconsistent,
                (false, _) => DiskState::Outdated {
                    fetch: amounts.fetched < amounts.written,
                    replay: amounts.replayed < amounts.fetched,
                },
            };
        }
        let emergency = |primary: Host| res.member(&primary).on(Key::HasEmergency);
        match res.designated_primary().is_some_and(emergency) {
            true => DiskState::EmergencyMode,
            false => DiskState::UpToDate,
        }
    }
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            DiskState::NotJoined => "NotJoined",
            DiskState::NotPresent => "NotPresent",
            DiskState::Detaching => "Detaching",
            DiskState::Detached => "Detached",
            DiskState::IncompleteLog => "IncompleteLog",
            DiskState::UninitializedLogRecord => "UnInitializedLogRecord",
            DiskState::DefectiveLog => "DefectiveLog",
            DiskState::Orphan => "Orphan",
            DiskState::NoAttach => "NoAttach",
            DiskState::Inconsistent => "InConsistent",
            DiskState::WriteBack(bytes) => return write!(f, "WriteBack[{bytes}]"),
            DiskState::Recovery(bytes) => return write!(f, "Recovery[{bytes}]"),
            DiskState::Outdated { fetch, replay } => {
                let fetch = if *fetch { "F" } else { "" };
                let replay = if *replay { "R" } else { "" };
                return write!(f, "OutDated[{fetch}{replay}]");
            }
            DiskState::EmergencyMode => "EmergencyMode",
            DiskState::UpToDate => "UpToDate",
        };
        f.write_str(name)
    }
}
