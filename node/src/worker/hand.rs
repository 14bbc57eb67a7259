//! Starting, steering and stopping one worker, and trying again after failures with back-off.
//!
//! A [`Place`] holds at most one worker of a kind for a resource. The main loop tells it in every
//! round what is wanted; it starts what is missing, stops what is no longer wanted or has another
//! job, and never starts anew before the old one has ended. How a worker ended stays readable.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::job::{Ended, Stop, StopSwitch};
use crate::plan::Want;
use crate::watch;

/// Called when a worker has ended, so that the main loop takes a look.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// First pause after a failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause: what has healed is used again within this time.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A job that was done and is wanted again unchanged begins again after this time: whoever wants it
/// has not seen yet what the last worker did.
const SAME_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The place for one worker.
pub struct Place<J, P> {
    running: Option<Running<J, P>>,
    last: Option<Ended>,
    last_job: Option<J>,
    failures: u32,
    /// Before this moment (monotonic time) no worker is started, or not for the same job.
    pause_until: Duration,
}

struct Running<J, P> {
    job: J,
    progress: watch::Receiver<P>,
    switch: StopSwitch,
    ended: oneshot::Receiver<Ended>,
    task: AbortHandle,
    stopping: bool,
}

impl<J, P> Default for Place<J, P> {
    fn default() -> Self {
        Place {
            running: None,
            last: None,
            last_job: None,
            failures: 0,
            pause_until: Duration::ZERO,
        }
    }
}

impl<J: Clone, P: Clone> Place<J, P> {
    /// The job of the worker, if there is one.
    pub fn job(&self) -> Option<&J> {
        self.running.as_ref().map(|running| &running.job)
    }

    /// Was it told to stop?
    pub fn is_stopping(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.stopping)
    }

    /// Is somebody there?
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// What the worker showed last.
    pub fn progress(&self) -> Option<P> {
        Some(self.running.as_ref()?.progress.borrow().clone())
    }

    /// How the last worker ended; `None` while one works.
    pub fn last(&self) -> Option<&Ended> {
        match self.running {
            Some(_) => None,
            None => self.last.as_ref(),
        }
    }

    /// Somebody else has begun to work with the same disk: that it refused this worker says nothing about it any more.
    pub fn forget_disk_failure(&mut self) {
        self.last
            .take_if(|ended| matches!(ended, Ended::DiskFailed(_)));
    }

    /// How long the next start has to wait at `now` (monotonic time).
    pub fn pause(&self, now: Duration) -> Duration {
        self.pause_until.saturating_sub(now)
    }

    /// Takes note of an end. Returns it once.
    pub fn look(&mut self, now: Duration, chance: u64) -> Option<Ended> {
        let running = self.running.as_mut()?;
        let ended = match running.ended.try_recv() {
            Ok(ended) => ended,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => {
                Ended::LogFailed("the worker broke down; see the log of the daemon".to_owned())
            }
        };
        self.last_job = self.running.take().map(|running| running.job.clone());
        match ended {
            Ended::Done(_) | Ended::Reached(_) | Ended::Stopped => {
                self.failures = 0;
                self.pause_until = now + SAME_AGAIN_AFTER;
            }
            _ => self.pause_until = now + self.pause_after_failure(chance),
        }
        self.last = Some(ended.clone());
        Some(ended)
    }

    /// Doubles each time; chance shortens it by up to half, so that hosts do not come back together.
    fn pause_after_failure(&mut self, chance: u64) -> Duration {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(PAUSE_MAX);
        let share = u32::try_from(chance % 1024).unwrap_or(0);
        pause - pause / 2048 * share
    }

    /// Moves towards what is wanted. `same` says whether a running job need not be replaced; `start`
    /// makes the work of a new one and says where it shows its progress.
    pub fn steer<F>(
        &mut self,
        want: &Want<J>,
        now: Duration,
        tasks: &mut JoinSet<()>,
        bell: &Bell,
        same: impl FnOnce(&J, &J) -> bool,
        start: impl FnOnce(J, Stop) -> (watch::Receiver<P>, F),
    ) where
        F: Future<Output = Ended> + Send + 'static,
    {
        match (&mut self.running, want) {
            (None, Want::Rest(_)) => {}
            (None, Want::Run(job)) => {
                let again = self.last_job.as_ref().is_some_and(|last| same(last, job));
                let waits = self.failures > 0 || again;
                if !waits || self.pause(now).is_zero() {
                    self.start(job.clone(), tasks, bell, start);
                }
            }
            (Some(running), Want::Run(job)) if same(&running.job, job) => {}
            (Some(running), _) => running.stop(),
        }
    }

    /// Tells the worker to stop, if there is one.
    pub fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.stop();
        }
    }

    /// Tries again at once; for a change that may have removed the cause of failures.
    pub fn forgive(&mut self) {
        self.failures = 0;
        self.pause_until = Duration::ZERO;
    }

    fn start<F>(
        &mut self,
        job: J,
        tasks: &mut JoinSet<()>,
        bell: &Bell,
        start: impl FnOnce(J, Stop) -> (watch::Receiver<P>, F),
    ) where
        F: Future<Output = Ended> + Send + 'static,
    {
        let (switch, stop) = StopSwitch::new();
        let (tell, ended) = oneshot::channel();
        let (progress, work) = start(job.clone(), stop);
        let bell = bell.clone();
        let task = tasks.spawn(async move {
            let end = work.await;
            // Nobody listens any more when the whole resource was dropped.
            let _ = tell.send(end);
            bell();
        });
        self.last = None;
        self.running = Some(Running {
            job,
            progress,
            switch,
            ended,
            task,
            stopping: false,
        });
    }
}

impl<J, P> Running<J, P> {
    fn stop(&mut self) {
        self.stopping = true;
        self.switch.stop();
    }
}

impl<J, P> Drop for Running<J, P> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
