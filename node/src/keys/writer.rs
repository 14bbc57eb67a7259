//! The one task that changes the key tree: stamp, store, show, answer; many changes per flush.
//!
//! A round takes everything that waits, gives each commit one stamp and each entry an issue number
//! of its own, makes the batch durable, and only then shows it. A round of indicators only shows
//! them at once and stores them with a later one, at the latest after [`LAZY_STORED_AFTER`].
//! Horizons are stored after the entries they speak of, the clock lease before it is used.

mod medium;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tree::keys::may_be_lazy;
use tree::knowledge::{Applied, Sifted};
use tree::{Delta, Entry, Issue, Lease, Path, Push, Replacement, Stamp, Value};

use super::{KeyService, Shared, Storage};
use crate::ports::{KeysError, Ports};
use crate::watch;

/// Lazy entries reach the medium at the latest after this time.
const LAZY_STORED_AFTER: Duration = Duration::from_secs(5);

/// Horizons are stored at most this often.
const HORIZONS_STORED_EVERY: Duration = Duration::from_secs(20);

/// So many requests at most share one flush; more would only delay the first of them.
const BATCH_MAX: usize = 1024;

type Done<T> = oneshot::Sender<Result<T, KeysError>>;
type Store = Arc<Mutex<Box<dyn storage::TreeStore>>>;

/// One request to the writer.
pub(super) enum Work {
    /// Durable before visible.
    Commit {
        changes: Vec<(Path, Value)>,
        stamp_ns: Option<u64>,
        done: Option<Done<Stamp>>,
    },
    /// Visible at once, where the key table allows it.
    Lazy { changes: Vec<(Path, Value)> },
    /// The answer of a peer to a summary.
    Delta { delta: Delta, done: Done<Applied> },
    /// Fresh changes of a peer.
    Push { push: Push, done: Done<Applied> },
    /// Entries found by the digest trie.
    Repair {
        entries: Vec<(Path, Entry)>,
        done: Done<Applied>,
    },
    /// Deletions every member has seen.
    Forget { paths: Vec<Path> },
    /// Another tree instead of this one.
    Replace {
        replacement: Box<Replacement>,
        done: Done<()>,
    },
    /// Store what is only visible.
    Settle { done: Done<()> },
}

/// What a request became.
enum Prepared {
    /// Own entries under one stamp, in the order of their issue.
    Issued {
        entries: Vec<(Path, Entry)>,
        stamp: Stamp,
        done: Option<Done<Stamp>>,
    },
    /// Entries of others.
    Sifted { sifted: Sifted, done: Done<Applied> },
    /// Nothing to show; the answer is that everything before it is stored.
    Settled { done: Done<()> },
}

/// What is to be stored: the newest entry of each path, or that it is forgotten.
type ToStore = BTreeMap<Path, Option<Entry>>;

/// The clock lease on the medium, and by how much more it has to be for a leap.
pub(super) struct Leases {
    stored: Lease,
    leap_ns: u64,
}

impl Leases {
    pub(super) fn new(stored: Lease, future: super::Future) -> Leases {
        Leases {
            stored,
            leap_ns: future.max_ns,
        }
    }
}

pub(super) struct Task {
    ports: Ports,
    shared: Arc<Mutex<Shared>>,
    generation: watch::Sender<u64>,
    pushed: watch::Sender<u64>,
    store: Store,
    reserve: Arc<storage::Reserve>,
    lease: PathBuf,
    leases: Leases,
    horizons: PathBuf,
    /// Visible but not yet stored, and since when (monotonic time).
    unsaved: ToStore,
    /// Paths of commits that failed: what the medium holds there is not known.
    doubtful: BTreeSet<Path>,
    unsaved_since: Option<Duration>,
    /// Forgotten deletions that leave the store once the new floor is stored.
    forgotten: Vec<Path>,
    /// The store lost entries; it is told when they are back.
    lossy: bool,
    horizons_stored: Vec<u8>,
    /// When the horizons may be stored again (monotonic time).
    horizons_due: Duration,
}

impl Task {
    pub(super) fn new(service: &KeyService, storage: Storage, leases: Leases) -> Task {
        Task {
            ports: service.ports.clone(),
            shared: service.shared.clone(),
            generation: service.generation.clone(),
            pushed: service.pushed.clone(),
            store: Arc::new(Mutex::new(storage.store)),
            reserve: storage.reserve,
            lease: storage.lease,
            leases,
            horizons: storage.horizons,
            unsaved: ToStore::new(),
            doubtful: BTreeSet::new(),
            unsaved_since: None,
            forgotten: Vec::new(),
            lossy: service.is_incomplete(),
            horizons_stored: Vec::new(),
            horizons_due: Duration::ZERO,
        }
    }

