//! Everything a worker or the main loop may touch besides the key tree.
//!
//! Time, chance, blocking storage calls and the network come in through these traits, so that the
//! simulation runs the same code as the daemon: the real ports live in `real/`, the simulated ones
//! in the package `simtest`. Nothing else in this package asks for the time, starts a thread,
//! makes a blocking call or opens a socket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tree::{Path, Resource, Stamp};

/// A boxed future, the return type of every port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What time it is, and waiting.
pub trait Clock: Send + Sync {
    /// Time of day in nanoseconds since 1970, as this host believes it; may jump.
    fn wall_ns(&self) -> u64;
    /// Time since some fixed moment of this process; never jumps, never goes back.
    fn mono(&self) -> Duration;
    /// Ends after `pause` of monotonic time.
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()>;
}

/// Chance: for jitter and for choosing among equals. Never for secrets.
pub trait Chance: Send + Sync {
    /// A number drawn evenly from all 64-bit numbers.
    fn u64(&self) -> u64;
}

/// Where a blocking storage call runs. Calls of one lane run one after the other in the order
/// given, except [`Lane::Read`], whose calls may overlap; different lanes never wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Appending to and flushing the own transaction log of a resource.
    Log(Resource),
    /// Writing and flushing the underlying disk of a resource.
    Disk(Resource),
    /// Reading the underlying disk or a log of a resource.
    Read(Resource),
    /// Writing fetched log bytes of a resource.
    Fetch(Resource),
    /// Flushing fetched log bytes of a resource, while more are written.
    FetchFlush(Resource),
    /// The store of the key tree.
    Tree,
    /// Whatever is rare: directory listings, small files, free space.
    Misc,
}

/// A job for a lane.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs blocking jobs away from the async tasks.
pub trait Exec: Send + Sync {
    /// Runs `job` on `lane`; the future ends when the job has ended. The job runs to its end even
    /// when the future is dropped.
    fn run(&self, lane: &Lane, job: Job) -> BoxFuture<'static, ()>;
}

/// Runs `work` on `lane` and hands back what it returned; `None` when the lane was shut down
/// before the job could run.
pub async fn blocking<T, F>(exec: &dyn Exec, lane: &Lane, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (answer, result) = tokio::sync::oneshot::channel();
    exec.run(
        lane,
        Box::new(move || {
            // The receiver is gone when the caller was dropped; nobody misses the answer then.
            let _ = answer.send(work());
        }),
    )
    .await;
    result.await.ok()
}

/// Waits for `work`, at most `limit`; `None` when the limit came first.
pub async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let pause = clock.sleep(limit);
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => Some(done),
        () = pause => None,
    }
}

/// One change of an own key: the path and its new text, or nothing to delete it.
pub type KeyChange = (Path, Option<String>);

/// How workers write their own progress into the key tree. They never read the cluster through it.
pub trait Keys: Send + Sync {
    /// Stores all changes as one batch with one stamp. When it returns they survive a crash of this
    /// host, and only then may a peer see them (requirement L-A2).
    fn commit(&self, changes: Vec<KeyChange>) -> BoxFuture<'static, Result<Stamp, KeysError>>;
    /// Like [`Keys::commit`] for progress indicators whose loss only costs replay time (L-A3):
    /// visible at once, stored soon after.
    fn commit_lazy(&self, changes: Vec<KeyChange>);
}

/// Why a key could not be stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeysError {
    /// The store of the key tree refused; the change is not visible anywhere.
    #[error("key tree cannot be stored: {0}; check the state directory and its free space")]
    Store(String),
    /// The daemon is going down.
    #[error("the daemon is stopping")]
    Stopping,
}

/// The ports of one host. Cloning is cheap.
#[derive(Clone)]
pub struct Ports {
    /// Time of day, monotonic time, waiting.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// Where blocking storage calls run.
    pub exec: Arc<dyn Exec>,
    /// Files and directories.
    pub fs: Arc<dyn storage::Fs>,
    /// The other hosts.
    pub net: Arc<dyn transport::Net>,
}
