//! Brings one log from another member to the local shelf, as it grows there.
//!
//! The peer pushes what is durable with it; nothing is polled.
//!
//! ```text
//! channel ─► waiting ─► one batch: check, write ─► flush ─► shown
//!            (gathers while the one before is written)   (covers what was written when it began)
//! ```
//!
//! All three go on at the same time. A record counts when it is whole, intact and on the medium here; only then is it shown to the replayer,
//! to other fetchers and, through the own version link, to the cluster (L-C2).
//!
//! A damaged local copy is fetched afresh beside the old one, which stays in use up to the damage until the new one can take
//! its place in one step.
//!
//! Data-path reference 4; invariants 17, 20, 23; lessons L-C1 to L-C6, L-C13.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{FetchedLog, Fs, LogEnd, LogError, LogHeader, Unflushed};
use transport::{Channel, Class, Message, NetError};
use tree::{Digest128, key};

use crate::job::{ChainEnd, Ended, FetchJob, FetchProgress, Site, Stop};
use crate::ports::{BoxFuture, KeyChange, Lane, blocking};
use crate::watch;
use crate::worker::shelf::{Damage, LogState};

/// Received and not yet written. The peer waits above it.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Written and not yet durable: above it nothing is written before the next flush. What a crash makes us fetch again.
const UNFLUSHED_BYTES_MAX: u64 = 32 << 20;

/// The own version link is renewed at least this often while bytes arrive.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// And when nothing has come for this time.
const REPORT_IDLE: Duration = Duration::from_millis(200);

/// Fetches one log. Ends when it is complete, when it is told to, or when this peer is of no more use.
pub async fn fetch(
    job: FetchJob,
    site: Site,
    mut stop: Stop,
    progress: watch::Sender<FetchProgress>,
) -> Ended {
    let (res, log, from) = (site.res.clone(), job.log.clone(), job.from.clone());
    let work = async {
        let fetcher = match Fetcher::connect(job, site, progress).await? {
            Begun::Fetching(fetcher) => fetcher,
            Begun::Complete(end) => return Ok(Ended::Done(Some(end))),
        };
        fetcher.run().await
    };
    let ended = tokio::select! {
        biased;
        () = stop.wait() => Ended::Stopped,
        ended = work => match ended {
            Ok(ended) | Err(ended) => ended,
        },
    };
    tracing::info!(%res, %log, %from, %ended, "fetch ended");
    ended
}

enum Begun {
    Fetching(Box<Fetcher>),
    Complete(ChainEnd),
}

struct Fetcher {
    job: FetchJob,
    site: Site,
    progress: watch::Sender<FetchProgress>,
    channel: Channel,
    copy: Arc<Mutex<FetchedLog>>,
    /// A fresh copy which has not yet taken the place of the damaged one, described here.
    replaces: Option<LogState>,
    /// Where the source said it ends, when it had nothing more to come.
    sealed_at: Option<(u64, Digest128)>,
    waiting: Vec<(u64, Bytes)>,
    waiting_bytes: usize,
    /// Up to here it is in the file.
    written: u64,
    /// Written, and no flush of it has begun.
    unflushed: Option<Unflushed>,
    durable: LogEnd,
    reported: u64,
    last_report: Duration,
}

/// A call under way on a lane.
type Running<T> = BoxFuture<'static, Option<Result<T, LogError>>>;

/// What the lanes are doing for a fetcher.
#[derive(Default)]
struct Lanes {
    /// A batch being checked and written; ends with what is to be flushed then.
    writing: Option<Running<Option<Unflushed>>>,
    /// What was written before being made durable.
    flushing: Option<Running<LogEnd>>,
}

impl Lanes {
    fn are_idle(&self) -> bool {
        self.writing.is_none() && self.flushing.is_none()
    }
}

