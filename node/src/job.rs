//! What can a worker be told to do, how does it show how far it is, and how can it end?
//!
//! The contract between the main loop and the workers of the data path. The plan fills in a job;
//! `worker/mod.rs` hands it to the worker together with a [`Site`]; the worker shows its progress
//! in a watch channel and ends with a value. No worker looks at the cluster, no job is changed
//! while it runs: the main loop stops the worker and starts another one, except for the few
//! steering calls of [`LoggerHandle`](crate::worker::logger::LoggerHandle).
//!
//! Positions of logs are logical: offset 0 is the first byte behind the file header.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinHandle;
use tree::{Digest128, Host, LogName, LogPos, ReplayPos, Resource, VersionLink};

use crate::ports::{Keys, Ports};
use crate::watch;
use crate::worker::replica::Replica;
use crate::worker::shelf::Shelf;

/// Where the workers of one resource work: everything which is the same for all its jobs.
/// Cloning is cheap.
#[derive(Clone)]
pub struct Site {
    /// This host.
    pub here: Host,
    /// Id of the cluster as text; it stands in the header of every log (L-C13).
    pub cluster: Arc<str>,
    /// The resource.
    pub res: Resource,
    /// Time, chance, blocking calls, files, network.
    pub ports: Ports,
    /// Where workers write their own progress.
    pub keys: Arc<dyn Keys>,
    /// The log files of this resource on this host.
    pub shelf: Arc<Shelf>,
    /// Where all syncers of this host are counted.
    pub copying: Arc<Copying>,
}

/// What the syncers of this host have under way, for people.
#[derive(Debug, Default)]
pub struct Copying {
    /// Questions to other hosts which are not answered yet.
    pub reading: AtomicU64,
    /// Pieces on their way to an underlying disk.
    pub writing: AtomicU64,
}

/// Counts one more as long as it lives.
pub struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    /// Begins now.
    pub fn new(counter: &'a AtomicU64) -> UnderWay<'a> {
        counter.fetch_add(1, Relaxed);
        UnderWay(counter)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The place where a log ends, with the digest of everything up to there. The pair which version
/// links are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The log.
    pub log: LogName,
    /// Its length in bytes, at a record boundary.
    pub len: u64,
    /// Digest of the whole chain up to there.
    pub digest: Digest128,
}

impl ChainEnd {
    /// `log` up to `end`.
    pub fn new(log: &LogName, end: storage::LogEnd) -> ChainEnd {
        ChainEnd {
            log: log.clone(),
            len: end.len,
            digest: end.digest,
        }
    }

    /// Length and digest alone, as the log itself counts.
    pub fn end(&self) -> storage::LogEnd {
        storage::LogEnd {
            len: self.len,
            digest: self.digest,
        }
    }

    /// What the first half of `link` says.
    pub fn of(link: &VersionLink) -> ChainEnd {
        ChainEnd {
            log: link.log.clone(),
            len: link.len,
            digest: link.digest,
        }
    }

    /// The version link which says: I hold this much, and before it came `pred`.
    pub fn version_link(&self, pred: Option<&ChainEnd>) -> VersionLink {
        VersionLink {
            digest: self.digest,
            log: self.log.clone(),
            len: self.len,
            pred: pred.map(|p| (p.digest, p.log.clone(), p.len)),
        }
    }
}

/// When is a write answered? `logger_completion_semantics` of the original, with the hole in its
/// middle value closed: a flush waits in every mode (data-path reference 1.5, invariant 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// 0: as soon as it is ordered and readable, even when it carries FUA.
    Ordered,
    /// 1: as soon as it is ordered and readable; with FUA when it is durable.
    #[default]
    Asked,
    /// 2: when it is durable.
    Durable,
}

impl Completion {
    /// The number operators know it by; `None` for any other number.
    pub fn from_number(nr: u64) -> Option<Completion> {
        match nr {
            0 => Some(Completion::Ordered),
            1 => Some(Completion::Asked),
            2 => Some(Completion::Durable),
            _ => None,
        }
    }
}

/// Bounds of one logger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggerLimits {
    /// Bytes of acknowledged writes which are not yet on the underlying disk. Writers wait above it.
    pub buffer_bytes_max: u64,
    /// When a write is answered.
    pub completion: Completion,
    /// Writes nobody flushes are made durable after this time at the latest.
    pub unflushed_max: Duration,
    /// Writeback starts at the latest when the oldest buffered write has this age.
    pub writeback_age_max: Duration,
    /// Zeros written ahead of the log.
    pub ahead: storage::AheadOptions,
}

impl Default for LoggerLimits {
    fn default() -> Self {
        LoggerLimits {
            buffer_bytes_max: 1 << 30,
            completion: Completion::default(),
            unflushed_max: Duration::from_millis(50),
            writeback_age_max: Duration::from_secs(10),
            ahead: storage::AheadOptions::default(),
        }
    }
}

