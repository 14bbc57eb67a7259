//! Writing the log: batches, group commit, rotation.
//!
//! While one flush runs, the next batch gathers; nobody has to wait for more than the flush that is running and his own. Writes
//! that nobody asks to be durable become so within `unflushed_max` all the same, because only durable bytes reach the
//! secondaries.
//!
//! Rotation is the order of L-A1, each step durable before the next begins:
//! final size of N, with its seal → final version link of N → empty log N+1 → its first version link → records.
//! Plain writes are accepted all the time; only who wants durability waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use storage::{LogError, NewRecord};
use tree::LogName;

use super::core::LogWork;
use super::{Shared, create_log};
use crate::job::{ChainEnd, Ended};
use crate::ports::{Lane, blocking};

/// Pause before a step of a rotation is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// So often a successor is tried to be created before the logger gives up.
const CREATE_TRIES_MAX: u32 = 3;

/// Zeros are written ahead only while batches are smaller than this: larger ones gain nothing from it.
const AHEAD_BATCH_BYTES_MAX: u64 = 256 << 10;

/// Where a flush takes longer (disks that turn), threads of clients do not wait for it: other requests wait behind them.
const FAST_FLUSH_US_MAX: u64 = 1000;

/// Runs until the log is sealed for good, or has failed.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let work = {
            let (now, wall_ns) = (shared.now(), shared.wall_ns());
            shared.core.lock().log_work(now, wall_ns)
        };
        let done = match work {
            LogWork::Sleep(until) => {
                shared.doze(until).await;
                continue;
            }
            LogWork::Batch { records, until } => shared.write_batch(records, until).await,
            LogWork::Seal {
                next: None,
                stamp_ns,
                until,
            } => match shared.seal(stamp_ns, until, None).await {
                Ok(end) => return shared.note_released(end),
                Err(failed) => Err(failed),
            },
            LogWork::End => match shared.end().await {
                Ok(end) => return shared.note_released(end),
                Err(failed) => Err(failed),
            },
            LogWork::Seal {
                next: Some(next),
                stamp_ns,
                until,
            } => shared.rotate(next, stamp_ns, until).await,
        };
        if let Err(failed) = done {
            return shared.lose(&failed.error);
        }
    }
}

/// Why the log is lost.
struct LogFailed {
    error: String,
}

impl From<LogError> for LogFailed {
    fn from(error: LogError) -> LogFailed {
        LogFailed {
            error: error.to_string(),
        }
    }
}

impl Shared {
    async fn doze(&self, until: Option<Duration>) {
        let Some(until) = until else {
            return self.log_call.notified().await;
        };
        let pause = until.saturating_sub(self.now());
        tokio::select! {
            biased;
            () = self.log_call.notified() => {}
            () = self.site.ports.clock.sleep(pause) => {}
        }
    }

    /// A batch on the thread of the log; those who wait are told from there, so that nothing lies between.
    async fn write_batch(
        self: &Arc<Self>,
        records: Vec<NewRecord>,
        until: u64,
    ) -> Result<(), LogFailed> {
        let this = self.clone();
        self.on_log(move || this.append(&records, until)).await
    }

    /// A batch on the calling thread, which has nothing else to do and may block (see [`Core::claim`]); otherwise calls
    /// the task that writes the log if it is needed. Returns whether anything was written.
    ///
    /// [`Core::claim`]: super::core::Core::claim
    pub(super) fn write_here(&self) -> bool {
        let fast = self.flush_us.load(Ordering::Relaxed) <= FAST_FLUSH_US_MAX;
        let mut core = self.core.lock();
        let claimed = fast.then(|| core.claim(self.now())).flatten();
        let Some((records, until)) = claimed else {
            let wake = core.must_wake_log();
            drop(core);
            self.wake_log(wake);
            return false;
        };
        drop(core);
        let written = self.append(&records, until).map_err(LogFailed::from);
        if let Err(failed) = written {
            self.lose(&failed.error);
        }
        let mut core = self.core.lock();
        core.unclaim();
        let wake = core.must_wake_log();
        drop(core);
        self.wake_log(wake);
        true
    }

