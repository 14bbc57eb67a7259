//! Stamps never repeat: one path and one stamp mean one value, whoever is asked and whenever (invariant 46,
//! requirement L-A6).

use std::collections::BTreeMap;

use tree::{Path, Stamp, Value};

use super::fresh::Fresh;

/// Every entry that was ever seen.
#[derive(Default)]
pub struct Stamps {
    known: BTreeMap<Path, BTreeMap<Stamp, Value>>,
}

impl Stamps {
    /// Compares the entries of a host with all that were ever there.
    ///
    /// # Errors
    /// A stamp that was used for two values of one path.
    pub fn look(&mut self, fresh: &Fresh) -> Result<(), String> {
        let name = &fresh.name;
        for (path, entry) in fresh.entries() {
            if !self.known.contains_key(path) {
                self.known.insert(path.clone(), BTreeMap::new());
            }
            let Some(stamps) = self.known.get_mut(path) else {
                continue;
            };
            match stamps.get(&entry.stamp) {
                Some(value) if *value != entry.value => {
                    return Err(format!(
                        "{name}: {path} has two values of stamp {}: {value:?} and {:?} (46)",
                        entry.stamp, entry.value
                    ));
                }
                Some(_) => {}
                None => drop(stamps.insert(entry.stamp.clone(), entry.value.clone())),
            }
        }
        Ok(())
    }
}
