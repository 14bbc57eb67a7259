//! No deleted key comes back (requirement L-A5 of the tree, lessons E11): where a deletion was seen, nothing older is seen
//! again, not even after the deletion itself was forgotten.

use std::collections::BTreeMap;

use tree::{Path, Stamp};

use super::fresh::Fresh;
use crate::world::World;

/// The newest deletion of each path that each host has shown.
#[derive(Default)]
pub struct Deleted {
    gone: BTreeMap<String, BTreeMap<Path, Stamp>>,
    forgot: BTreeMap<String, u64>,
}

impl Deleted {
    /// Compares the entries of a host with the deletions it has shown.
    ///
    /// # Errors
    /// An entry that is older than its deletion.
    pub fn look(&mut self, w: &World, fresh: &Fresh) -> Result<(), String> {
        let name = &fresh.name;
        if self.forgot.insert(name.clone(), w.forgot(name)) != Some(w.forgot(name)) {
            self.gone.remove(name);
        }
        let gone = self.gone.entry(name.clone()).or_default();
        for (path, entry) in fresh.entries() {
            match gone.get(path) {
                Some(deletion) if entry.stamp < *deletion => {
                    return Err(format!(
                        "{name}: {path} = {:?} of stamp {} is back, it was deleted with stamp {deletion} (L-A5)",
                        entry.value, entry.stamp
                    ));
                }
                // A lazy deletion may be lost with the power.
                _ if entry.is_tombstone() && !entry.lazy => {
                    gone.insert(path.clone(), entry.stamp.clone());
                }
                _ => {}
            }
        }
        Ok(())
    }
}
