//! Where blocking storage calls run in a simulated host: one queue per lane, a virtual pause for each
//! call, then the call itself at once. A lane can be stalled; a dead host runs nothing any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use node::ports::{BoxFuture, Exec, Job, Lane};
use tokio::sync::{mpsc, oneshot};

use crate::prng::Prng;

/// Which calls a stall or a slowdown concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Medium {
    /// Appending to own logs and storing fetched ones.
    Log,
    /// The underlying disks.
    Disk,
    /// The store of the key tree, and small files.
    Tree,
}

fn medium(lane: &Lane) -> Medium {
    match lane {
        Lane::Log(_) | Lane::Fetch(_) | Lane::FetchFlush(_) => Medium::Log,
        Lane::Disk(_) | Lane::Read(_) => Medium::Disk,
        Lane::Tree | Lane::Misc => Medium::Tree,
    }
}

struct Queued {
    job: Job,
    done: oneshot::Sender<()>,
}

/// The lanes of one host. Clones share them.
#[derive(Clone)]
pub struct SimExec {
    inner: Arc<Inner>,
}

struct Inner {
    chance: Prng,
    state: Mutex<State>,
}

struct State {
    lanes: BTreeMap<Lane, mpsc::UnboundedSender<Queued>>,
    stalled_until: BTreeMap<Medium, tokio::time::Instant>,
    tasks: tokio::task::JoinSet<()>,
    dead: bool,
}

impl SimExec {
    /// Lanes whose pauses are drawn from `chance`.
    pub fn new(chance: Prng) -> SimExec {
        let state = State {
            lanes: BTreeMap::new(),
            stalled_until: BTreeMap::new(),
            tasks: tokio::task::JoinSet::new(),
            dead: false,
        };
        SimExec {
            inner: Arc::new(Inner {
                chance,
                state: Mutex::new(state),
            }),
        }
    }

    /// Calls of this medium wait until `pause` is over.
    pub fn stall(&self, medium: Medium, pause: Duration) {
        let until = tokio::time::Instant::now() + pause;
        self.inner.state().stalled_until.insert(medium, until);
    }

    /// What is stalled goes on at once with its next call.
    pub fn end_stalls(&self) {
        self.inner.state().stalled_until.clear();
    }

    /// The host has crashed: what has not run yet never runs.
    pub fn kill(&self) {
        let mut state = self.inner.state();
        state.dead = true;
        state.lanes.clear();
        state.tasks.abort_all();
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(&self, medium: Medium) {
        let micros = match self.chance.below(100) {
            0 => self.chance.between(2_000, 20_000),
            1..=9 => self.chance.between(500, 2_000),
            _ => self.chance.between(20, 300),
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
        let until = self.state().stalled_until.get(&medium).copied();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    async fn work(self: Arc<Self>, medium: Medium, mut queue: mpsc::UnboundedReceiver<Queued>) {
        while let Some(Queued { job, done }) = queue.recv().await {
            self.pause(medium).await;
            if self.state().dead {
                return;
            }
            job();
            // Whoever asked may be gone; the call has run to its end all the same.
            let _ = done.send(());
        }
    }
}

impl Exec for SimExec {
    fn run(&self, lane: &Lane, job: Job) -> BoxFuture<'static, ()> {
        let (done, finished) = oneshot::channel();
        let mut state = self.inner.state();
        if state.dead {
            return Box::pin(std::future::pending());
        }
        if !state.lanes.contains_key(lane) {
            let (queue, waiting) = mpsc::unbounded_channel();
            state
                .tasks
                .spawn(self.inner.clone().work(medium(lane), waiting));
            state.lanes.insert(lane.clone(), queue);
        }
        if let Some(queue) = state.lanes.get(lane) {
            // The lane lives as long as the host does, and the host lives.
            let _ = queue.send(Queued { job, done });
        }
        Box::pin(async move {
            if finished.await.is_err() {
                // Crashed before the call ran: nobody hears of it again.
                std::future::pending::<()>().await;
            }
        })
    }
}
