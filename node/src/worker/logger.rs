//! The logger: makes a device out of an underlying disk and a chain of transaction logs.
//!
//! ```text
//!            device.rs          pump.rs                writeback.rs         publish.rs
//! requests ─► order in core ─► append + flush ─► sorted, coalesced ─► flush the disk, then
//!            (core.rs)          in the log            to the disk            store the position
//! ```
//!
//! A few tasks around one [`Core`]: one writes the log, one writes back, one publishes how far both
//! are. A plain write takes the lock, is ordered and is answered; nothing else happens on its way. The main loop starts
//! it when this host may be primary and the disk holds everything before; it decides on rotation and release, never this file.
//!
//! Manual: "The Transaction Logger". Data-path reference 1; lessons L-A1 to L-A5.

mod ahead;
mod core;
mod device;
mod publish;
mod pump;
mod writeback;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use storage::{LogHeader, LogWriter, ZeroAhead};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tree::LogName;

pub use self::core::Rest;
use self::core::{Core, Gate};
use self::device::LoggerDevice;
use self::publish::Published;
use crate::export::Device;
use crate::job::{ChainEnd, Ended, LoggerJob, LoggerLimits, LoggerProgress, Site};
use crate::ports::{Lane, blocking};
use crate::watch;
use crate::worker::replica::Replica;
use crate::worker::source::SyncSource;

/// How often a release tries again when the underlying disk refuses.
const RELEASE_DISK_ERRORS_MAX: u32 = 3;

/// A client's thread that writes the log is waited for so long. It does so only where flushes take less than a millisecond.
const CLAIM_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// A running logger. Dropping it ends it at once, as a crash would.
pub struct LoggerHandle {
    shared: Arc<Shared>,
    progress: watch::Receiver<LoggerProgress>,
    tasks: JoinSet<()>,
}

/// Why a logger does not rotate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateRefused {
    /// One rotation at a time, so that at most one log number is ever in doubt (L-A4).
    #[error("still rotating into {0}")]
    Busy(LogName),
    /// The name does not follow the log which is being written.
    #[error("{wanted} does not follow {current}")]
    NotNext {
        /// What was asked for.
        wanted: LogName,
        /// What is being written.
        current: LogName,
    },
    /// The logger takes no more changes.
    #[error("the logger is being released, or its log has failed")]
    NotOpen,
}

/// What the tasks of one logger share.
struct Shared {
    site: Site,
    replica: Arc<Replica>,
    limits: LoggerLimits,
    core: Mutex<Core>,
    /// The log being written; used on [`Lane::Log`], or by a thread that has claimed a batch ([`Core::claim`]).
    writer: Mutex<LogWriter>,
    /// How long a flush of the log takes, smoothed, in microseconds.
    flush_us: AtomicU64,
    /// Writes zeros in front of it.
    ahead: Mutex<ZeroAhead>,
    /// Calls the task that writes the log.
    log_call: Notify,
    /// Calls the task that writes back.
    disk_call: Notify,
    /// Calls the task that publishes.
    publish_call: Notify,
    /// Calls the task that writes zeros ahead.
    ahead_call: Notify,
    /// The log which the main loop wants to be next.
    wanted_next: watch::Sender<Option<LogName>>,
    /// What is stored in the key tree. Held while own keys are computed and stored, so that they never go back.
    published: tokio::sync::Mutex<Published>,
    progress: watch::Sender<LoggerProgress>,
    /// The final end of the last log, once it is sealed.
    released: watch::Sender<Option<ChainEnd>>,
}

