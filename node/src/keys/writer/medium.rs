//! What the writer puts on the medium, and in which order.
//!
//! Entries before the horizons that speak of them; the floor of forgotten deletions before they leave the store; the
//! clock lease before it is used; the mark of a lossy store last.

use std::path::PathBuf;

use storage::StoreError;
use tree::{Entry, Knowledge, Path, Replacement};

use super::{HORIZONS_STORED_EVERY, Prepared, Task, ToStore};
use crate::ports::{KeysError, Lane, blocking};

impl Task {
    /// Makes everything durable that waits for it.
    pub(super) async fn store(&mut self, ready: &[Prepared]) -> Result<(), KeysError> {
        self.unsaved_since = None;
        let waiting = std::mem::take(&mut self.unsaved);
        let mut all = waiting.clone();
        self.add(&mut all, ready);
        self.settle_doubts(&mut all);
        let paths: Vec<Path> = all.keys().cloned().collect();
        let result = self.commit(all).await;
        match &result {
            Ok(()) => self.doubtful.clear(),
            Err(_) => {
                self.doubtful.extend(paths);
                self.unsaved = waiting;
                self.wait_for_company();
            }
        }
        result
    }

    /// A commit that failed may have reached the medium all the same: with the next one those paths
    /// get again what the tree holds.
    fn settle_doubts(&self, all: &mut ToStore) {
        let shared = self.shared.lock();
        let tree = shared.knowledge.tree();
        for path in &self.doubtful {
            if !all.contains_key(path) {
                all.insert(path.clone(), tree.get(path).cloned());
            }
        }
    }

    /// Shown now, stored later.
    pub(super) fn remember(&mut self, ready: &[Prepared]) {
        let mut waiting = std::mem::take(&mut self.unsaved);
        self.add(&mut waiting, ready);
        self.unsaved = waiting;
        if !self.unsaved.is_empty() {
            self.wait_for_company();
        }
    }

    pub(super) fn wait_for_company(&mut self) {
        let now = self.ports.clock.mono();
        self.unsaved_since.get_or_insert(now);
    }

    /// One durable step.
    async fn commit(&self, all: ToStore) -> Result<(), KeysError> {
        if all.is_empty() {
            return Ok(());
        }
        let store = self.store.clone();
        let batch: Vec<(Path, Option<Entry>)> = all.into_iter().collect();
        let reserve = self.reserve.clone();
        let write = move || {
            let is_full = |error: &StoreError| matches!(error, StoreError::Full { .. });
            reserve
                .spend(is_full, || store.lock().commit(&batch))
                .map_err(|error| error.to_string())
        };
        blocking(&*self.ports.exec, &Lane::Tree, write)
            .await
            .ok_or(KeysError::Stopping)?
            .map_err(KeysError::Store)
    }

    /// Another tree takes the place of this one: stored in one step, then its horizons, then shown.
    pub(super) async fn replace(&mut self, replacement: Replacement) -> Result<(), KeysError> {
        let waiting = std::mem::take(&mut self.unsaved);
        let old = self.shared.lock().knowledge.clone();
        let changes = replacement.changes(&old);
        let own = self.said_again(&replacement, &changes, &old).await;
        let mut all = waiting.clone();
        all.extend(changes.iter().cloned());
        let stored = match &own {
            Ok(own) => {
                let entries = own.iter().cloned();
                all.extend(entries.map(|(path, entry)| (path, Some(entry))));
                self.commit(all).await
            }
            Err(error) => Err(error.clone()),
        };
        let (Ok(own), Ok(())) = (own, stored.clone()) else {
            self.unsaved = waiting;
            self.wait_for_company();
            return stored;
        };
        self.forgotten.clear();
        let mut new = replacement.finish(&old);
        for (path, entry) in &own {
            new.issue(path.clone(), entry.clone());
        }
        if let Ok(bytes) = rmp_serde::to_vec_named(&new.saved()) {
            self.write_small(self.horizons.clone(), bytes).await?;
        }
        let mut shared = self.shared.lock();
        shared.knowledge = new;
        shared.replacements += 1;
        let own = own.into_iter().map(|(path, _)| path);
        for path in changes.into_iter().map(|(path, _)| path).chain(own) {
            shared.generation += 1;
            let generation = shared.generation;
            shared.changes.push_at(generation, path);
        }
        drop(shared);
        self.announce();
        Ok(())
    }

