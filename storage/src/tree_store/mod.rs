//! Where the entries of the key tree survive a restart.
//!
//! The tree in memory is the truth for reads; a store is read once at the start and then only
//! written. What [`TreeStore::commit`] confirms is on the medium, before any peer or any waiting
//! command sees it (L-A2).

mod mem;
mod sled_store;
mod stored;

pub use mem::{MemMedium, MemStore};
pub use sled_store::{Opened, SledOptions, SledStore, panic_is_expected};

use crate::error::StoreError;
use tree::{Entry, Path};

/// A durable map from paths to entries. One owner, one thread.
pub trait TreeStore: Send {
    /// All entries, ascending by path. Called once, at the start.
    fn load(&mut self) -> Result<Vec<(Path, Entry)>, StoreError>;

    /// Stores or (`None`) removes entries, all or none of them. Durable when it returns `Ok`. After
    /// an error the store is closed, and whether the changes are on the medium shows when it is
    /// opened again.
    fn commit(&mut self, changes: &[(Path, Option<Entry>)]) -> Result<(), StoreError>;

    /// Why entries may be missing that were once confirmed, if that is so: the store had to be
    /// given up, in whole or in part. The node must get the tree from its peers before it acts.
    /// Remembered across restarts until [`TreeStore::resynced`].
    fn must_resync(&self) -> Option<&str>;

    /// The tree is complete again.
    fn resynced(&mut self) -> Result<(), StoreError>;
}