impl Fetcher {
    /// Opens the local copy and the channel, and compares what both sides have.
    async fn connect(
        job: FetchJob,
        site: Site,
        progress: watch::Sender<FetchProgress>,
    ) -> Result<Begun, Ended> {
        let local = site.shelf.state(&job.log);
        if let Some(state) = local.as_ref().filter(|state| state.complete()) {
            return Ok(Begun::Complete(end_of(&job, state)));
        }
        let present = local.clone().filter(|_| !job.afresh);
        let opened = match &present {
            Some(state) => Some(open_copy(&site, &job, state).await?),
            None => None,
        };
        let from = opened.as_ref().map_or(0, FetchedLog::received);
        let opening = site.ports.net.open(&job.from, Class::Log).await;
        let mut channel = opening.map_err(|error| lost(&job, &error))?;
        let header = subscribe(&site, &job, &mut channel, from, &progress).await?;
        check_header(&site, &job, &header, present.is_some()).await?;
        let mut copy = match opened {
            Some(copy) => copy,
            None => create_copy(&site, &job, header).await?,
        };
        if !job.afresh {
            copy.keep_recent(site.shelf.recent(&job.log));
        }
        let replaces = local.filter(|_| job.afresh);
        let mut fetcher = Fetcher {
            reported: copy.durable().len,
            written: copy.durable().len,
            unflushed: None,
            durable: copy.durable(),
            copy: Arc::new(Mutex::new(copy)),
            last_report: site.ports.clock.mono(),
            replaces,
            job,
            site,
            progress,
            channel,
            sealed_at: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
        };
        if present.is_none() && fetcher.replaces.is_none() {
            fetcher.announce().await?;
        }
        Ok(Begun::Fetching(Box::new(fetcher)))
    }

    /// Receives, writes and flushes at the same time until there is nothing more to come.
    async fn run(mut self: Box<Self>) -> Result<Ended, Ended> {
        let mut lanes = Lanes::default();
        loop {
            self.keep_busy(&mut lanes);
            if lanes.are_idle()
                && let Some(ended) = self.finish_if_complete().await?
            {
                return Ok(ended);
            }
            let report_due = self.report_due();
            tokio::select! {
                biased;
                done = in_flight(&mut lanes.flushing) => {
                    lanes.flushing = None;
                    self.note_durable(done).await?;
                }
                done = in_flight(&mut lanes.writing) => {
                    lanes.writing = None;
                    self.note_written(done)?;
                }
                heard = self.channel.rx.recv(), if self.may_receive() => {
                    let heard = heard.map_err(|error| lost(&self.job, &error))?;
                    self.take(heard)?;
                }
                () = self.site.ports.clock.sleep(report_due), if self.has_news() => self.report(),
            }
        }
    }

    fn keep_busy(&mut self, lanes: &mut Lanes) {
        let durable = self.durable.len;
        self.unflushed
            .take_if(|unflushed| unflushed.end().len <= durable);
        if lanes.flushing.is_none() {
            lanes.flushing = self.unflushed.take().map(|unflushed| self.flush(unflushed));
        }
        let may_write = !self.waiting.is_empty() && self.written < durable + UNFLUSHED_BYTES_MAX;
        if lanes.writing.is_none() && may_write {
            lanes.writing = Some(self.write());
        }
    }

    fn note_written(
        &mut self,
        done: Option<Result<Option<Unflushed>, LogError>>,
    ) -> Result<(), Ended> {
        if let Some(unflushed) = self.checked(done)? {
            self.written = unflushed.end().len;
            self.unflushed = Some(unflushed);
        }
        Ok(())
    }

    fn may_receive(&self) -> bool {
        self.waiting_bytes < WAITING_BYTES_MAX && self.sealed_at.is_none()
    }