/// Creates the log and makes its keys durable (L-A1, L-A8), then opens the device.
///
/// # Errors
/// How it ended before it began.
pub async fn start_logger(job: LoggerJob, site: Site) -> Result<LoggerHandle, Ended> {
    let writer = create_log(&site, &job.log, job.pred.as_ref(), &job.limits).await?;
    let durable = ChainEnd::new(&job.log, writer.durable());
    let published = Published::first(durable, job.pred);
    let keys = published.all_keys(&site);
    let stored = site.keys.commit(keys).await;
    stored.map_err(|error| Ended::KeysFailed(error.to_string()))?;
    let (progress, seen) = watch::channel(published.progress());
    let shared = Arc::new(Shared {
        replica: job.replica,
        core: Mutex::new(Core::new(&job.log, job.size, job.limits.clone())),
        limits: job.limits,
        ahead: Mutex::new(writer.ahead()),
        writer: Mutex::new(writer),
        flush_us: AtomicU64::new(0),
        log_call: Notify::new(),
        disk_call: Notify::new(),
        publish_call: Notify::new(),
        ahead_call: Notify::new(),
        wanted_next: watch::Sender::new(None),
        published: tokio::sync::Mutex::new(published),
        progress,
        released: watch::Sender::new(None),
        site,
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(pump::run(shared.clone()));
    tasks.spawn(writeback::run(shared.clone()));
    tasks.spawn(publish::run(shared.clone()));
    let wanted = shared.wanted_next.subscribe();
    tasks.spawn(publish::prepare_rotations(shared.clone(), wanted));
    tasks.spawn(ahead::run(shared.clone()));
    tracing::info!(res = %shared.site.res, log = %job.log, "logging");
    Ok(LoggerHandle {
        shared,
        progress: seen,
        tasks,
    })
}

impl LoggerHandle {
    /// What applications use. It outlives the logger and refuses everything then.
    pub fn device(&self) -> Arc<dyn Device> {
        Arc::new(LoggerDevice::new(self.shared.clone()))
    }

    /// What syncers of other hosts read.
    pub fn sync_source(&self) -> Arc<dyn SyncSource> {
        Arc::new(LoggerDevice::new(self.shared.clone()))
    }

    /// How far it is; renewed every 2 s while anything happens, and at once at errors and rotations.
    pub fn progress(&self) -> watch::Receiver<LoggerProgress> {
        self.progress.clone()
    }

    /// Goes on in another log as soon as everything before is durable. The device works on meanwhile.
    ///
    /// # Errors
    /// Why it does not.
    pub fn rotate(&self, next: LogName) -> Result<(), RotateRefused> {
        if let Some((busy, _)) = &self.progress.borrow().rotating {
            return Err(RotateRefused::Busy(busy.clone()));
        }
        let core = self.shared.core.lock();
        if core.gate != Gate::Open {
            return Err(RotateRefused::NotOpen);
        }
        let current = core.current.clone();
        if next.creator != self.shared.site.here || next.seq <= current.seq {
            let wanted = next;
            return Err(RotateRefused::NotNext { wanted, current });
        }
        drop(core);
        let since = self.shared.now();
        self.shared
            .show(|progress| progress.rotating = Some((next.clone(), since)));
        self.shared.wanted_next.send_replace(Some(next));
        Ok(())
    }

    /// The device is larger from now on. It never shrinks.
    ///
    /// # Errors
    /// When the underlying disk is too small.
    pub async fn resize(&self, size: u64) -> Result<(), String> {
        let grown = self.shared.replica.grow(size).await;
        grown.map_err(|error| error.to_string())?;
        let mut core = self.shared.core.lock();
        core.size = core.size.max(size);
        Ok(())
    }

    /// Releases the device in order (invariant 29): takes no more requests, seals the log, brings everything onto the disk,
    /// flushes it, and stores the final position and version link. Also ends a logger that has failed.
    pub async fn stop(self) -> Ended {
        self.release(true).await.0
    }

    /// The same without a seal, when somebody may have gone on from what was written: not a byte more is added to
    /// a history that was not given away by this host.
    pub async fn leave(self) -> Ended {
        self.release(false).await.0
    }

    /// Both, and what the log has not taken: everything durable is on the disk then. Nothing is left over when the disk
    /// has failed.
    pub async fn release(mut self, seal: bool) -> (Ended, Option<Rest>) {
        let shared = self.shared.clone();
        if let Some(failed) = shared.lost_disk() {
            self.tasks.shutdown().await;
            return (failed, None);
        }
        let wake = {
            let mut core = shared.core.lock();
            core.close(seal, shared.now());
            core.must_wake_log()
        };
        shared.wake_log(wake);
        let (ended, rest) = match shared.sealed().await {
            Ok(end) => shared.settle_disk(end).await,
            Err(lost) => shared.abandon_log(lost).await,
        };
        self.tasks.shutdown().await;
        shared.core.lock().shut();
        tracing::info!(res = %shared.site.res, %ended, "logger released");
        (ended, rest)
    }
}

impl Drop for LoggerHandle {
    fn drop(&mut self) {
        // Clients may still hold the device; the disk may belong to somebody else soon.
        let mut core = self.shared.core.lock();
        core.shut();
        let claimed = core.is_claimed();
        drop(core);
        if claimed {
            // A client's thread is writing the log: whoever reads it next must find its end where it stays.
            drop(self.shared.writer.try_lock_for(CLAIM_ENDS_WITHIN));
        }
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.site.ports.clock.mono()
    }

    fn wall_ns(&self) -> u64 {
        self.site.ports.clock.wall_ns()
    }

    fn wake_log(&self, wake: bool) {
        if wake {
            self.log_call.notify_one();
        }
    }

    fn show(&self, change: impl FnOnce(&mut LoggerProgress)) {
        self.progress.send_modify(change);
    }

    /// Nothing more can be made durable by the log (invariant 40). The main loop is told and finds another way.
    fn lose(&self, error: &str) {
        tracing::error!(res = %self.site.res, error, "the log cannot be written any more");
        self.core.lock().lose();
        self.disk_call.notify_one();
        self.show(|progress| progress.log_error = Some(error.to_owned()));
    }

    /// How a logger ends whose disk has forgotten an unknown part of what was written to it: at once. Everything
    /// durable is in the log and will be replayed from the stored position.
    fn lost_disk(&self) -> Option<Ended> {
        let progress = self.progress.borrow();
        let error = || progress.disk_error.clone().unwrap_or_default();
        progress.disk_lost.then(|| Ended::DiskFailed(error()))
    }

    /// Waits until the log is sealed, or cannot be.
    async fn sealed(&self) -> Result<ChainEnd, Ended> {
        let (mut released, mut progress) = (self.released.subscribe(), self.progress.subscribe());
        let hopeless = |progress: &LoggerProgress| {
            progress.log_error.is_some() || progress.keys_error.is_some()
        };
        tokio::select! {
            biased;
            end = released.wait_for(Option::is_some) => match end.ok().and_then(|end| end.clone()) {
                Some(end) => Ok(end),
                None => unreachable!("the sender lives in self and was waited for until it has a value"),
            },
            failed = progress.wait_for(hopeless) => {
                let failed = failed.ok().map(|progress| progress.clone());
                let failed = failed.expect("the sender lives in self");
                Err(match (failed.log_error, failed.keys_error) {
                    (Some(error), _) => Ended::LogFailed(error),
                    // A rotation is stuck; the log is whole, and recovery will find its end.
                    (None, error) => Ended::KeysFailed(error.unwrap_or_default()),
                })
            }
        }
    }

    /// The last part of a release: everything onto the disk, then the final position.
    async fn settle_disk(&self, end: ChainEnd) -> (Ended, Option<Rest>) {
        if let Err(failed) = self.written_back(|core| core.buffer.is_empty()).await {
            return (failed, None);
        }
        let ended = match self.publish_final().await {
            Ok(()) => Ended::Done(Some(end)),
            Err(failed @ Ended::DiskFailed(_)) => return (failed, None),
            Err(failed) => failed,
        };
        (ended, Some(self.core.lock().take_rest()))
    }

    /// The end of a logger whose log is `lost`: what the log has goes to the disk; what it could not take is handed over,
    /// because nothing of it may reach the disk before everybody can know.
    async fn abandon_log(&self, lost: Ended) -> (Ended, Option<Rest>) {
        self.core.lock().lose();
        self.settle();
        if let Err(failed) = self.written_back(Core::is_settled).await {
            return (failed, None);
        }
        match self.publish_final().await {
            Err(failed @ Ended::DiskFailed(_)) => return (failed, None),
            Err(failed) => {
                tracing::error!(res = %self.site.res, %failed, "final position not stored")
            }
            Ok(()) => {}
        }
        (lost, Some(self.core.lock().take_rest()))
    }

    /// Waits until writeback has got so far. Gives up on a disk that keeps refusing.
    async fn written_back(&self, far_enough: impl Fn(&Core) -> bool) -> Result<(), Ended> {
        let mut errors = 0;
        let mut progress = self.progress.subscribe();
        loop {
            let disk_error = progress.borrow_and_update().disk_error.clone();
            if far_enough(&self.core.lock()) {
                return Ok(());
            }
            if let Some(error) = disk_error {
                errors += 1;
                if errors > RELEASE_DISK_ERRORS_MAX {
                    return Err(Ended::DiskFailed(error));
                }
            }
            // Never an error: the sender lives in self.
            let _ = progress.changed().await;
        }
    }
}

/// Makes an empty log of this host, durable with its name.
async fn create_log(
    site: &Site,
    log: &LogName,
    pred: Option<&ChainEnd>,
    limits: &LoggerLimits,
) -> Result<LogWriter, Ended> {
    let header = LogHeader {
        identity: site.shelf.identity(log),
        predecessor: pred.map_or(tree::Digest128::ZERO, |pred| pred.digest),
    };
    let (fs, dir, ahead) = (
        site.ports.fs.clone(),
        site.shelf.dir().to_owned(),
        limits.ahead,
    );
    let create = move || LogWriter::create(&*fs, &dir, &header, ahead);
    let created = blocking(&*site.ports.exec, &Lane::Log(site.res.clone()), create).await;
    let writer = created
        .ok_or(Ended::Stopped)?
        .map_err(|error| Ended::LogFailed(error.to_string()))?;
    site.shelf.put(log, writer.durable(), false);
    Ok(writer)
}
