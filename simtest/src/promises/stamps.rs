//! Stamps never repeat: one path and one stamp mean one value, whoever is asked and whenever (invariant 46,
//! requirement L-A6).

use std::collections::BTreeMap;

use tree::{Stamp, Value};

use crate::world::World;

/// Every entry that was ever seen.
#[derive(Default)]
pub struct Stamps {
    known: BTreeMap<String, BTreeMap<Stamp, Value>>,
    seen: BTreeMap<String, [u8; 16]>,
}

impl Stamps {
    /// Compares all entries of all hosts with all that were ever there.
    ///
    /// # Errors
    /// A stamp that was used for two values of one path.
    pub fn look(&mut self, w: &World) -> Result<(), String> {
        for (name, host) in &w.hosts {
            let Some(node) = host.node() else { continue };
            let tree = node.keys().read();
            if self.seen.insert(name.clone(), tree.digest()) == Some(tree.digest()) {
                continue;
            }
            for (path, entry) in tree.iter() {
                if !self.known.contains_key(path.as_str()) {
                    self.known.insert(path.to_string(), BTreeMap::new());
                }
                let Some(stamps) = self.known.get_mut(path.as_str()) else {
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
        }
        Ok(())
    }
}