    fn take(&mut self, heard: Message) -> Result<(), Ended> {
        match heard {
            Message::LogBytes { offset, bytes } => {
                self.waiting_bytes += bytes.len();
                let end = offset.saturating_add(bytes.len() as u64);
                self.progress.send_modify(|progress| {
                    progress.received_bytes += bytes.len() as u64;
                    progress.received_pieces += 1;
                    progress.source_len = progress.source_len.max(end);
                });
                self.waiting.push((offset, bytes));
                Ok(())
            }
            Message::LogSealed { len, digest } => {
                self.sealed_at = Some((len, digest));
                Ok(())
            }
            Message::LogRefused { reason } => Err(refused(&self.job, reason)),
            _ => Err(foreign(
                &self.job,
                "it sends what does not belong into a log".to_owned(),
            )),
        }
    }

    /// Everything that waits, as one batch.
    fn write(&mut self) -> Running<Option<Unflushed>> {
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let (copy, durable) = (self.copy.clone(), self.durable);
        let exec = self.site.ports.exec.clone();
        let lane = Lane::Fetch(self.site.res.clone());
        let write = move || {
            let mut copy = copy.lock();
            copy.note_flushed(durable);
            copy.append_all(&batch)?;
            Ok(copy.unflushed())
        };
        Box::pin(async move { blocking(&*exec, &lane, write).await })
    }

    fn flush(&self, unflushed: Unflushed) -> Running<LogEnd> {
        let exec = self.site.ports.exec.clone();
        let lane = Lane::FetchFlush(self.site.res.clone());
        Box::pin(async move { blocking(&*exec, &lane, move || unflushed.flush()).await })
    }

    /// What a lane said, or why the fetch ends.
    fn checked<T>(&self, done: Option<Result<T, LogError>>) -> Result<T, Ended> {
        match done.ok_or(Ended::Stopped)? {
            Ok(done) => Ok(done),
            Err(error @ (LogError::Io { .. } | LogError::Unusable { .. })) => {
                Err(Ended::LogFailed(error.to_string()))
            }
            // Nothing of it has reached the file: the damage is on the other side or on the way.
            Err(error) => Err(foreign(&self.job, error.to_string())),
        }
    }

    async fn note_durable(&mut self, done: Option<Result<LogEnd, LogError>>) -> Result<(), Ended> {
        let end = self.checked(done)?;
        self.durable = end;
        match &self.replaces {
            None => self.site.shelf.grow(&self.job.log, end, false),
            Some(old) => {
                let caught_up =
                    self.waiting.is_empty() && end.len >= self.progress.borrow().source_len;
                if end.len >= old.usable() && (end.len >= old.durable || caught_up) {
                    self.replace().await?;
                }
            }
        }
        let durable = ChainEnd::new(&self.job.log, end);
        self.progress
            .send_modify(|progress| progress.durable = durable);
        // A broken channel shows at the next receive as well.
        let acked = Message::Acked { durable: end.len };
        self.channel
            .send(acked)
            .await
            .map_err(|error| lost(&self.job, &error))
    }

    /// The fresh copy takes the place of the damaged one.
    async fn replace(&mut self) -> Result<(), Ended> {
        let (fs, log) = (self.site.ports.fs.clone(), self.job.log.to_string());
        let (fresh, dir) = (
            self.site.shelf.fresh_dir(),
            self.site.shelf.dir().to_owned(),
        );
        let rename = move || {
            fs.rename(&fresh.join(&log), &dir.join(&log))?;
            fs.sync_dir(&dir)?;
            fs.sync_dir(&fresh)
        };
        let renamed = on_fetch_lane(&self.site, rename).await?;
        renamed.map_err(|error| Ended::LogFailed(error.to_string()))?;
        let end = self.durable;
        self.site.shelf.put(&self.job.log, end, false);
        self.replaces = None;
        tracing::info!(res = %self.site.res, log = %self.job.log, len = end.len, "replaced a damaged copy");
        self.announce().await
    }

