//! The key tree of this host: what is known, what is stored, who has to hear of a change.
//!
//! One task ([`writer`]) makes every change: it stamps, stores and then shows it, many at a time.
//! Nothing is visible to a peer or to a waiting command before it is on the medium
//! (requirement L-A2), except indicators the key table calls lazy. Everybody else reads snapshots,
//! which cost nothing and never change.
//!
//! Readers learn of changes by a generation that rises with each of them ([`KeyService::watch`]),
//! and ask which paths it were ([`KeyService::changed_since`]).

mod recent;
pub mod reopen;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tree::future::Forgotten;
use tree::knowledge::{Applied, Both, Knowledge, MustReplace, Saved};
use tree::{
    Delta, Entry, HeldBack, Host, LamportClock, Lease, Path, Push, PushItem, Replacement, Stamp,
    Summary, Tree, Value,
};

use crate::ports::{BoxFuture, KeyChange, Keys, KeysError, Lane, Ports, blocking};
use crate::watch;
use recent::Recent;
use writer::{Leases, Task, Work};

/// Fresh changes kept for pushing; a peer further behind gets an exchange instead.
const PUSHES_KEPT_MAX: usize = 8192;

/// Paths of changes kept for readers; a reader further behind looks at everything.
const CHANGES_KEPT_MAX: usize = 65536;

/// Where the key service keeps what it must not lose.
pub struct Storage {
    /// The store of the entries.
    pub store: Box<dyn storage::TreeStore>,
    /// Space that is given back when something cannot be stored.
    pub reserve: Arc<storage::Reserve>,
    /// Small file with the clock lease.
    pub lease: PathBuf,
    /// Small file with the horizons.
    pub horizons: PathBuf,
}

/// Why the key tree could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store of the entries.
    #[error("key tree: {0}")]
    Store(String),
    /// One of the small files beside it.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The clock lease is there but is no number.
    #[error("{path}: found {found:?}, expected nanoseconds since 1970; restore or remove the file")]
    Lease {
        /// Which one.
        path: PathBuf,
        /// Its contents.
        found: String,
    },
    /// The clock seems to be behind, so nothing can be forgotten.
    #[error(transparent)]
    ClockBehind(#[from] tree::future::ClockBehind),
    /// The daemon is going down.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What a key service has to know about time.
#[derive(Clone, Copy, Debug)]
pub struct Future {
    /// How far ahead of the time of day a stamp may be, in nanoseconds, before it is held back.
    pub max_ns: u64,
    /// The clock of this host was further ahead than that and is right now: make good what was written meanwhile.
    pub forget: bool,
}

/// What everybody sees.
struct Shared {
    knowledge: Knowledge,
    clock: LamportClock,
    generation: u64,
    changes: Recent<Path>,
    pushes: Recent<PushItem>,
    /// Which entries wait for the wall clock, for messages: writer and seconds ahead.
    held_back: Option<String>,
    /// How often another tree has taken the place of this one.
    replacements: u64,
}

/// See the head of this file. Shared by everything that runs for this host.
pub struct KeyService {
    here: Host,
    ports: Ports,
    shared: Arc<Mutex<Shared>>,
    queue: mpsc::UnboundedSender<Work>,
    generation: watch::Sender<u64>,
    pushed: watch::Sender<u64>,
}

/// Runs the changes; the service answers as long as it runs.
pub type WriterTask = BoxFuture<'static, ()>;

/// What changed since some generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These paths, each once.
    Paths(BTreeSet<Path>),
    /// Too long ago to say.
    Everything,
}

impl KeyService {
    /// Loads the tree. The second part has to be run for anything to change.
    ///
    /// # Errors
    /// [`OpenError`] when something stored cannot be read.
    pub async fn open(
        here: &Host,
        ports: &Ports,
        future: Future,
        storage: Storage,
    ) -> Result<(Arc<KeyService>, WriterTask), OpenError> {
        let (fs, name, wall_ns) = (ports.fs.clone(), here.clone(), ports.clock.wall_ns());
        let load = move || load(&*fs, &name, storage, future, wall_ns);
        let (knowledge, lease, storage) = blocking(&*ports.exec, &Lane::Tree, load)
            .await
            .ok_or(OpenError::Stopping)??;
        let mut clock = LamportClock::restored(lease.upto_ns()).with_max_future(future.max_ns);
        for (_, entry) in knowledge.tree().iter() {
            clock.observe(entry.stamp.ns.max(entry.issue.nr));
        }
        let (queue, work) = mpsc::unbounded_channel();
        let shared = Arc::new(Mutex::new(Shared {
            knowledge,
            clock,
            generation: 1,
            replacements: 0,
            changes: Recent::new(CHANGES_KEPT_MAX),
            pushes: Recent::new(PUSHES_KEPT_MAX),
            held_back: None,
        }));
        let service = Arc::new(KeyService {
            here: here.clone(),
            ports: ports.clone(),
            shared,
            queue,
            generation: watch::Sender::new(1),
            pushed: watch::Sender::new(0),
        });
        let task = Task::new(&service, storage, Leases::new(lease, future));
        Ok((service, Box::pin(task.run(work))))
    }