/// Be the logger of a primary whose underlying disk holds everything up to the end of `pred`.
#[derive(Clone, Debug)]
pub struct LoggerJob {
    /// The log to create and to write; it must not exist with records in it. Its creator is this host.
    pub log: LogName,
    /// Where the log before it ended; `None` only for the very first log of the resource.
    pub pred: Option<ChainEnd>,
    /// The underlying disk.
    pub replica: Arc<Replica>,
    /// Size of the device in bytes.
    pub size: u64,
    /// Bounds.
    pub limits: LoggerLimits,
}

/// How far replay may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// To the end of the log, as its local copy grows.
    Follow,
    /// Not beyond this offset.
    UpTo(u64),
}

/// Bring the records of one log onto the underlying disk: on a secondary, and on a crashed primary alike.
#[derive(Clone, Debug)]
pub struct ReplayJob {
    /// The log.
    pub log: LogName,
    /// Offset of the first record to apply: `min` of the stored replay position.
    pub start: u64,
    /// Up to here records may have reached the disk already, before a crash.
    pub dirty_end: u64,
    /// The underlying disk.
    pub replica: Arc<Replica>,
    /// How far.
    pub bound: Bound,
}

/// Bring the bytes of one log from another member to the local shelf.
#[derive(Clone, Debug)]
pub struct FetchJob {
    /// The log.
    pub log: LogName,
    /// A member which holds it.
    pub from: Host,
    /// Where the log before it ended, as far as this host knows: the header must agree, and the
    /// own version link is made with it.
    pub pred: Option<ChainEnd>,
    /// The local copy is damaged: fetch all of it again, and replace the old file in one step when
    /// the new one has grown as long as the undamaged part was.
    pub afresh: bool,
}

/// Copy the underlying disk from the primary, while replay goes on.
#[derive(Clone, Debug)]
pub struct SyncJob {
    /// The acting primary.
    pub from: Host,
    /// Everything below is synced already: the stored `syncstatus`.
    pub start: u64,
    /// Where to stop: the size of the resource.
    pub size: u64,
    /// The underlying disk.
    pub replica: Arc<Replica>,
}

/// How a worker ended. The main loop decides what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of the work is done: the log is released, applied to its end, or held completely; the
    /// disk is synced.
    Done(Option<ChainEnd>),
    /// Replay is at its bound, or at the last record before it.
    Reached(LogPos),
    /// It was told to stop, and everything it did is settled.
    Stopped,
    /// The local copy of a log is not what was written. Nothing from `at` on was used.
    Damaged {
        /// File and offset of the first bad record.
        at: LogPos,
        /// What is wrong with it.
        error: String,
    },
    /// What the peer has is not the log of this resource, or does not continue what this host holds.
    /// Another try with the same peer will not help.
    Foreign {
        /// The peer.
        from: Host,
        /// What differs.
        error: String,
    },
    /// The peer cannot be reached, went away, or does not (yet) have what is needed. Waiting may help.
    Lost {
        /// The peer.
        from: Host,
        /// What it said, or what the network said.
        error: String,
    },
    /// The peer can be reached, but does not hold what is needed, or cannot read it.
    Refused {
        /// The peer.
        from: Host,
        /// The log it was asked for.
        log: LogName,
        /// What it said.
        error: String,
    },
    /// The underlying disk refused.
    DiskFailed(String),
    /// A log file could not be written or read; for the logger: nothing goes into the log any more.
    LogFailed(String),
    /// Own keys could not be stored durably.
    KeysFailed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Done(Some(end)) => write!(f, "done at {}@{}", end.log, end.len),
            Ended::Done(None) => write!(f, "done"),
            Ended::Reached(at) => write!(f, "reached {at}"),
            Ended::Stopped => write!(f, "stopped"),
            Ended::Damaged { at, error } => write!(f, "damaged at {at}: {error}"),
            Ended::Foreign { from, error } => write!(f, "{from} has something else: {error}"),
            Ended::Lost { from, error } => write!(f, "{from} is lost: {error}"),
            Ended::Refused { from, log, error } => write!(f, "{from} does not give {log}: {error}"),
            Ended::DiskFailed(error) => write!(f, "disk failed: {error}"),
            Ended::LogFailed(error) => write!(f, "log failed: {error}"),
            Ended::KeysFailed(error) => write!(f, "keys cannot be stored: {error}"),
        }
    }
}

/// What a logger shows while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggerProgress {
    /// Durable end of the log which is being written. Every byte below may leave the host.
    pub durable: ChainEnd,
    /// What it continues.
    pub pred: Option<ChainEnd>,
    /// What would have to be replayed after a crash right now; at most 2 s older than the truth.
    pub replay: ReplayPos,
    /// Acknowledged bytes not yet on the underlying disk.
    pub buffered_bytes: u64,
    /// Bytes of requests since the start.
    pub written_bytes: u64,
    /// Bytes moved from the buffer to the underlying disk since the start.
    pub written_back_bytes: u64,
    /// A rotation which was asked for and is not yet complete, and when it began (monotonic time).
    pub rotating: Option<(LogName, Duration)>,
    /// The log cannot be written any more: requests go on until the buffer is full, nothing becomes durable.
    pub log_error: Option<String>,
    /// The underlying disk refuses writes: they stay in the buffer and are tried again.
    pub disk_error: Option<String>,
    /// A flush of the underlying disk has failed: what it holds is unknown, and nothing is answered any more until
    /// it is attached again and the log was replayed (invariants 2 and 41).
    pub disk_lost: bool,
    /// Own keys cannot be stored: no rotation gets on until they can (L-A4, L-A5).
    pub keys_error: Option<String>,
}