    /// One append, one flush, and everybody who waited for them is told.
    fn append(&self, records: &[NewRecord], until: u64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        writer.append(records)?;
        let begun = self.now();
        let end = writer.flush()?;
        self.note_flush_time(self.now().saturating_sub(begun));
        self.core.lock().note_durable(until);
        self.site.shelf.grow(writer.log(), end, false);
        drop(writer);
        self.settle();
        self.publish_call.notify_one();
        let bytes: u64 = records
            .iter()
            .map(|record| record.body.record_bytes())
            .sum();
        if bytes <= AHEAD_BATCH_BYTES_MAX && self.ahead.lock().is_due() {
            self.ahead_call.notify_one();
        }
        Ok(())
    }

    fn note_flush_time(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.flush_us.load(Ordering::Relaxed);
        let smoothed = before.saturating_mul(7).saturating_add(took) / 8;
        self.flush_us.store(smoothed, Ordering::Relaxed);
    }

    /// Hands what has become durable to writeback, without keeping requests from the lock for long.
    pub(super) fn settle(&self) {
        while self.core.lock().settle(self.now()) {}
        self.disk_call.notify_one();
    }

    /// Ends the log with its seal.
    async fn seal(
        self: &Arc<Self>,
        stamp_ns: u64,
        until: u64,
        next: Option<LogName>,
    ) -> Result<ChainEnd, LogFailed> {
        let this = self.clone();
        self.on_log(move || {
            let mut writer = this.writer.lock();
            let end = writer.seal(stamp_ns)?;
            let log = writer.log().clone();
            let mut core = this.core.lock();
            core.note_sealed(&log, end.len);
            if next.is_none() {
                core.note_durable(until);
            }
            drop(core);
            this.site.shelf.grow(&log, end, true);
            this.settle();
            Ok(ChainEnd::new(&log, end))
        })
        .await
    }

    /// Ends the log where it is. A log without a seal is as long as what others may have of it.
    async fn end(self: &Arc<Self>) -> Result<ChainEnd, LogFailed> {
        let this = self.clone();
        self.on_log(move || {
            let writer = this.writer.lock();
            writer.cut();
            let (log, end) = (writer.log().clone(), writer.durable());
            drop(writer);
            this.core.lock().note_sealed(&log, end.len);
            this.site.shelf.grow(&log, end, true);
            this.settle();
            Ok(ChainEnd::new(&log, end))
        })
        .await
    }

    /// Its keys are stored at the end of the release, with the final position.
    fn note_released(&self, end: ChainEnd) {
        self.released.send_replace(Some(end));
    }

    async fn rotate(
        self: &Arc<Self>,
        next: LogName,
        stamp_ns: u64,
        until: u64,
    ) -> Result<(), LogFailed> {
        let end = self.seal(stamp_ns, until, Some(next.clone())).await?;
        self.publish_log_end(&end).await;
        let writer = self.create_successor(&next, &end).await?;
        let first = ChainEnd::new(&next, writer.durable());
        *self.ahead.lock() = writer.ahead();
        *self.writer.lock() = writer;
        self.publish_log_start(&first, &end).await;
        let mut core = self.core.lock();
        core.note_successor(&next);
        core.note_durable(until);
        drop(core);
        self.settle();
        tracing::info!(res = %self.site.res, log = %next, "rotated");
        // At once: whoever takes the new log for nobody's could delete it or tell lies about it.
        self.show(|progress| {
            progress.durable = first;
            progress.pred = Some(end);
            progress.rotating = None;
        });
        self.publish_call.notify_one();
        Ok(())
    }

    /// Space or a directory may be lacking for a moment only; who wants durability waits so long.
    async fn create_successor(
        &self,
        next: &LogName,
        end: &ChainEnd,
    ) -> Result<storage::LogWriter, LogFailed> {
        let mut tries = 0;
        loop {
            let error = match create_log(&self.site, next, Some(end), &self.limits).await {
                Ok(writer) => return Ok(writer),
                Err(Ended::LogFailed(error)) => error,
                Err(other) => other.to_string(),
            };
            tries += 1;
            if tries == CREATE_TRIES_MAX {
                return Err(LogFailed { error });
            }
            tracing::warn!(res = %self.site.res, log = %next, error, "cannot be created, trying again");
            self.site.ports.clock.sleep(RETRY_PAUSE).await;
        }
    }

    async fn on_log<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogFailed> {
        let lane = Lane::Log(self.site.res.clone());
        match blocking(&*self.site.ports.exec, &lane, work).await {
            Some(done) => Ok(done?),
            None => Err(LogFailed {
                error: "the daemon is stopping".to_owned(),
            }),
        }
    }
}