    /// This host.
    pub fn here(&self) -> &Host {
        &self.here
    }

    /// The tree as it is now.
    pub fn read(&self) -> Tree {
        self.shared.lock().knowledge.tree().clone()
    }

    /// The tree together with its generation.
    pub fn read_at(&self) -> (Tree, u64) {
        let shared = self.shared.lock();
        (shared.knowledge.tree().clone(), shared.generation)
    }

    /// Lamport time of this moment, in nanoseconds since 1970.
    pub fn now_ns(&self) -> u64 {
        let wall = self.ports.clock.wall_ns();
        self.shared.lock().clock.now(wall)
    }

    /// Rises with every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// What changed after `generation`.
    pub fn changed_since(&self, generation: u64) -> Changed {
        let shared = self.shared.lock();
        match shared.changes.after(generation) {
            Some(paths) => Changed::Paths(paths.cloned().collect()),
            None => Changed::Everything,
        }
    }

    /// Entries whose stamps lie so far ahead that they wait, as a sentence.
    pub fn held_back(&self) -> Option<String> {
        self.shared.lock().held_back.clone()
    }

    /// How often another tree has taken the place of this one since the start: what nobody had heard is gone with the old one.
    pub fn replacements(&self) -> u64 {
        self.shared.lock().replacements
    }

    /// Were entries lost here, and has no peer given them back yet?
    pub fn is_incomplete(&self) -> bool {
        self.shared.lock().knowledge.is_incomplete()
    }

    /// What this host has seen, and the digest of its tree.
    pub fn summary(&self) -> (Summary, [u8; 16]) {
        let shared = self.shared.lock();
        let knowledge = &shared.knowledge;
        (knowledge.summary().clone(), knowledge.tree().digest())
    }

    /// What a peer with this summary lacks.
    pub fn delta_since(&self, peer: &Summary, entries_max: usize) -> Delta {
        self.shared.lock().knowledge.delta_since(peer, entries_max)
    }

    /// May this tree and that of `peer` be merged?
    ///
    /// # Errors
    /// [`MustReplace`] when the peer was away for too long.
    pub fn may_merge_with(&self, peer: &Host, summary: &Summary) -> Result<(), MustReplace> {
        self.shared.lock().knowledge.may_merge_with(peer, summary)
    }

    /// Looks into the knowledge itself, for the digest trie.
    pub fn with_knowledge<T>(&self, look: impl FnOnce(&Knowledge) -> T) -> T {
        look(&self.shared.lock().knowledge)
    }

    /// Rises with every change there is to push.
    pub fn watch_pushes(&self) -> watch::Receiver<u64> {
        self.pushed.subscribe()
    }

    /// Fresh own changes after the first `after`, and how many there were in all. `None` when some of
    /// them are no longer kept: then an exchange is due.
    pub fn pushes_after(&self, after: u64) -> (Option<Vec<PushItem>>, u64) {
        let shared = self.shared.lock();
        let items = shared.pushes.after(after);
        (
            items.map(|all| all.cloned().collect()),
            shared.pushes.last(),
        )
    }

    /// Takes over the answer to a summary.
    ///
    /// # Errors
    /// [`KeysError`] when it cannot be stored; nothing was taken over then.
    pub async fn merge_delta(&self, delta: Delta) -> Result<Applied, KeysError> {
        let (done, answer) = oneshot::channel();
        self.send(Work::Delta { delta, done })?;
        answer.await.map_err(|_| KeysError::Stopping)?
    }

