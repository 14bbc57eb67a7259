//! Why a worker rests. Every refusal has a name, and operators see its text.

use tree::{Host, LogName, LogPos};

use tree::key::Switch;

/// Why a worker rests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The daemon is going down.
    #[error("the daemon is stopping")]
    Stopping,
    /// This host has no disk for the resource.
    #[error("this host is not a member")]
    NotMember,
    /// Keys tell of a replica, and nothing of it is here.
    #[error(
        "nothing of this resource was ever on this machine, though its keys tell of a replica here: another machine of that name wrote them (invalidate begins anew)"
    )]
    FormerLife,
    /// The operator does not want it.
    #[error("switched off by todo-{}/{}", "<host>", .0.stored_name())]
    SwitchedOff(Switch),
    /// Nobody may write.
    #[error("no primary is designated")]
    NoPrimaryDesignated,
    /// Another host is designated.
    #[error("{0} is designated primary")]
    OtherDesignated(Host),
    /// This host has the role: its log is the source of everything.
    #[error("this host writes the log itself")]
    OwnLog,
    /// This host is about to take the role.
    #[error("this host becomes primary")]
    BecomesPrimary,
    /// The node has just started and has not heard what happened meanwhile.
    #[error("just started: other members have not yet said whether the role moved on")]
    JustStarted,
    /// `replay-<host>` is missing, so nothing is known about the own disk.
    #[error(
        "the own replay position is missing or malformed; invalidate gives a secondary a new one"
    )]
    NoReplayPosition,
    /// The underlying disk is not open.
    #[error("the underlying disk is not open")]
    DiskNotOpen,
    /// The first copy is not complete.
    #[error("the disk is not synced yet")]
    NotSynced,
    /// Records that may be partly on the disk have not been passed yet.
    #[error("replay has not passed {0}, before which the disk is a mixture")]
    Inconsistent(LogPos),
    /// Records are here that have not been applied.
    #[error("{at} is applied, but the log reaches to {end}")]
    NotReplayed {
        /// How far the disk has come.
        at: LogPos,
        /// Length of the log here.
        end: u64,
    },
    /// Records exist that are not here.
    #[error("{log} is here up to {have}, but it reaches to {want}")]
    NotFetched {
        /// The log.
        log: LogName,
        /// Bytes here.
        have: u64,
        /// Bytes elsewhere.
        want: u64,
    },
    /// The host that had the role has not given it back.
    #[error("{host} is still actual primary{}", unless(*.reachable))]
    OtherPrimary {
        /// That host.
        host: Host,
        /// Whether it can be asked.
        reachable: bool,
    },
    /// A host has not said that it knows of the designation and does not write: it may just have begun to, or may yet
    /// begin to, under the one before.
    #[error("{host} has not yet said that it knows who is designated{}", unless(*.reachable))]
    NotToldYet {
        /// That host.
        host: Host,
        /// Whether it can be asked.
        reachable: bool,
    },
    /// The own version link and that of the log's creator disagree.
    #[error("{log} ends at {here} here, but its creator says {there}")]
    VersionsDiffer {
        /// The log.
        log: LogName,
        /// Own length.
        here: u64,
        /// The creator's length.
        there: u64,
    },
    /// The creator's version link is missing.
    #[error("{0} cannot be compared: no version link says what it continues")]
    NoVersion(LogName),
    /// The next log of the same history must be applied first.
    #[error("{0} comes first")]
    FollowsFirst(LogName),
    /// Histories differ: a human has to choose.
    #[error("split brain after {}: {}", place(.after.as_ref()), list(.between))]
    SplitBrain {
        /// The last common place, as far as known here.
        after: Option<LogPos>,
        /// Logs that go on from there, or should have.
        between: Vec<LogName>,
    },
    /// Log numbers are missing: the history is broken.
    #[error(
        "after {at} comes log number {next}: logs between are missing for ever (invalidate heals)"
    )]
    Hole {
        /// Where the own replica stands.
        at: LogPos,
        /// The next number there is.
        next: u64,
    },
    /// The own copy of a log is damaged, and nobody else can help.
    #[error("the log is damaged at {0}")]
    Damaged(LogPos),
    /// The own log of a primary is shorter or damaged now.
    #[error(
        "of the own {log} only {have} bytes are intact, and {host} has told of {want}: the rest is fetched back from who has it (pause-fetch and primary --force go on without)"
    )]
    Lost {
        /// The log.
        log: LogName,
        /// Bytes here.
        have: u64,
        /// Bytes that were durable here once.
        want: u64,
        /// Who says so: a member that has them, or this host before.
        host: Host,
    },
    /// The log is not here.
    #[error("{0} is not here")]
    LogMissing(LogName),
    /// No member that can be reached has what is missing.
    #[error("no reachable member has more of {0}")]
    NoSource(LogName),
    /// Everything is done.
    #[error("nothing left to do")]
    UpToDate,
    /// Another worker has to end first.
    #[error("the {0} has to end first")]
    WaitsFor(&'static str),
    /// There is too little space.
    #[error("too little space in the state directory (level {0})")]
    SpaceLow(u8),
    /// The primary is not able to serve as source.
    #[error("{0} is not actual primary and cannot be the source of a sync")]
    NoSyncSource(Host),
    /// The primary writes past its log, so nothing read there belongs to any log position.
    #[error("{0} has ceased logging and cannot be the source of a sync")]
    SourceCeased(Host),
    /// A secondary does not move to an empty log of a silent primary: it may have crashed.
    #[error("{0} is empty and its primary is silent")]
    EmptyNext(LogName),
    /// Nothing can be logged any more; the application goes on without.
    #[error("logging has ceased, the application goes on without replicas: {0}")]
    Ceased(String),
    /// Writes went past the log, so the own disk is no state of any history.
    #[error("writes went past the log when there was no space for it; invalidate heals")]
    Unlogged,
    /// As many syncs run on this host as the operator allows.
    #[error("{0} syncs may run at a time on this host")]
    SyncLimit(u64),
    /// There is nothing to export.
    #[error("not yet primary: {0}")]
    NotYetPrimary(Box<Reason>),
}

/// What to do about a host that cannot be asked.
fn unless(reachable: bool) -> &'static str {
    match reachable {
        true => "",
        false => {
            " as far as known; it cannot be reached (pause-fetch and primary --force take over without it)"
        }
    }
}

fn place(at: Option<&LogPos>) -> String {
    at.map_or_else(|| "an unknown place".to_owned(), ToString::to_string)
}

fn list(logs: &[LogName]) -> String {
    let names: Vec<String> = logs.iter().map(ToString::to_string).collect();
    names.join(", ")
}
