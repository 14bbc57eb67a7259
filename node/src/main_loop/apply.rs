//! Carrying out a plan: own history first, then the workers, then files and indicators.
//!
//! The order matters. A change of the own history is durable before a worker relies on it; the role
//! is announced before the first record is written; a worker that has to end is told before
//! another one is started; indicators come last, because they only describe.

use std::sync::atomic::Ordering;

use tree::{Tree, key};

use super::logger_place::Reins;
use super::{ResourceLoop, logger_place, same_fetch, same_replay, same_sync};
use crate::job::{ChainEnd, FetchJob, LoggerJob, ReplayJob, SyncJob};
use crate::plan::{ExportWant, LoggerWant, Reason, ResourcePlan, Step, Want, logger};
use crate::ports::{KeyChange, Keys, KeysError};
use crate::watch;
use crate::worker::{fetcher, replayer, syncer};

impl ResourceLoop {
    /// Carries out `plan`, which was made from `tree`.
    pub(super) async fn apply(&mut self, plan: ResourcePlan, tree: &Tree) {
        if self.parts.doubt.stands() && !plan.in_doubt {
            if let Err(error) = self.parts.doubt.end().await {
                tracing::error!(res = %self.res(), %error, "not stored that a replica begins here");
                return self.show(plan);
            }
            tracing::info!(res = %self.res(), "a replica begins here");
        }
        for log in &plan.finished {
            self.parts.site.shelf.finish(log);
        }
        if let Some(log) = &plan.reopened {
            tracing::info!(res = %self.res(), %log, "no longer complete: another history has more of it");
            self.parts.site.shelf.reopen(log);
        }
        if let Err(error) = self.change_history(&plan, tree).await {
            // Nothing may rely on a history that is not stored; the next round tries again.
            tracing::error!(res = %self.res(), %error, "own keys not stored");
            self.show(plan);
            return;
        }
        // What was written past the log cannot be replayed: there only an operator helps.
        if !self.front.is_behind() && self.disk.drop_lost() {
            self.parts.bell.notify_one();
        }
        if self.disk.steer(&plan.disk).await {
            self.parts.bell.notify_one();
        }
        if self.disk.replica().is_none() {
            self.front.forget_error();
        }
        self.steer_export(&plan.export);
        self.steer_front(&plan.logger).await;
        self.steer_logger(&plan.logger);
        self.steer_replayer(&plan);
        self.steer_fetcher(&plan);
        self.steer_syncer(&plan);
        self.forget_disk_failures();
        for log in &plan.drop_logs {
            match self.parts.site.shelf.delete(log).await {
                Ok(()) => tracing::info!(res = %self.res(), %log, "log deleted"),
                Err(error) => tracing::error!(res = %self.res(), %log, %error, "log not deleted"),
            }
        }
        if !plan.indicators.is_empty() {
            self.parts.keys.commit_lazy(plan.indicators.clone());
        }
        self.show(plan);
    }

    fn show(&self, plan: ResourcePlan) {
        *self.parts.desk.plan.lock() = Some(plan);
    }

    /// Stores what the plan says about the own history. The following round sees it.
    async fn change_history(&self, plan: &ResourcePlan, tree: &Tree) -> Result<(), KeysError> {
        let mut changes: Vec<KeyChange> = Vec::new();
        for step in &plan.steps {
            match step {
                Step::Follow { log } => {
                    tracing::info!(res = %self.res(), %log, "goes on with the next log");
                    let path = key::replay(self.res(), self.here());
                    changes.push((path, Some(format!("{log},0,0"))));
                }
                Step::Relink { end, pred } => {
                    changes.extend(self.relink(tree, end, pred.as_ref()));
                }
            }
        }
        changes.extend(plan.keys.iter().cloned());
        if changes.is_empty() {
            return Ok(());
        }
        self.parts.keys.commit(changes).await?;
        self.parts.bell.notify_one();
        Ok(())
    }

    /// The version link that is true, and for an own log its length.
    fn relink(&self, tree: &Tree, end: &ChainEnd, pred: Option<&ChainEnd>) -> Vec<KeyChange> {
        tracing::info!(res = %self.res(), log = %end.log, len = end.len, "version link corrected");
        let link = end.version_link(pred).to_string();
        let path = key::version(self.res(), end.log.seq, self.here());
        let mut changes = vec![(path, Some(link))];
        let own = end.log.creator == *self.here();
        let path = key::log(self.res(), &end.log);
        let len = end.len.to_string();
        let deleted = tree.get(&path).is_some_and(tree::Entry::is_tombstone);
        if own && !deleted && tree.text(path.as_str()) != Some(len.as_str()) {
            changes.push((path, Some(len)));
        }
        changes
    }

    fn steer_export(&mut self, want: &Want<ExportWant>) {
        let exports = self.parts.exports.clone();
        // Also while the device is being closed: what waits for the logger must be answered, or its client never leaves.
        if matches!(want, Want::Run(_)) || self.front.is_held() {
            let grip = self.parts.desk.grip.lock().clone();
            if let Some(grip) = grip
                && !self.logger.is_stopping()
            {
                self.front.logger_runs(grip.device);
            }
        }
        match want {
            Want::Run(job) => self.open_export(&job.name),
            Want::Rest(_) => {
                let Some(name) = self.exported.clone() else {
                    return;
                };
                let stopping = self.parts.host.borrow().stopping;
                // A stopping daemon cannot wait for clients; a role that moves away does.
                let written = self.logger.is_busy() || self.front.is_behind();
                if stopping || !written {
                    exports.cut(&name);
                } else if exports.states().get(&name).is_some_and(|e| !e.closing) {
                    tracing::info!(res = %self.res(), export = %name, "closing");
                    exports.begin_close(&name);
                    self.parts.bell.notify_one();
                }
            }
        }
    }

