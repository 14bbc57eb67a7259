//! Brings the records of one log onto the underlying disk, in order, as far as the local copy goes.
//!
//! ```text
//! shelf says how far ─► window of records ─► claim it as dirty ─► write it, sorted and coalesced ─► flush ─► store position
//!                       (checked one by one)  (durably, before)    (newest version of each byte)
//! ```
//!
//! The disk is a state of the past after each window, and inside one a crash leaves a mixture. Therefore the stored replay position
//! covers a window as dirty *before* anything of it is written, and whoever wants to use the disk later has to replay to
//! the dirty end first. Replay is idempotent, so a position may always be older than the truth.
//!
//! Used by secondaries, which follow a growing copy, and by a crashed primary, whose log has come to its end. Nothing behind a
//! damaged record, and nothing that is not durable here, is ever applied.
//!
//! Data-path reference 3; invariants 13 to 19, 21, 36.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use storage::{Bound as ReadBound, Boundary, LogError, LogReader, Record, WriteBuffer};
use tree::{LogPos, ReplayPos, key};

use crate::job::{Bound, Ended, ReplayJob, ReplayProgress, Site, Stop};
use crate::ports::{KeyChange, Lane, blocking};
use crate::watch;
use crate::worker::shelf::{Damage, LogState, ShelfError};

/// Log read and applied at a time. Bounds memory, and what has to be applied again after a crash.
const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// The position is stored at least this often while replay is busy.
const STORE_INTERVAL: Duration = Duration::from_secs(2);

/// When nothing has come for this time, the position is stored.
const IDLE_DELAY: Duration = Duration::from_millis(100);

/// Applies one log. See [`ReplayJob`] for where it begins and how far it goes.
pub async fn replay(
    job: ReplayJob,
    site: Site,
    stop: Stop,
    progress: watch::Sender<ReplayProgress>,
) -> Ended {
    let Some(state) = site.shelf.watch(&job.log) else {
        return Ended::LogFailed(format!("{} is not held by this host", job.log));
    };
    let mut replayer = Replayer {
        at: job.start,
        stored: job.first_progress().stored,
        last_stored: site.ports.clock.mono(),
        flushed: job.start,
        ahead: None,
        reader: None,
        state,
        stop,
        progress,
        site,
        job,
    };
    let ended = match replayer.run().await {
        Ok(ended) | Err(ended) => ended,
    };
    tracing::info!(res = %replayer.site.res, log = %replayer.job.log, %ended, "replay ended");
    ended
}

struct Replayer {
    job: ReplayJob,
    site: Site,
    stop: Stop,
    progress: watch::Sender<ReplayProgress>,
    state: watch::Receiver<LogState>,
    reader: Option<OpenReader>,
    /// A window which was read while the one before was being written.
    ahead: Option<Window>,
    /// Everything before it is on the disk.
    at: u64,
    /// Everything before it is on the disk and flushed.
    flushed: u64,
    /// The position in the key tree.
    stored: ReplayPos,
    last_stored: Duration,
}

struct OpenReader {
    reader: Arc<Mutex<LogReader>>,
    incarnation: u64,
}

/// Records in a row, and why there are no more if that is a flaw.
struct Window {
    records: Vec<Record>,
    end: u64,
    flaw: Option<LogError>,
}

/// What there is to do.
enum Step {
    Apply { limit: u64 },
    Wait,
    End(Ended),
}

impl Replayer {
    async fn run(&mut self) -> Result<Ended, Ended> {
        loop {
            if self.stop.is_set() {
                self.store_finally().await?;
                return Ok(Ended::Stopped);
            }
            let state = self.state.borrow_and_update().clone();
            match self.step(&state) {
                Step::Apply { limit } => {
                    if let Some(ended) = self.apply_window(&state, limit).await? {
                        self.store_finally().await?;
                        return Ok(ended);
                    }
                }
                Step::Wait => self.wait().await?,
                Step::End(ended) => {
                    self.store_finally().await?;
                    return Ok(ended);
                }
            }
        }
    }

