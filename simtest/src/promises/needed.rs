//! No file of a log goes while the replica of its host stands in it (invariant 25).

use std::collections::BTreeMap;

use storage::Layout;
use tree::{LogName, ReplayPos, Resource, key};

use crate::host::STATE_DIR;
use crate::world::World;

/// The logs in which the replicas stood when they were looked at last, and whose files were there.
#[derive(Default)]
pub struct Needed {
    stood: BTreeMap<(String, Resource), (u64, LogName)>,
}

impl Needed {
    /// Looks at the own position and the log files of every running host.
    ///
    /// # Errors
    /// A file that was there, is not there any more, and is the one the replica still stands in.
    pub fn look(&mut self, w: &World) -> Result<(), String> {
        let layout = Layout::new(STATE_DIR);
        for (name, host) in &w.hosts {
            let Some(node) = host.node() else { continue };
            let tree = node.keys().read();
            for res in node.hub().plans().into_keys() {
                let place = (name.clone(), res.clone());
                let stands = tree
                    .text(key::replay(&res, &host.name).as_str())
                    .and_then(|text| text.parse::<ReplayPos>().ok());
                let member = tree.text(key::data(&res, &host.name).as_str()).is_some();
                let (Some(at), true) = (stands, member) else {
                    self.stood.remove(&place);
                    continue;
                };
                let held = host
                    .fs
                    .bytes(&layout.log(&res, &at.log), false, <[u8]>::len);
                let now = (host.starts(), at.log);
                if held.is_some() {
                    self.stood.insert(place, now);
                } else if self.stood.get(&place) == Some(&now) {
                    return Err(format!(
                        "{name}: the file of {} has gone while the replica of {res} stands in it at {} (25)",
                        now.1, at.offset
                    ));
                }
            }
        }
        Ok(())
    }
}
