//! A store that is opened again after it has failed, for example because the disk was full.
//!
//! A store closes itself at the first error, because only what it finds when it is opened again is
//! certain. Until that succeeds every commit fails, and so does every change of the key tree; the
//! data path goes on meanwhile (requirement L-A4).

use storage::{StoreError, TreeStore};
use tree::{Entry, Path};

/// Opens the store.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn TreeStore>, StoreError> + Send>;

/// See the head of this file.
pub struct ReopeningStore {
    opener: Opener,
    store: Box<dyn TreeStore>,
    failed: bool,
}

impl ReopeningStore {
    /// A store that is open, and how to open it again.
    pub fn new(store: Box<dyn TreeStore>, opener: Opener) -> ReopeningStore {
        ReopeningStore {
            opener,
            store,
            failed: false,
        }
    }

    fn open_again(&mut self) -> Result<(), StoreError> {
        let mut store = (self.opener)()?;
        // What it holds is known: the tree in memory is the truth, and writes the doubtful part again.
        store.load()?;
        tracing::warn!("the store of the key tree was opened again");
        self.store = store;
        self.failed = false;
        Ok(())
    }
}

impl TreeStore for ReopeningStore {
    fn load(&mut self) -> Result<Vec<(Path, Entry)>, StoreError> {
        self.store.load()
    }

    fn commit(&mut self, changes: &[(Path, Option<Entry>)]) -> Result<(), StoreError> {
        if self.failed {
            self.open_again()?;
        }
        let result = self.store.commit(changes);
        self.failed = result.is_err();
        result
    }

    fn must_resync(&self) -> Option<&str> {
        self.store.must_resync()
    }

    fn resynced(&mut self) -> Result<(), StoreError> {
        self.store.resynced()
    }
}

#[cfg(test)]
mod tests {
    use storage::MemMedium;

    use super::*;

    /// Fails its first commit, and every later one, as the real store does.
    struct Failing;

    impl TreeStore for Failing {
        fn load(&mut self) -> Result<Vec<(Path, Entry)>, StoreError> {
            Ok(Vec::new())
        }
        fn commit(&mut self, _: &[(Path, Option<Entry>)]) -> Result<(), StoreError> {
            Err(StoreError::Closed {
                path: "store".into(),
                reason: "no space".to_owned(),
            })
        }
        fn must_resync(&self) -> Option<&str> {
            None
        }
        fn resynced(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[test]
    fn a_store_that_failed_once_is_opened_again_by_the_next_commit() {
        let medium = MemMedium::default();
        let mut tries = 0;
        let opener: Opener = Box::new(move || {
            tries += 1;
            match tries {
                1 => Err(StoreError::Closed {
                    path: "store".into(),
                    reason: "still no space".to_owned(),
                }),
                _ => Ok(Box::new(medium.store())),
            }
        });
        let mut store = ReopeningStore::new(Box::new(Failing), opener);
        assert!(store.commit(&[]).is_err(), "the first error shows");
        assert!(store.commit(&[]).is_err(), "still full");
        assert!(store.commit(&[]).is_ok(), "there is room again");
        assert!(store.commit(&[]).is_ok());
    }
}