    /// Looks at the whole situation.
    fn step(&self, state: &LogState) -> Step {
        let bound = match self.job.bound {
            Bound::Follow => u64::MAX,
            Bound::UpTo(offset) => offset,
        };
        let limit = state.usable().min(bound);
        if self.at < limit {
            return Step::Apply { limit };
        }
        if let Some(damage) = state
            .damaged
            .as_ref()
            .filter(|damage| damage.offset <= self.at)
        {
            let (at, error) = (self.job.log.at(damage.offset), damage.error.clone());
            return Step::End(Ended::Damaged { at, error });
        }
        if state.finished && self.at == state.durable {
            let end = crate::job::ChainEnd {
                log: self.job.log.clone(),
                len: state.durable,
                digest: state.digest,
            };
            return Step::End(Ended::Done(Some(end)));
        }
        if state.finished && self.at > state.durable {
            let at = self.job.log.at(state.durable);
            let error = format!(
                "the log ends here, but was applied up to {} before",
                self.at
            );
            return Step::End(Ended::Damaged { at, error });
        }
        match self.at >= bound {
            true => Step::End(Ended::Reached(self.here())),
            false => Step::Wait,
        }
    }

    /// Applies the next window and reads the one behind it meanwhile. `Some`: nothing behind it can be applied.
    async fn apply_window(&mut self, state: &LogState, limit: u64) -> Result<Option<Ended>, Ended> {
        self.open(state).await?;
        let window = match self.ahead.take() {
            Some(window) => window,
            None => read_window(&self.site, self.reader(), limit).await?,
        };
        if !window.records.is_empty() {
            self.claim(window.end, limit).await?;
            let records = window.records;
            if window.flaw.is_none() && window.end < limit {
                let read = read_window(&self.site, self.reader(), limit);
                let (applied, next) = tokio::join!(self.apply(&records), read);
                applied?;
                self.ahead = Some(next?);
            } else {
                self.apply(&records).await?;
            }
            self.note_applied(window.end, records.len());
            if self.now() >= self.last_stored + STORE_INTERVAL {
                self.store().await?;
            }
        }
        match window.flaw {
            Some(flaw) => Ok(Some(self.judge(&flaw).await)),
            None => Ok(None),
        }
    }

    /// What a record that cannot be read means: the bound lies inside it, or the file is not what it was.
    async fn judge(&self, flaw: &LogError) -> Ended {
        let within_bound =
            matches!(self.job.bound, Bound::UpTo(offset) if offset < self.state.borrow().usable());
        if within_bound && flaw.waiting_helps() {
            return Ended::Reached(self.here());
        }
        if let LogError::Io { .. } = flaw {
            return Ended::LogFailed(flaw.to_string());
        }
        let error = flaw.to_string();
        let damage = Damage {
            offset: self.at,
            digest: self.site.shelf.digest_at(&self.job.log, self.at).await,
            error: error.clone(),
        };
        self.site.shelf.mark_damaged(&self.job.log, damage);
        Ended::Damaged {
            at: self.here(),
            error,
        }
    }

    async fn open(&mut self, state: &LogState) -> Result<(), Ended> {
        if let Some(open) = &self.reader
            && open.incarnation == state.incarnation
        {
            return Ok(());
        }
        let file = match self.site.shelf.open_log(&self.job.log).await {
            Ok(file) => file,
            // A header that cannot be read is damage like any other: the copy is brought again.
            Err(ShelfError::Log(flaw)) => return Err(self.judge(&flaw).await),
            Err(error) => return Err(Ended::LogFailed(error.to_string())),
        };
        let next_nr = (self.at == 0).then_some(1);
        let from = Boundary {
            offset: self.at,
            digest: None,
            next_nr,
        };
        let reader = file.records(from, ReadBound::Durable(self.at));
        self.ahead = None;
        self.reader = Some(OpenReader {
            reader: Arc::new(Mutex::new(reader)),
            incarnation: state.incarnation,
        });
        Ok(())
    }

    fn reader(&self) -> Arc<Mutex<LogReader>> {
        let open = self
            .reader
            .as_ref()
            .expect("opened before anything is read");
        open.reader.clone()
    }

    /// Nobody may use the disk before replay has passed `end`: known durably before anything is written.
    async fn claim(&mut self, end: u64, limit: u64) -> Result<(), Ended> {
        if end <= self.stored.dirty_end().offset {
            return Ok(());
        }
        self.stored = self.position(limit);
        self.commit().await
    }