    /// Ends when nobody can ask any more.
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Work>) {
        loop {
            let first = tokio::select! {
                biased;
                work = queue.recv() => match work {
                    Some(work) => Some(work),
                    None => return,
                },
                () = lazy_is_due(&self.ports, self.unsaved_since) => None,
            };
            let flush = first.is_none();
            let mut batch = Vec::new();
            let mut replace = None;
            let mut next = first;
            while let Some(work) = next {
                match work {
                    Work::Replace { replacement, done } => replace = Some((replacement, done)),
                    work => batch.push(work),
                }
                let full = replace.is_some() || batch.len() >= BATCH_MAX;
                next = (!full).then(|| queue.try_recv().ok()).flatten();
            }
            self.round(batch, flush || replace.is_some()).await;
            if let Some((replacement, done)) = replace {
                let result = self.replace(*replacement).await;
                answer(Some(done), result);
            }
        }
    }

    /// Takes a batch through all steps.
    async fn round(&mut self, batch: Vec<Work>, mut flush: bool) {
        let mut ready = Vec::new();
        let mut settle = false;
        for work in batch {
            settle |= matches!(work, Work::Settle { .. });
            match self.prepare(work).await {
                Ok(more) => ready.extend(more),
                Err(error) => tracing::error!(%error, "an indicator was not published"),
            }
        }
        flush |= settle || ready.iter().any(|one| !one.is_lazy());
        let result = if flush {
            self.store(&ready).await
        } else {
            self.remember(&ready);
            Ok(())
        };
        for one in ready {
            self.finish(one, &result);
        }
        self.announce();
        if flush && result.is_ok() {
            let whole = self.lossy && !self.shared.lock().knowledge.is_incomplete();
            let now = settle || whole || !self.forgotten.is_empty();
            if self.store_horizons(now).await {
                self.remove_forgotten();
                if whole {
                    self.tell_whole().await;
                }
            }
        }
        self.renew_lease().await;
    }

    /// Stamps or sifts one request.
    async fn prepare(&mut self, work: Work) -> Result<Option<Prepared>, KeysError> {
        match work {
            Work::Commit {
                changes,
                stamp_ns,
                done,
            } => Ok(self.stamp(changes, stamp_ns, done, false).await),
            Work::Lazy { changes } => {
                let changes = self.unlike_now(changes);
                Ok(self.stamp(changes, None, None, true).await)
            }
            Work::Delta { delta, done } => {
                let sifted = self.sift(|shared, wall| {
                    let clock = &shared.clock;
                    shared
                        .knowledge
                        .sift_delta(delta, |ns| clock.admits(ns, wall))
                });
                Ok(Some(Prepared::Sifted { sifted, done }))
            }
            Work::Push { push, done } => {
                let sifted = self.sift(|shared, wall| {
                    let clock = &shared.clock;
                    shared
                        .knowledge
                        .sift_push(push, |ns| clock.admits(ns, wall))
                });
                Ok(Some(Prepared::Sifted { sifted, done }))
            }
            Work::Repair { entries, done } => {
                let sifted = self.sift(|shared, wall| {
                    let clock = &shared.clock;
                    let admit = |ns| clock.admits(ns, wall);
                    shared.knowledge.sift_repair(entries, admit)
                });
                Ok(Some(Prepared::Sifted { sifted, done }))
            }
            Work::Forget { paths } => {
                let forgotten = self.shared.lock().knowledge.forget(&paths);
                self.forgotten.extend(forgotten);
                self.wait_for_company();
                Ok(None)
            }
            Work::Settle { done } => Ok(Some(Prepared::Settled { done })),
            // The round ended before it.
            Work::Replace { done, .. } => {
                answer(Some(done), Err(KeysError::Stopping));
                Ok(None)
            }
        }
    }

    /// Indicators that say what they said before are not worth an entry.
    fn unlike_now(&self, changes: Vec<(Path, Value)>) -> Vec<(Path, Value)> {
        let shared = self.shared.lock();
        let tree = shared.knowledge.tree();
        changes
            .into_iter()
            .filter(|(path, value)| tree.get(path).map(|held| &held.value) != Some(value))
            .collect()
    }

    fn sift(&self, how: impl FnOnce(&Shared, u64) -> Sifted) -> Sifted {
        let wall = self.ports.clock.wall_ns();
        let mut shared = self.shared.lock();
        let sifted = how(&shared, wall);
        if let Some(one) = sifted.held_back.first() {
            tracing::warn!(path = %one.path, writer = %one.writer, why = %one.why, "held back");
            shared.held_back = Some(format!("{} by {}: {}", one.path, one.writer, one.why));
        }
        sifted
    }

    /// One stamp for all, an issue number for each. Answers itself when that fails.
    async fn stamp(
        &mut self,
        changes: Vec<(Path, Value)>,
        stamp_ns: Option<u64>,
        done: Option<Done<Stamp>>,
        lazy: bool,
    ) -> Option<Prepared> {
        match self.issue(changes, stamp_ns, lazy).await {
            Ok((entries, stamp)) => Some(Prepared::Issued {
                entries,
                stamp,
                done,
            }),
            Err(error) => {
                answer(done, Err(error));
                None
            }
        }
    }

    async fn issue(
        &mut self,
        changes: Vec<(Path, Value)>,
        stamp_ns: Option<u64>,
        lazy: bool,
    ) -> Result<(Vec<(Path, Entry)>, Stamp), KeysError> {
        let me = self.shared.lock().knowledge.me().clone();
        let first = self.reading().await?;
        let stamp = Stamp::new(stamp_ns.unwrap_or(first), &me);
        let mut entries = Vec::with_capacity(changes.len());
        let mut nr = first;
        for (path, value) in changes {
            if !entries.is_empty() {
                nr = self.reading().await?;
            }
            let lazy = lazy && self.is_lazy(&path, &value);
            let writer = me.clone();
            let entry = Entry {
                value,
                stamp: stamp.clone(),
                issue: Issue { nr, writer },
                lazy,
            };
            entries.push((path, entry));
        }
        Ok((entries, stamp))
    }

    fn is_lazy(&self, path: &Path, value: &Value) -> bool {
        let shared = self.shared.lock();
        let old = shared.knowledge.tree().text(path.as_str());
        value
            .as_text()
            .is_some_and(|new| may_be_lazy(path, old, new))
    }

    /// The next reading of the clock; stores a new lease when the old one is used up.
    async fn reading(&mut self) -> Result<u64, KeysError> {
        loop {
            let wall = self.ports.clock.wall_ns();
            let asked = self.shared.lock().clock.next(wall);
            match asked {
                Ok(reading) => return Ok(reading),
                Err(needed) => self.store_lease(needed.upto).await?,
            }
        }
    }

    /// Adds what will be newer than what the tree holds.
    fn add(&self, all: &mut ToStore, ready: &[Prepared]) {
        let shared = self.shared.lock();
        let tree = shared.knowledge.tree();
        for (path, entry) in ready.iter().flat_map(Prepared::entries) {
            let newer_than_waiting = match all.get(path) {
                Some(Some(waiting)) => entry.beats(waiting),
                _ => true,
            };
            if newer_than_waiting && tree.wants(path, entry) {
                all.insert(path.clone(), Some(entry.clone()));
            }
        }
    }

    /// Shows what is stored now, and answers.
    fn finish(&mut self, ready: Prepared, result: &Result<(), KeysError>) {
        match (ready, result) {
            (
                Prepared::Issued {
                    entries,
                    stamp,
                    done,
                },
                Ok(()),
            ) => {
                self.show_own(entries);
                answer(done, Ok(stamp));
            }
            (Prepared::Sifted { sifted, done }, Ok(())) => {
                let applied = self.show_others(sifted);
                answer(Some(done), Ok(applied));
            }
            (Prepared::Settled { done }, result) => answer(Some(done), result.clone()),
            (Prepared::Issued { done, .. }, Err(error)) => answer(done, Err(error.clone())),
            (Prepared::Sifted { done, .. }, Err(error)) => answer(Some(done), Err(error.clone())),
        }
    }

    fn show_own(&self, entries: Vec<(Path, Entry)>) {
        let mut shared = self.shared.lock();
        for (path, entry) in entries {
            if let Some(push) = shared.knowledge.issue(path.clone(), entry) {
                shared.generation += 1;
                let generation = shared.generation;
                shared.changes.push_at(generation, path);
                shared.pushes.push(push);
            }
        }
    }

    fn show_others(&self, sifted: Sifted) -> Applied {
        let mut shared = self.shared.lock();
        for (_, entry) in &sifted.entries {
            shared.clock.observe(entry.stamp.ns.max(entry.issue.nr));
        }
        let applied = shared.knowledge.apply(sifted);
        for path in &applied.changed {
            shared.generation += 1;
            let generation = shared.generation;
            shared.changes.push_at(generation, path.clone());
        }
        applied
    }

    /// Wakes everybody who waits for changes.
    fn announce(&self) {
        let (generation, pushes) = {
            let shared = self.shared.lock();
            (shared.generation, shared.pushes.last())
        };
        raise(&self.generation, generation);
        raise(&self.pushed, pushes);
    }
}

impl Prepared {
    fn entries(&self) -> &[(Path, Entry)] {
        match self {
            Prepared::Issued { entries, .. } => entries,
            Prepared::Sifted { sifted, .. } => &sifted.entries,
            Prepared::Settled { .. } => &[],
        }
    }

    fn is_lazy(&self) -> bool {
        self.entries().iter().all(|(_, entry)| entry.lazy)
    }
}

fn raise(sender: &watch::Sender<u64>, nr: u64) {
    sender.send_if_modified(|held| {
        let rises = *held < nr;
        *held = nr;
        rises
    });
}

fn answer<T>(done: Option<Done<T>>, result: Result<T, KeysError>) {
    if let Some(done) = done {
        // Who asked may have gone away; the change stays.
        let _ = done.send(result);
    }
}

async fn lazy_is_due(ports: &Ports, since: Option<Duration>) {
    match since {
        None => std::future::pending().await,
        Some(since) => {
            let passed = ports.clock.mono().saturating_sub(since);
            let left = LAZY_STORED_AFTER.saturating_sub(passed);
            ports.clock.sleep(left).await;
        }
    }
}