/// What a replayer shows while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayProgress {
    /// End of the last record on the disk.
    pub applied: LogPos,
    /// The replay position as it is stored.
    pub stored: ReplayPos,
    /// Bytes of log applied since the start.
    pub applied_bytes: u64,
    /// Records in these.
    pub applied_records: u64,
    /// Everything that is here and allowed is applied; waiting for more.
    pub idle: bool,
}

/// What a fetcher shows while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    /// Durable and checked end of the local copy.
    pub durable: ChainEnd,
    /// How much the source had durable when it last said so.
    pub source_len: u64,
    /// Bytes received since the start.
    pub received_bytes: u64,
    /// Pieces in which they came.
    pub received_pieces: u64,
}

/// What a syncer shows while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncProgress {
    /// Everything below is the same as at the source, or was. Not yet necessarily durable.
    pub synced: u64,
    /// Bytes found equal since the start.
    pub equal_bytes: u64,
    /// Bytes found different and copied since the start.
    pub copied_bytes: u64,
    /// Pieces in which this was done.
    pub chunks: u64,
    /// Replay has to pass this place before the replica is consistent.
    pub consistent_after: Option<LogPos>,
}

impl ReplayJob {
    /// What a replayer shows before it has done anything.
    pub fn first_progress(&self) -> ReplayProgress {
        ReplayProgress {
            applied: self.log.at(self.start),
            stored: ReplayPos {
                log: self.log.clone(),
                offset: self.start,
                dirty: self.dirty_end.saturating_sub(self.start),
            },
            applied_bytes: 0,
            applied_records: 0,
            idle: false,
        }
    }
}

impl FetchJob {
    /// What a fetcher shows before it has done anything.
    pub fn first_progress(&self) -> FetchProgress {
        FetchProgress {
            durable: ChainEnd {
                log: self.log.clone(),
                len: 0,
                digest: Digest128::ZERO,
            },
            source_len: 0,
            received_bytes: 0,
            received_pieces: 0,
        }
    }
}

impl SyncJob {
    /// What a syncer shows before it has done anything.
    pub fn first_progress(&self) -> SyncProgress {
        SyncProgress {
            synced: self.start,
            equal_bytes: 0,
            copied_bytes: 0,
            chunks: 0,
            consistent_after: None,
        }
    }
}

/// A worker in a task of its own. Dropping it ends the worker at once, as a crash would.
#[derive(Debug)]
pub struct Running<P> {
    progress: watch::Receiver<P>,
    hand: StopSwitch,
    task: JoinHandle<Ended>,
}

impl<P> Running<P> {
    /// Starts `work`, which is given its stop and the channel for its progress.
    pub fn spawn<F>(first: P, work: impl FnOnce(Stop, watch::Sender<P>) -> F) -> Running<P>
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let (hand, stop) = StopSwitch::new();
        let (tell, progress) = watch::channel(first);
        let task = tokio::spawn(work(stop, tell));
        Running {
            progress,
            hand,
            task,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<P> {
        self.progress.clone()
    }

    /// Tells it to come to an end; [`Running::ended`] says when it has.
    pub fn stop(&self) {
        self.hand.stop();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for its end. To be called once.
    pub async fn ended(&mut self) -> Ended {
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ended::Stopped,
        }
    }
}

impl<P> Drop for Running<P> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The hand on the switch: [`Stop`] listens to it. Dropping it stops too.
#[derive(Debug)]
pub struct StopSwitch(watch::Sender<bool>);

/// Tells a worker to come to an end. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl StopSwitch {
    /// A switch which is not thrown, and its listener.
    pub fn new() -> (StopSwitch, Stop) {
        let (hand, ear) = watch::channel(false);
        (StopSwitch(hand), Stop(ear))
    }

    /// Throws it. Doing so again changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Has it been thrown?
    pub fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until it is thrown.
    pub async fn wait(&mut self) {
        // An error says that the hand is gone, which stops as well.
        let _ = self.0.wait_for(|thrown| *thrown).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_seen_whether_it_is_thrown_or_its_hand_is_dropped() {
        let (hand, ear) = StopSwitch::new();
        assert!(!ear.is_set());
        hand.stop();
        assert!(ear.is_set());

        let (hand, ear) = StopSwitch::new();
        drop(hand);
        assert!(ear.is_set());
    }
}