    /// All received, all durable, and the source has nothing more: is it the same?
    async fn finish_if_complete(&mut self) -> Result<Option<Ended>, Ended> {
        let Some((len, digest)) = self.sealed_at else {
            return Ok(None);
        };
        let end = self.durable;
        let needed = self.replaces.as_ref().map_or(0, LogState::usable);
        if (end.len, end.digest) != (len, digest) || len < needed {
            let error = format!(
                "it says {} ends at {len} with digest {digest}, here it is {} with {}",
                self.job.log, end.len, end.digest
            );
            return Err(foreign(&self.job, error));
        }
        if self.replaces.is_some() {
            self.replace().await?;
        }
        self.site.shelf.grow(&self.job.log, end, true);
        self.announce().await?;
        Ok(Some(Ended::Done(Some(ChainEnd::new(&self.job.log, end)))))
    }

    fn has_news(&self) -> bool {
        self.replaces.is_none() && self.reported < self.progress.borrow().durable.len
    }

    fn report_due(&self) -> Duration {
        let since = self
            .site
            .ports
            .clock
            .mono()
            .saturating_sub(self.last_report);
        REPORT_INTERVAL.saturating_sub(since).min(REPORT_IDLE)
    }

    /// The own version link, as an update whose loss costs nothing but fetching again.
    fn report(&mut self) {
        self.site.keys.commit_lazy(vec![self.version_key()]);
        self.note_reported();
        // While a batch is being written it is busy; it will rest another time.
        if let Some(mut copy) = self.copy.try_lock() {
            copy.give_up_spare();
        }
    }

    /// The own version link, durably: the first one for a log, and the last one (L-A2, L-A8).
    async fn announce(&mut self) -> Result<(), Ended> {
        let stored = self.site.keys.commit(vec![self.version_key()]).await;
        stored.map_err(|error| Ended::KeysFailed(error.to_string()))?;
        self.note_reported();
        Ok(())
    }

    fn note_reported(&mut self) {
        self.last_report = self.site.ports.clock.mono();
        self.reported = self.progress.borrow().durable.len;
    }

    fn version_key(&self) -> KeyChange {
        let state = self.site.shelf.state(&self.job.log);
        let end = state.map_or(self.durable, |state| LogEnd {
            len: state.durable,
            digest: state.digest,
        });
        let link = ChainEnd::new(&self.job.log, end).version_link(self.job.pred.as_ref());
        let path = key::version(&self.site.res, self.job.log.seq, &self.site.here);
        (path, Some(link.to_string()))
    }
}

