//! Blocking storage calls on threads of their own: the real [`Exec`].
//!
//! Every lane has its queue and one thread, [`Lane::Read`] up to [`READ_THREADS_MAX`]; so a slow disk
//! never delays a log, and the calls of a log never overtake each other. Threads come with the first
//! job and go when their lane had nothing to do for [`IDLE_THREAD_MAX`]; a daemon at rest has none.
//! No thread pool of the async runtime is used: its threads are shared, and a hanging disk would eat them all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::ports::{BoxFuture, Exec, Job, Lane};

/// Reads of one resource in flight. More than a disk or a RAID set of a few spindles can use at once.
const READ_THREADS_MAX: usize = 8;

/// After this time without work a thread ends.
const IDLE_THREAD_MAX: Duration = Duration::from_secs(30);

/// Threads for blocking calls. Dropping it lets every queued job run and then ends the threads.
#[derive(Default)]
pub struct RealExec {
    lanes: Mutex<BTreeMap<Lane, Arc<LaneQueue>>>,
}

#[derive(Default)]
struct LaneQueue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl RealExec {
    /// Without any thread yet.
    pub fn new() -> RealExec {
        RealExec::default()
    }

    fn lane(&self, lane: &Lane) -> Arc<LaneQueue> {
        self.lanes.lock().entry(lane.clone()).or_default().clone()
    }
}

impl Exec for RealExec {
    fn run(&self, lane: &Lane, job: Job) -> BoxFuture<'static, ()> {
        let (done, end) = oneshot::channel();
        let job: Job = Box::new(move || {
            job();
            // Nobody listens when the caller was dropped; the work is done all the same.
            let _ = done.send(());
        });
        self.lane(lane).push(lane, job);
        Box::pin(async move {
            // An error says that the job was dropped unseen, because no thread could be started.
            let _ = end.await;
        })
    }
}

impl Drop for RealExec {
    fn drop(&mut self) {
        for queue in self.lanes.lock().values() {
            queue.waiting.lock().closed = true;
            queue.more.notify_all();
        }
    }
}

impl LaneQueue {
    fn push(self: Arc<Self>, lane: &Lane, job: Job) {
        let mut waiting = self.waiting.lock();
        waiting.jobs.push_back(job);
        if waiting.idle >= waiting.jobs.len() || waiting.threads >= threads_max(lane) {
            self.more.notify_one();
            return;
        }
        waiting.threads += 1;
        drop(waiting);
        self.start_thread(lane);
    }

    fn start_thread(self: Arc<Self>, lane: &Lane) {
        let queue = self.clone();
        let started = std::thread::Builder::new()
            .name(thread_name(lane))
            .spawn(move || queue.work());
        if let Err(error) = started {
            tracing::error!(lane = ?lane, %error, "no thread for blocking calls");
            let mut waiting = self.waiting.lock();
            waiting.threads -= 1;
            if waiting.threads == 0 {
                // Nobody would ever run them; their callers see an unanswered job.
                waiting.jobs.clear();
            }
        }
    }

    fn work(&self) {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                drop(waiting);
                job();
                waiting = self.waiting.lock();
                continue;
            }
            if waiting.closed {
                break;
            }
            waiting.idle += 1;
            let timed_out = self
                .more
                .wait_for(&mut waiting, IDLE_THREAD_MAX)
                .timed_out();
            waiting.idle -= 1;
            if timed_out && waiting.jobs.is_empty() {
                break;
            }
        }
        waiting.threads -= 1;
    }
}

fn threads_max(lane: &Lane) -> usize {
    match lane {
        Lane::Read(_) => READ_THREADS_MAX,
        _ => 1,
    }
}

/// The kernel cuts names of threads at 15 bytes.
fn thread_name(lane: &Lane) -> String {
    match lane {
        Lane::Log(res) => format!("log-{res}"),
        Lane::Disk(res) => format!("disk-{res}"),
        Lane::Read(res) => format!("read-{res}"),
        Lane::Fetch(res) => format!("fetch-{res}"),
        Lane::FetchFlush(res) => format!("flush-{res}"),
        Lane::Tree => "tree".to_owned(),
        Lane::Misc => "misc".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::blocking;
    use tree::Resource;

    fn res() -> Resource {
        Resource::new("data").expect("a good name")
    }

    #[tokio::test]
    async fn jobs_of_one_lane_run_one_after_the_other_in_their_order() {
        let exec = RealExec::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut ends = Vec::new();
        for nr in 0..100 {
            let seen = seen.clone();
            ends.push(exec.run(&Lane::Log(res()), Box::new(move || seen.lock().push(nr))));
        }
        for end in ends {
            end.await;
        }
        assert_eq!(*seen.lock(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_blocked_lane_delays_no_other_and_reads_overlap() {
        let exec = RealExec::new();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let blocked = exec.run(
            &Lane::Read(res()),
            Box::new(move || held.recv().expect("the test releases it")),
        );
        assert_eq!(blocking(&exec, &Lane::Read(res()), || 7).await, Some(7));
        assert_eq!(blocking(&exec, &Lane::Disk(res()), || 8).await, Some(8));
        release.send(()).expect("the job waits for it");
        blocked.await;
    }

    #[tokio::test]
    async fn a_job_runs_even_when_its_caller_is_gone() {
        let exec = RealExec::new();
        let (tell, told) = oneshot::channel();
        drop(exec.run(
            &Lane::Misc,
            Box::new(move || tell.send(()).expect("the test listens")),
        ));
        drop(exec);
        told.await.expect("the job ran");
    }
}
