//! What does this host know besides the key tree?
//!
//! Filled by the main loop right before it decides: which log files lie here and how long they are,
//! which workers run and how the last ones ended, who has a device open, who can be reached, how
//! much space is left. Plain values only, so that a test can write them down.

use std::collections::{BTreeMap, BTreeSet};

use tree::{Digest128, Host, LogName, LogPos, Resource};

use crate::job::{ChainEnd, Ended, FetchProgress, LoggerProgress, ReplayProgress, SyncProgress};

/// Everything this host knows besides the tree.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Time of day in nanoseconds since 1970, for the age of heartbeats.
    pub now_ns: u64,
    /// Monotonic time, for the age of steps that should not take long.
    pub mono: std::time::Duration,
    /// Resources that sync to this host now.
    pub syncing: BTreeSet<Resource>,
    /// The daemon is going down: everything rests.
    pub stopping: bool,
    /// Every member that can be reached has told all it knew when this node started, or the time
    /// for that is over. Before, this host must not become actual primary nor replay own logs:
    /// the role may have moved on (requirement L-D6, weakness 12 of the original).
    pub grace_over: bool,
    /// Peers with a working exchange of keys.
    pub connected: BTreeSet<Host>,
    /// Space left in the state directory.
    pub space: SpaceFacts,
    /// The resources somebody here works for.
    pub resources: BTreeMap<Resource, ResourceFacts>,
}

/// Space left in the state directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceFacts {
    /// Level of emergency, 0 to 4.
    pub level: u8,
    /// Bytes above the sum of all reserves.
    pub rest: u64,
    /// Bytes of the file system without the reserves.
    pub total: u64,
}

impl SpaceFacts {
    /// Share of `total` that is left, in percent; `None` while nothing is known.
    pub fn percent(&self) -> Option<u64> {
        (self.total > 0).then(|| self.rest.saturating_mul(100) / self.total)
    }

    /// Would every decision be the same with `other`? Every write uses a few bytes; that alone need not wake anybody.
    pub fn means_the_same_as(&self, other: &SpaceFacts) -> bool {
        self.level == other.level && self.percent() == other.percent()
    }
}

/// What this host knows about one resource.
#[derive(Clone, Debug, Default)]
pub struct ResourceFacts {
    /// Log files lying here.
    pub logs: BTreeMap<LogName, LocalLog>,
    /// Size of the underlying disk in bytes, while it is open.
    pub disk_bytes: Option<u64>,
    /// Why the underlying disk could not be opened, as a negative error number with its text.
    pub disk_error: Option<(i32, String)>,
    /// The worker which appends to the own log.
    pub logger: Slot<LoggerProgress>,
    /// The worker which applies logs.
    pub replayer: Slot<ReplayProgress>,
    /// The worker which brings logs.
    pub fetcher: Slot<FetchProgress>,
    /// The worker which copies the disk.
    pub syncer: Slot<SyncProgress>,
    /// The device as applications see it; `None` when there is none.
    pub export: Option<ExportFacts>,
    /// Peers that failed as a source of logs not long ago.
    pub avoid: BTreeSet<Host>,
    /// Who said lately that it cannot give which log, or sent something else for it.
    pub refused: BTreeSet<(LogName, Host)>,
    /// This host writes past the log since it cannot be written.
    pub bypassing: bool,
    /// Requests of applications wait at the device, because one way of writing ends and another one begins.
    pub held: bool,
    /// Nothing of the resource was ever in the state directory, and no command has begun a replica since.
    pub doubtful: bool,
    /// How fast the workers are.
    pub rates: Rates,
    /// What applications wait for.
    pub device: DeviceFacts,
}

/// Throughput in KiB, or in pieces of work, per second over the last few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Applied log.
    pub replay_kib: u64,
    /// Fetched log.
    pub fetch_kib: u64,
    /// Records of log applied, per second.
    pub replay_ops: u64,
    /// Pieces of log received, per second.
    pub fetch_ops: u64,
    /// Pieces of disk compared or copied, per second.
    pub sync_ops: u64,
    /// Compared and copied disk.
    pub sync_kib: u64,
    /// Read and written by applications.
    pub device_kib: u64,
    /// Requests of applications answered, per second.
    pub device_ops: u64,
    /// Moved from the write buffer to the underlying disk.
    pub writeback_kib: u64,
}

/// What applications wait for at the device, looked at every few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Requests under way.
    pub flying: u64,
    /// When a request was answered last, or the first of those under way was seen, in nanoseconds since 1970; 0 is never.
    pub moved_ns: u64,
    /// Error number of the last request when the device failed; 0 when it works.
    pub error: u32,
}

impl ResourceFacts {
    /// Does this host take writes of applications, logged or not?
    pub fn writes(&self) -> bool {
        self.logger.is_busy() || self.bypassing || self.held
    }
}

/// One log file lying here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLog {
    /// Durable, checked bytes at a record boundary.
    pub len: u64,
    /// Digest of the chain up to there; `None` when it cannot be known, as what lies before is damaged.
    pub digest: Option<Digest128>,
    /// The creator's seal is there: it will not grow any more.
    pub sealed: bool,
    /// First place at which the bytes are not what was written.
    pub damaged: Option<LogPos>,
}

impl LocalLog {
    /// Where what is here of `log` ends, if the digest there is known.
    pub fn end(&self, log: &LogName) -> Option<ChainEnd> {
        Some(ChainEnd {
            log: log.clone(),
            len: self.len,
            digest: self.digest?,
        })
    }
}

/// The device as applications see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportFacts {
    /// Clients that have it open.
    pub opens: u64,
    /// It takes no new clients.
    pub closing: bool,
}

/// The place of one worker: at most one of its kind runs for a resource.
#[derive(Clone, Debug)]
pub enum Slot<P> {
    /// Nobody works; how the last one ended.
    Empty {
        /// `None` before the first one.
        last: Option<Ended>,
    },
    /// Somebody works.
    Busy {
        /// On which log; `None` for the syncer.
        log: Option<LogName>,
        /// With which peer.
        peer: Option<Host>,
        /// How far it is; nothing before its first report.
        progress: Option<P>,
        /// It was told to stop and has not ended yet.
        stopping: bool,
    },
}

impl<P> Default for Slot<P> {
    fn default() -> Self {
        Slot::Empty { last: None }
    }
}

impl<P> Slot<P> {
    /// Does somebody work, or wind up its work?
    pub fn is_busy(&self) -> bool {
        matches!(self, Slot::Busy { .. })
    }

    /// How far the worker is, if there is one.
    pub fn progress(&self) -> Option<&P> {
        match self {
            Slot::Busy { progress, .. } => progress.as_ref(),
            Slot::Empty { .. } => None,
        }
    }

    /// On which log somebody works.
    pub fn log(&self) -> Option<&LogName> {
        match self {
            Slot::Busy { log, .. } => log.as_ref(),
            Slot::Empty { .. } => None,
        }
    }

    /// How the last worker ended, if none works now.
    pub fn last(&self) -> Option<&Ended> {
        match self {
            Slot::Empty { last } => last.as_ref(),
            Slot::Busy { .. } => None,
        }
    }
}