/// Ends with the call under way; never when there is none.
async fn in_flight<T>(running: &mut Option<Running<T>>) -> Option<Result<T, LogError>> {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// Asks for the log; the header of the source's file.
async fn subscribe(
    site: &Site,
    job: &FetchJob,
    channel: &mut Channel,
    from: u64,
    progress: &watch::Sender<FetchProgress>,
) -> Result<Bytes, Ended> {
    let asked = Message::Subscribe {
        resource: site.res.clone(),
        log: job.log.clone(),
        from,
    };
    channel
        .send(asked)
        .await
        .map_err(|error| lost(job, &error))?;
    match channel.recv().await.map_err(|error| lost(job, &error))? {
        Message::LogStart {
            header, durable, ..
        } => {
            progress.send_modify(|progress| progress.source_len = durable);
            Ok(header)
        }
        Message::LogRefused { reason } => Err(refused(job, reason)),
        _ => Err(foreign(
            job,
            "it does not begin with the header of the log".to_owned(),
        )),
    }
}

/// Is it the log of this cluster and resource, behind the predecessor we know, and the one we have the beginning of?
async fn check_header(
    site: &Site,
    job: &FetchJob,
    bytes: &Bytes,
    is_present: bool,
) -> Result<(), Ended> {
    let path = site.shelf.dir().join(job.log.to_string());
    let wanted = site.shelf.identity(&job.log);
    let header = LogHeader::decode(bytes, &path).and_then(|header| {
        header.must_be(&wanted, &path)?;
        Ok(header)
    });
    let header = header.map_err(|error| foreign(job, error.to_string()))?;
    if let Some(pred) = job.pred.as_ref().filter(|pred| !pred.digest.is_zero())
        && header.predecessor != pred.digest
    {
        return Err(foreign(
            job,
            format!(
                "its {} continues a history with digest {}, ours ends {} with {}",
                job.log, header.predecessor, pred.log, pred.digest
            ),
        ));
    }
    if is_present {
        let local = site.shelf.open_log(&job.log).await;
        let local = local.map_err(|error| Ended::LogFailed(error.to_string()))?;
        if local.header_bytes() != bytes {
            return Err(foreign(
                job,
                format!("its {} begins differently from ours", job.log),
            ));
        }
    }
    Ok(())
}

/// A copy that cannot be gone on with is brought again from its beginning, unless only the storage failed.
fn unusable(site: &Site, job: &FetchJob, state: &LogState, flaw: &LogError) -> Ended {
    let error = flaw.to_string();
    if let LogError::Io { .. } = flaw {
        return Ended::LogFailed(error);
    }
    let at = state.usable();
    let damage = Damage {
        offset: at,
        digest: state.usable_digest(),
        error: error.clone(),
    };
    site.shelf.mark_damaged(&job.log, damage);
    Ended::Damaged {
        at: job.log.at(at),
        error,
    }
}

/// Goes on with the copy that is here.
async fn open_copy(site: &Site, job: &FetchJob, state: &LogState) -> Result<FetchedLog, Ended> {
    let (fs, dir) = (site.ports.fs.clone(), site.shelf.dir().to_owned());
    let wanted = site.shelf.identity(&job.log);
    let known = LogEnd {
        len: state.durable,
        digest: state.digest,
    };
    let open = move || FetchedLog::open(&*fs, &dir, &wanted, Some(known));
    let (copy, _) = on_fetch_lane(site, open)
        .await?
        .map_err(|flaw| unusable(site, job, state, &flaw))?;
    // A fetcher that was stopped in the middle of a batch may have left more than it could tell.
    site.shelf.grow(&job.log, copy.durable(), false);
    Ok(copy)
}

/// Begins a copy: in its place, or beside a damaged one.
async fn create_copy(site: &Site, job: &FetchJob, header: Bytes) -> Result<FetchedLog, Ended> {
    let fs: Arc<dyn Fs> = site.ports.fs.clone();
    let (dir, fresh) = (site.shelf.dir().to_owned(), site.shelf.fresh_dir());
    let wanted = site.shelf.identity(&job.log);
    let afresh = job.afresh;
    let create = move || {
        if !afresh {
            return FetchedLog::create(&*fs, &dir, &header, &wanted);
        }
        let making = |source| LogError::Io {
            path: fresh.clone(),
            doing: "making the directory",
            source,
        };
        fs.create_dir(&fresh).map_err(making)?;
        fs.sync_dir(&dir).map_err(making)?;
        FetchedLog::create(&*fs, &fresh, &header, &wanted)
    };
    let copy = on_fetch_lane(site, create).await?;
    let copy = copy.map_err(|error| Ended::LogFailed(error.to_string()))?;
    if !job.afresh {
        site.shelf.put(&job.log, copy.durable(), false);
    }
    Ok(copy)
}

async fn on_fetch_lane<T: Send + 'static>(
    site: &Site,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Ended> {
    let lane = Lane::Fetch(site.res.clone());
    blocking(&*site.ports.exec, &lane, work)
        .await
        .ok_or(Ended::Stopped)
}

fn end_of(job: &FetchJob, state: &LogState) -> ChainEnd {
    ChainEnd {
        log: job.log.clone(),
        len: state.durable,
        digest: state.digest,
    }
}

fn lost(job: &FetchJob, error: &NetError) -> Ended {
    Ended::Lost {
        from: job.from.clone(),
        error: error.to_string(),
    }
}

fn refused(job: &FetchJob, reason: String) -> Ended {
    Ended::Refused {
        from: job.from.clone(),
        log: job.log.clone(),
        error: reason,
    }
}

fn foreign(job: &FetchJob, error: String) -> Ended {
    Ended::Foreign {
        from: job.from.clone(),
        error,
    }
}
