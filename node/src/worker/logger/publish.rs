//! Telling the key tree how far log and disk are.
//!
//! Three keys: `version-<seq>-<me>` and `log-<seq>-<me>` with the durable end of the log, `replay-<me>` with what a crash would
//! leave to be replayed. The disk is flushed between reading the replay position and storing it (invariant 13). Progress
//! within one log is stored lazily; the end of a log, the beginning of one, and a replay position in another log are
//! durable before anything builds on them (L-A1 to L-A3).

use std::sync::Arc;
use std::time::Duration;

use tree::{LogName, ReplayPos, key};

use super::Shared;
use crate::job::{ChainEnd, Ended, LoggerProgress, Site};
use crate::ports::KeyChange;
use crate::watch;

/// Pause between two reports while the application writes.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// A first report waits for so long: what belongs together comes together.
const REPORT_DELAY: Duration = Duration::from_millis(200);

/// Pause before keys that could not be stored are tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the key tree says about this logger.
#[derive(Clone, Debug)]
pub(super) struct Published {
    durable: ChainEnd,
    pred: Option<ChainEnd>,
    replay: ReplayPos,
}

impl Published {
    /// An empty log behind `pred`, all of which is on the disk.
    pub fn first(durable: ChainEnd, pred: Option<ChainEnd>) -> Published {
        let replay = ReplayPos {
            log: durable.log.clone(),
            offset: 0,
            dirty: 0,
        };
        Published {
            durable,
            pred,
            replay,
        }
    }

    /// All three keys.
    pub fn all_keys(&self, site: &Site) -> Vec<KeyChange> {
        let mut keys = self.log_keys(site);
        keys.push(self.replay_key(site));
        keys
    }

    /// What a logger shows that has just begun.
    pub fn progress(&self) -> LoggerProgress {
        LoggerProgress {
            durable: self.durable.clone(),
            pred: self.pred.clone(),
            replay: self.replay.clone(),
            buffered_bytes: 0,
            written_bytes: 0,
            written_back_bytes: 0,
            rotating: None,
            log_error: None,
            disk_error: None,
            disk_lost: false,
            keys_error: None,
        }
    }

    fn log_keys(&self, site: &Site) -> Vec<KeyChange> {
        let link = self.durable.version_link(self.pred.as_ref());
        let (log, len) = (&self.durable.log, self.durable.len);
        vec![
            (
                key::version(&site.res, log.seq, &site.here),
                Some(link.to_string()),
            ),
            (key::log(&site.res, log), Some(len.to_string())),
        ]
    }

    fn replay_key(&self, site: &Site) -> KeyChange {
        (
            key::replay(&site.res, &site.here),
            Some(self.replay.to_string()),
        )
    }
}

/// Reports whenever something has happened, at most every [`REPORT_INTERVAL`]. Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let clock = shared.site.ports.clock.clone();
    let mut last = None;
    loop {
        shared.publish_call.notified().await;
        let due = last.map_or(Duration::ZERO, |last| last + REPORT_INTERVAL);
        let pause = due.saturating_sub(clock.mono()).max(REPORT_DELAY);
        clock.sleep(pause).await;
        shared.publish().await;
        last = Some(clock.mono());
    }
}

/// Lets a rotation begin only while own keys can be stored, so that a stuck key tree stops rotations and
/// nothing else (L-A4). Runs until it is aborted.
pub(super) async fn prepare_rotations(
    shared: Arc<Shared>,
    mut wanted: watch::Receiver<Option<LogName>>,
) {
    while wanted.changed().await.is_ok() {
        let Some(next) = wanted.borrow_and_update().clone() else {
            continue;
        };
        shared
            .store_until_done(|published, site| published.log_keys(site))
            .await;
        let mut core = shared.core.lock();
        if core.gate == super::core::Gate::Open {
            core.rotate(next, shared.now());
        }
        let wake = core.must_wake_log();
        drop(core);
        shared.wake_log(wake);
    }
}