    /// What only this host can know and nobody has heard, with stamps behind everything in the new tree.
    async fn said_again(
        &mut self,
        replacement: &Replacement,
        changes: &[(Path, Option<Entry>)],
        old: &Knowledge,
    ) -> Result<Vec<(Path, Entry)>, KeysError> {
        let entries = changes.iter().filter_map(|(_, entry)| entry.as_ref());
        let newest = entries
            .map(|entry| entry.stamp.ns.max(entry.issue.nr))
            .max();
        if let Some(newest) = newest {
            self.shared.lock().clock.observe(newest);
        }
        let facts = replacement.unheard(old);
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        tracing::info!(keys = facts.len(), "says again what nobody had heard of it");
        let (entries, _) = self.issue(facts, None, false).await?;
        Ok(entries)
    }

    /// The floor is stored: the forgotten deletions leave the store with the next flush.
    pub(super) fn remove_forgotten(&mut self) {
        let forgotten = std::mem::take(&mut self.forgotten);
        let shared = self.shared.lock();
        let gone = forgotten
            .into_iter()
            .filter(|path| shared.knowledge.tree().get(path).is_none());
        self.unsaved.extend(gone.map(|path| (path, None)));
        drop(shared);
        if !self.unsaved.is_empty() {
            self.wait_for_company();
        }
    }

    /// The lost entries and the new horizons are stored: after a restart the tree is whole.
    pub(super) async fn tell_whole(&mut self) {
        let store = self.store.clone();
        let tell = move || store.lock().resynced();
        match blocking(&*self.ports.exec, &Lane::Tree, tell).await {
            Some(Ok(())) => self.lossy = false,
            Some(Err(error)) => tracing::warn!(%error, "the store still counts as incomplete"),
            None => {}
        }
    }

    /// Stores what has been seen of others, now and then: an old copy costs some entries sent again.
    /// Says whether the stored copy is that of this moment.
    pub(super) async fn store_horizons(&mut self, now: bool) -> bool {
        let mono = self.ports.clock.mono();
        let due = now || mono >= self.horizons_due;
        let saved = self.shared.lock().knowledge.saved();
        let Ok(bytes) = rmp_serde::to_vec_named(&saved) else {
            return false;
        };
        if !due || bytes == self.horizons_stored {
            return due;
        }
        self.horizons_due = mono + HORIZONS_STORED_EVERY;
        match self.write_small(self.horizons.clone(), bytes.clone()).await {
            Ok(()) => self.horizons_stored = bytes,
            Err(error) => {
                tracing::warn!(%error, "horizons were not stored");
                return false;
            }
        }
        true
    }

    pub(super) async fn renew_lease(&mut self) {
        let wall = self.ports.clock.wall_ns();
        let soon = self.shared.lock().clock.lease_wanted_soon(wall);
        if let Some(upto) = soon
            && let Err(error) = self.store_lease(upto).await
        {
            tracing::warn!(%error, "the clock lease was not renewed");
        }
    }

    pub(super) async fn store_lease(&mut self, upto: u64) -> Result<(), KeysError> {
        let leases = &self.leases;
        let lease = leases.stored.raised(upto, leases.leap_ns);
        self.write_small(self.lease.clone(), lease.to_string().into_bytes())
            .await?;
        self.leases.stored = lease;
        self.shared.lock().clock.lease_stored(upto);
        Ok(())
    }

    async fn write_small(&self, path: PathBuf, bytes: Vec<u8>) -> Result<(), KeysError> {
        let (fs, reserve) = (self.ports.fs.clone(), self.reserve.clone());
        let write = move || {
            reserve
                .spend(storage::is_no_space, || {
                    storage::write_small(&*fs, &path, &bytes)
                })
                .map_err(|error| KeysError::Store(format!("{}: {error}", path.display())))
        };
        blocking(&*self.ports.exec, &Lane::Tree, write)
            .await
            .ok_or(KeysError::Stopping)?
    }
}