    async fn apply(&self, records: &[Record]) -> Result<(), Ended> {
        let Some(last) = records.last() else {
            return Ok(());
        };
        let newest = self.job.log.at(last.end);
        let mut buffer = WriteBuffer::new(self.here());
        let mut nr = 0;
        for record in records {
            nr = buffer.insert(&record.body, self.job.log.at(record.end));
        }
        buffer.mark_durable(nr);
        while let Some(unit) = buffer.plan(u64::MAX) {
            let applied = self.job.replica.apply(unit.ops, newest.clone()).await;
            applied.map_err(|error| Ended::DiskFailed(error.to_string()))?;
            buffer.complete(unit.id);
        }
        Ok(())
    }

    fn note_applied(&mut self, end: u64, records: usize) {
        let bytes = end - self.at;
        self.at = end;
        let applied = self.here();
        self.progress.send_modify(|progress| {
            progress.applied = applied;
            progress.applied_bytes += bytes;
            progress.applied_records += records as u64;
            progress.idle = false;
        });
    }

    /// Until more of the log is here; stores the position when nothing comes soon.
    async fn wait(&mut self) -> Result<(), Ended> {
        if self.stored.offset < self.at {
            let pause = self.site.ports.clock.sleep(IDLE_DELAY);
            tokio::select! {
                biased;
                () = self.stop.wait() => return Ok(()),
                changed = self.state.changed() => return self.still_there(changed.is_ok()),
                () = pause => {}
            }
            self.store().await?;
        }
        self.progress
            .send_if_modified(|progress| !std::mem::replace(&mut progress.idle, true));
        tokio::select! {
            biased;
            () = self.stop.wait() => Ok(()),
            changed = self.state.changed() => self.still_there(changed.is_ok()),
        }
    }

    fn still_there(&self, there: bool) -> Result<(), Ended> {
        match there {
            true => Ok(()),
            false => Err(Ended::LogFailed(format!("{} was deleted", self.job.log))),
        }
    }

    /// Flushes the disk, then raises the position; in this order (invariant 13).
    async fn store(&mut self) -> Result<(), Ended> {
        self.flush().await?;
        let dirty_end = self.stored.dirty_end().offset;
        self.stored = self.position(dirty_end);
        self.site.keys.commit_lazy(vec![self.replay_key()]);
        self.note_stored();
        Ok(())
    }

    /// The same at the end, durably; what was claimed but never touched is not dirty.
    async fn store_finally(&mut self) -> Result<(), Ended> {
        self.flush().await?;
        let last = self.position(self.job.dirty_end);
        if self.stored != last {
            self.stored = last;
            self.commit().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.flushed < self.at {
            let at = self.at;
            let flushed = self.job.replica.flush().await;
            flushed.map_err(|error| Ended::DiskFailed(error.to_string()))?;
            self.flushed = at;
        }
        Ok(())
    }

    /// Everything flushed is clean, and up to `dirty_end` nothing is promised.
    fn position(&self, dirty_end: u64) -> ReplayPos {
        ReplayPos {
            log: self.job.log.clone(),
            offset: self.flushed,
            dirty: dirty_end.max(self.at) - self.flushed,
        }
    }

    async fn commit(&mut self) -> Result<(), Ended> {
        let stored = self.site.keys.commit(vec![self.replay_key()]).await;
        stored.map_err(|error| Ended::KeysFailed(error.to_string()))?;
        self.note_stored();
        Ok(())
    }

    fn note_stored(&mut self) {
        self.last_stored = self.now();
        let stored = self.stored.clone();
        self.progress
            .send_modify(|progress| progress.stored = stored);
    }

    fn replay_key(&self) -> KeyChange {
        let path = key::replay(&self.site.res, &self.site.here);
        (path, Some(self.stored.to_string()))
    }

    fn here(&self) -> LogPos {
        self.job.log.at(self.at)
    }

    fn now(&self) -> Duration {
        self.site.ports.clock.mono()
    }
}

/// Reads as many records as make a window, on the reading lane.
async fn read_window(
    site: &Site,
    reader: Arc<Mutex<LogReader>>,
    limit: u64,
) -> Result<Window, Ended> {
    let read = move || {
        let mut reader = reader.lock();
        reader.extend(limit);
        let start = reader.boundary().offset;
        let (mut records, mut flaw) = (Vec::new(), None);
        while flaw.is_none() && reader.boundary().offset - start < WINDOW_BYTES_MAX {
            match reader.next_record() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) => flaw = Some(error),
            }
        }
        let end = reader.boundary().offset;
        Window { records, end, flaw }
    };
    let lane = Lane::Read(site.res.clone());
    let window = blocking(&*site.ports.exec, &lane, read).await;
    window.ok_or(Ended::Stopped)
}