impl Shared {
    /// One report.
    async fn publish(&self) {
        let clean = self.core.lock().replay_pos();
        let before = self.published.lock().await.replay.clean();
        if clean.clean() > before
            && let Err(error) = self.replica.flush().await
        {
            tracing::error!(res = %self.site.res, %error, "the disk cannot be flushed");
            if self.replica.is_lost() {
                self.core.lock().shut();
            }
            let lost = self.replica.is_lost();
            self.show(|progress| {
                progress.disk_error = Some(error.to_string());
                progress.disk_lost |= lost;
            });
            return self.show_counters().await;
        }
        let mut published = self.published.lock().await;
        let old = published.clone();
        self.read_durable(&mut published);
        // A release may have stored the final position meanwhile.
        if clean.clean() >= published.replay.clean() {
            published.replay = clean;
        }
        let keys = published.all_keys(&self.site);
        if published.replay.log == old.replay.log {
            self.site.keys.commit_lazy(keys);
        } else if let Err(error) = self.site.keys.commit(keys).await {
            published.replay = old.replay;
            self.show(|progress| progress.keys_error = Some(error.to_string()));
        }
        drop(published);
        self.show_counters().await;
    }

    /// The last report: everything is on the disk.
    pub(super) async fn publish_final(&self) -> Result<(), Ended> {
        let flushed = self.replica.flush().await;
        flushed.map_err(|error| Ended::DiskFailed(error.to_string()))?;
        let mut published = self.published.lock().await;
        self.read_durable(&mut published);
        published.replay = self.core.lock().replay_pos();
        let stored = self.site.keys.commit(published.all_keys(&self.site)).await;
        stored.map_err(|error| Ended::KeysFailed(error.to_string()))?;
        drop(published);
        self.show_counters().await;
        Ok(())
    }

    /// First half of L-A1: final size and final version link.
    pub(super) async fn publish_log_end(&self, end: &ChainEnd) {
        self.published.lock().await.durable = end.clone();
        self.store_until_done(|published, site| published.log_keys(site))
            .await;
    }

    /// Second half of L-A1: first version link of an empty log.
    pub(super) async fn publish_log_start(&self, first: &ChainEnd, pred: &ChainEnd) {
        let mut published = self.published.lock().await;
        published.durable = first.clone();
        published.pred = Some(pred.clone());
        drop(published);
        self.store_until_done(|published, site| published.log_keys(site))
            .await;
    }

    async fn store_until_done(&self, keys: impl Fn(&Published, &Site) -> Vec<KeyChange>) {
        loop {
            let mut published = self.published.lock().await;
            self.read_durable(&mut published);
            let stored = self.site.keys.commit(keys(&published, &self.site)).await;
            drop(published);
            let error = match stored {
                Ok(_) => break,
                Err(error) => error,
            };
            tracing::error!(res = %self.site.res, %error, "own keys cannot be stored");
            self.show(|progress| progress.keys_error = Some(error.to_string()));
            self.site.ports.clock.sleep(RETRY_PAUSE).await;
        }
        if self.progress.borrow().keys_error.is_some() {
            self.show(|progress| progress.keys_error = None);
        }
    }

    /// The durable end of the published log, as the shelf has it: never less than what was told to anybody.
    fn read_durable(&self, published: &mut Published) {
        if let Some(state) = self.site.shelf.state(&published.durable.log) {
            published.durable.len = state.durable;
            published.durable.digest = state.digest;
        }
    }

    async fn show_counters(&self) {
        let published = self.published.lock().await.clone();
        let core = self.core.lock();
        let (buffered, written) = (core.buffer.used_bytes(), core.written_bytes);
        let written_back = core.written_back_bytes;
        drop(core);
        self.show(|progress| {
            progress.durable = published.durable;
            progress.pred = published.pred;
            progress.replay = published.replay;
            progress.buffered_bytes = buffered;
            progress.written_bytes = written;
            progress.written_back_bytes = written_back;
        });
    }
}