    /// Takes over what a peer pushed.
    ///
    /// # Errors
    /// As [`KeyService::merge_delta`].
    pub async fn merge_push(&self, push: Push) -> Result<Applied, KeysError> {
        let (done, answer) = oneshot::channel();
        self.send(Work::Push { push, done })?;
        answer.await.map_err(|_| KeysError::Stopping)?
    }

    /// Takes over entries found by the digest trie.
    ///
    /// # Errors
    /// As [`KeyService::merge_delta`].
    pub async fn merge_repair(&self, entries: Vec<(Path, Entry)>) -> Result<Applied, KeysError> {
        let (done, answer) = oneshot::channel();
        self.send(Work::Repair { entries, done })?;
        answer.await.map_err(|_| KeysError::Stopping)?
    }

    /// Takes a delta into a tree that is being filled; `true` when that is complete.
    ///
    /// # Errors
    /// As [`Replacement::take`].
    pub fn fill(&self, replacement: &mut Replacement, delta: Delta) -> Result<bool, HeldBack> {
        let wall = self.ports.clock.wall_ns();
        let shared = self.shared.lock();
        replacement.take(delta, |ns| shared.clock.admits(ns, wall))
    }

    /// Uses another tree from now on. End the sessions with peers: they spoke of the old one.
    ///
    /// # Errors
    /// [`KeysError`] when it cannot be stored; the old tree stays then.
    pub async fn replace(&self, replacement: Replacement) -> Result<(), KeysError> {
        let (done, answer) = oneshot::channel();
        let replacement = Box::new(replacement);
        self.send(Work::Replace { replacement, done })?;
        answer.await.map_err(|_| KeysError::Stopping)?
    }

    /// Stores changes with an explicit stamp (nanoseconds since 1970), or the next one of the clock.
    /// The future ends with an error when they cannot be stored; nothing is visible then.
    pub fn commit_at(
        &self,
        changes: Vec<KeyChange>,
        stamp_ns: Option<u64>,
    ) -> BoxFuture<'static, Result<Stamp, KeysError>> {
        let (done, answer) = oneshot::channel();
        let sent = checked(changes).and_then(|changes| {
            self.send(Work::Commit {
                changes,
                stamp_ns,
                done: Some(done),
            })
        });
        Box::pin(async move {
            sent?;
            answer.await.map_err(|_| KeysError::Stopping)?
        })
    }

    /// Forgets deletions every member has seen. They leave the store after the new floor is stored:
    /// after a crash before that they are forgotten again.
    ///
    /// # Errors
    /// [`KeysError::Stopping`].
    pub fn forget(&self, paths: Vec<Path>) -> Result<(), KeysError> {
        self.send(Work::Forget { paths })
    }

    /// Stores everything that is still only visible. For an orderly stop.
    ///
    /// # Errors
    /// [`KeysError`] when it cannot be stored.
    pub async fn settle(&self) -> Result<(), KeysError> {
        let (done, answer) = oneshot::channel();
        self.send(Work::Settle { done })?;
        answer.await.map_err(|_| KeysError::Stopping)?
    }

    fn send(&self, work: Work) -> Result<(), KeysError> {
        self.queue.send(work).map_err(|_| KeysError::Stopping)
    }
}

impl Keys for KeyService {
    fn commit(&self, changes: Vec<KeyChange>) -> BoxFuture<'static, Result<Stamp, KeysError>> {
        self.commit_at(changes, None)
    }

    fn commit_lazy(&self, changes: Vec<KeyChange>) {
        match checked(changes) {
            // A daemon that goes down needs no indicators any more.
            Ok(changes) => drop(self.send(Work::Lazy { changes })),
            Err(error) => tracing::error!(%error, "an indicator was not published"),
        }
    }
}

/// Texts become values, or the whole batch is refused.
fn checked(changes: Vec<KeyChange>) -> Result<Vec<(Path, Value)>, KeysError> {
    let value = |(path, text): KeyChange| match text {
        None => Ok((path, Value::Tombstone)),
        Some(text) => match Value::text(&text) {
            Ok(value) => Ok((path, value)),
            Err(error) => Err(KeysError::Store(format!("{path}: {error}"))),
        },
    };
    changes.into_iter().map(value).collect()
}