    fn open_export(&mut self, name: &str) {
        let exports = &self.parts.exports;
        match (exports.states().get(name), self.front.device()) {
            (Some(state), _) if state.closing => {
                exports.cancel_close(name);
            }
            (Some(_), _) | (None, None) => return,
            (None, Some(device)) => match exports.add(name, device) {
                Ok(()) => {
                    tracing::info!(res = %self.res(), export = %name, "opened");
                    self.exported = Some(name.to_owned());
                }
                Err(error) => tracing::error!(res = %self.res(), %error, "not exported"),
            },
        }
        self.parts.bell.notify_one();
    }

    /// Ceasing, and what comes after it: requests wait at the front while the way of writing changes. The plan has
    /// made durable before what everybody must know.
    async fn steer_front(&mut self, want: &Want<LoggerWant>) {
        let busy = self.logger.is_busy();
        let rested = self.logger.pause(self.now()).is_zero();
        match want {
            Want::Rest(reason @ Reason::Ceased(_)) if busy && !self.logger.is_stopping() => {
                tracing::error!(res = %self.res(), %reason, "ceasing");
                self.front.cease();
            }
            Want::Rest(Reason::Ceased(_)) if !busy && !self.front.is_bypassing() => {
                let Some(replica) = self.disk.replica() else {
                    return;
                };
                let at = self.res().clone();
                let clock = self.parts.site.ports.clock.clone();
                self.front.bypass(replica, &at, &*clock).await;
                self.parts.bell.notify_one();
            }
            Want::Run(_) if !busy && self.front.is_bypassing() && rested => {
                self.front.resume().await;
            }
            Want::Rest(_) if !busy && self.exported.is_none() => self.front.close().await,
            _ => {}
        }
    }

    fn steer_logger(&mut self, want: &Want<LoggerWant>) {
        if let Want::Run(job) = want
            && self.logger.is_busy()
        {
            self.steer_running_logger(job);
            return;
        }
        let hands_over = &self.parts.desk.hands_over;
        hands_over.store(logger::hands_over(want), Ordering::Relaxed);
        let (now, bell) = (self.now(), self.bell());
        let Some(replica) = self.disk.replica() else {
            self.logger.stop();
            return;
        };
        let (site, desk, ring) = (
            self.parts.site.clone(),
            self.parts.desk.clone(),
            bell.clone(),
        );
        let limits = self.parts.config.logger.clone();
        self.logger.steer(
            want,
            now,
            &mut self.tasks,
            &bell,
            |_, _| true,
            |want, stop| {
                let job = LoggerJob {
                    log: want.log,
                    pred: want.pred,
                    replica,
                    size: want.size,
                    limits,
                };
                let (progress, seen) = watch::channel(None);
                let reins = Reins { progress, stop };
                (seen, logger_place::work(job, site, desk, ring, reins))
            },
        );
    }

    /// What the disk said to the worker before does not concern the one that works with it now.
    fn forget_disk_failures(&mut self) {
        if self.replayer.is_busy() {
            self.logger.forget_disk_failure();
        }
        if self.logger.is_busy() {
            self.replayer.forget_disk_failure();
            self.syncer.forget_disk_failure();
        }
    }

    fn steer_running_logger(&self, job: &LoggerWant) {
        let grip = self.parts.desk.grip.lock().clone();
        let (Some(grip), Some(progress)) = (grip, self.logger.progress().flatten()) else {
            return;
        };
        if progress.durable.log != job.log && progress.rotating.is_none() {
            grip.rotate(job.log.clone());
        }
        if grip.device.size() < job.size {
            grip.resize(job.size);
        }
    }

    fn steer_replayer(&mut self, plan: &ResourcePlan) {
        let (now, bell) = (self.now(), self.bell());
        let Some(replica) = self.disk.replica() else {
            self.replayer.stop();
            return;
        };
        let site = self.parts.site.clone();
        self.replayer.steer(
            &plan.replayer,
            now,
            &mut self.tasks,
            &bell,
            same_replay,
            |want, stop| {
                let job = ReplayJob {
                    log: want.log,
                    start: want.start,
                    dirty_end: want.dirty_end,
                    replica,
                    bound: want.bound,
                };
                let (progress, seen) = watch::channel(job.first_progress());
                (seen, replayer::replay(job, site, stop, progress))
            },
        );
    }

    fn steer_fetcher(&mut self, plan: &ResourcePlan) {
        let (now, bell) = (self.now(), self.bell());
        let site = self.parts.site.clone();
        self.fetcher.steer(
            &plan.fetcher,
            now,
            &mut self.tasks,
            &bell,
            same_fetch,
            |want, stop| {
                let job = FetchJob {
                    log: want.log,
                    from: want.from,
                    pred: want.pred,
                    afresh: want.afresh,
                };
                let (progress, seen) = watch::channel(job.first_progress());
                (seen, fetcher::fetch(job, site, stop, progress))
            },
        );
    }

    fn steer_syncer(&mut self, plan: &ResourcePlan) {
        let (now, bell) = (self.now(), self.bell());
        let Some(replica) = self.disk.replica() else {
            self.syncer.stop();
            return;
        };
        let site = self.parts.site.clone();
        self.syncer.steer(
            &plan.syncer,
            now,
            &mut self.tasks,
            &bell,
            same_sync,
            |want, stop| {
                let job = SyncJob {
                    from: want.from,
                    start: want.start,
                    size: want.size,
                    replica,
                };
                let (progress, seen) = watch::channel(job.first_progress());
                (seen, syncer::sync(job, site, stop, progress))
            },
        );
        self.note_syncing();
    }
}
