//! A tree store in memory, for tests and the simulator: the medium survives the store.

use super::TreeStore;
use crate::error::StoreError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tree::{Entry, Path};

/// What a crash leaves behind. Clones are the same medium.
#[derive(Debug, Clone, Default)]
pub struct MemMedium {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Path, Entry>,
    full: bool,
    must_resync: Option<String>,
}

impl MemMedium {
    /// Opens a store on it.
    pub fn store(&self) -> MemStore {
        MemStore {
            must_resync: self.inner.lock().must_resync.clone(),
            medium: self.clone(),
            closed: None,
        }
    }

    /// From now on commits fail with [`StoreError::Full`], or no longer.
    pub fn set_full(&self, full: bool) {
        self.inner.lock().full = full;
    }

    /// Loses everything, as when a damaged database had to be moved aside.
    pub fn lose(&self, why: &str) {
        let mut inner = self.inner.lock();
        inner.entries.clear();
        inner.must_resync = Some(why.to_owned());
    }

    /// What is stored at one path.
    pub fn get(&self, path: &Path) -> Option<Entry> {
        self.inner.lock().entries.get(path).cloned()
    }

    /// What is stored.
    pub fn entries(&self) -> Vec<(Path, Entry)> {
        self.inner
            .lock()
            .entries
            .iter()
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct MemStore {
    medium: MemMedium,
    must_resync: Option<String>,
    closed: Option<String>,
}

impl TreeStore for MemStore {
    fn load(&mut self) -> Result<Vec<(Path, Entry)>, StoreError> {
        Ok(self.medium.entries())
    }

    fn commit(&mut self, changes: &[(Path, Option<Entry>)]) -> Result<(), StoreError> {
        let path = PathBuf::from("memory");
        if let Some(reason) = self.closed.clone() {
            return Err(StoreError::Closed { path, reason });
        }
        let mut inner = self.medium.inner.lock();
        if inner.full {
            self.closed = Some("no space".to_owned());
            return Err(StoreError::Full { path });
        }
        for (path, entry) in changes {
            match entry {
                Some(entry) => inner.entries.insert(path.clone(), entry.clone()),
                None => inner.entries.remove(path),
            };
        }
        Ok(())
    }

    fn must_resync(&self) -> Option<&str> {
        self.must_resync.as_deref()
    }

    fn resynced(&mut self) -> Result<(), StoreError> {
        self.medium.inner.lock().must_resync = None;
        self.must_resync = None;
        Ok(())
    }
}