/// Reads everything stored.
fn load(
    fs: &dyn storage::Fs,
    here: &Host,
    mut storage: Storage,
    future: Future,
    wall_ns: u64,
) -> Result<(Knowledge, Lease, Storage), OpenError> {
    let lease = load_lease(fs, &storage.lease)?;
    let saved = match storage::read_small(fs, &storage.horizons).map_err(at(&storage.horizons))? {
        // An unreadable copy counts as none: everything is then asked for once more.
        Some(bytes) => rmp_serde::from_slice(&bytes).unwrap_or_default(),
        None => Saved::default(),
    };
    let entries = storage.store.load().map_err(store_failed)?;
    if future.forget
        && let Some(forgotten) =
            tree::future::forget(here, &entries, &lease, wall_ns, future.max_ns)?
    {
        let lease = forgotten.lease.clone();
        let entries = forget(fs, &mut storage, entries, forgotten)?;
        let knowledge = Knowledge::after_loss(here, entries, lease.upto_ns());
        return Ok((knowledge, lease, storage));
    }
    warn_of_future(lease.upto_ns(), wall_ns, future);
    let knowledge = match storage.store.must_resync() {
        Some(why) => {
            tracing::error!(%why, "keys were lost; a peer has to give them back");
            Knowledge::after_loss(here, entries, lease.upto_ns())
        }
        None if entries.len() < ENTRIES_WORTH_A_THREAD => {
            Knowledge::restored(here, entries, saved, lease.upto_ns())
        }
        None => Knowledge::restored_by(&TwoThreads, here, entries, saved, lease.upto_ns()),
    };
    Ok((knowledge, lease, storage))
}

/// With fewer entries than these a start is too short to be shared by two threads.
const ENTRIES_WORTH_A_THREAD: usize = 50_000;

/// Both at the same time.
struct TwoThreads;

impl Both for TwoThreads {
    fn both<A, B: Send>(
        &self,
        one: impl FnOnce() -> A,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        std::thread::scope(|scope| {
            let other = scope.spawn(other);
            let one = one();
            let other = other.join();
            let other = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (one, other)
        })
    }
}

/// Stores the entries that are stamped anew, then the lease, then that nothing was seen. After a crash in between
/// it is all done again.
fn forget(
    fs: &dyn storage::Fs,
    storage: &mut Storage,
    entries: Vec<(Path, Entry)>,
    forgotten: Forgotten,
) -> Result<BTreeMap<Path, Entry>, OpenError> {
    let changes: Vec<(Path, Option<Entry>)> = forgotten
        .changed
        .iter()
        .map(|(path, entry)| (path.clone(), Some(entry.clone())))
        .collect();
    tracing::warn!(keys = changes.len(), "forgetting a future that was none");
    let nothing = rmp_serde::to_vec(&Saved::default());
    let nothing = nothing.map_err(|error| OpenError::Store(error.to_string()))?;
    storage::write_small(fs, &storage.horizons, &nothing).map_err(at(&storage.horizons))?;
    storage.store.commit(&changes).map_err(store_failed)?;
    let lease = forgotten.lease.to_string();
    storage::write_small(fs, &storage.lease, lease.as_bytes()).map_err(at(&storage.lease))?;
    Ok(entries.into_iter().chain(forgotten.changed).collect())
}

fn warn_of_future(lease: u64, wall_ns: u64, future: Future) {
    let ahead_ns = lease.saturating_sub(wall_ns);
    if ahead_ns > future.max_ns {
        tracing::error!(
            ahead_s = ahead_ns / tree::stamp::SECOND_NS,
            "this host has written ahead of its clock, and others hold that back; if its clock is right now, \
             start it once with --forget-future"
        );
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn store_failed(error: storage::StoreError) -> OpenError {
    OpenError::Store(error.to_string())
}

fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::File { path, source }
}

fn load_lease(fs: &dyn storage::Fs, path: &std::path::Path) -> Result<Lease, OpenError> {
    let bytes = storage::read_small(fs, path).map_err(at(path))?;
    let Some(bytes) = bytes else {
        return Ok(Lease::default());
    };
    let text = String::from_utf8_lossy(&bytes);
    text.parse().map_err(|_| OpenError::Lease {
        path: path.to_owned(),
        found: text.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_do_both_and_keep_what_came_of_which() {
        let here = std::thread::current().id();
        let (one, other) = TwoThreads.both(|| "one", || (std::thread::current().id(), "other"));
        assert_eq!((one, other.1), ("one", "other"));
        assert_ne!(other.0, here);
    }
}
