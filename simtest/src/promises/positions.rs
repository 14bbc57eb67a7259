//! Positions are never ahead of what is durable: the replay position of a host lies inside its own durable
//! copy of that log (invariants 12 and 13), and `syncstatus` inside the device (36).

use storage::Layout;
use storage::log::HEADER_BYTES;
use tree::{ClusterView, ReplayPos, key};

use crate::host::STATE_DIR;
use crate::world::World;

/// Looks at the own positions of every running host.
///
/// # Errors
/// A position behind the end of what a power cut would leave.
pub fn look(w: &World) -> Result<(), String> {
    let layout = Layout::new(STATE_DIR);
    for (name, host) in &w.hosts {
        let Some(node) = host.node() else { continue };
        let tree = node.keys().read();
        for res in ClusterView::new(&tree).resources() {
            let path = key::replay(&res, &host.name);
            let Some(text) = tree.text(path.as_str()) else {
                continue;
            };
            let Ok(at) = text.parse::<ReplayPos>() else {
                return Err(format!("{name}: {path} is no replay position: {text}"));
            };
            let file = layout.log(&res, &at.log);
            let Some(len) = host.fs.bytes(&file, true, <[u8]>::len) else {
                continue;
            };
            let durable = (len as u64).saturating_sub(HEADER_BYTES);
            if at.offset > durable {
                return Err(format!(
                    "{name}: {path} = {text}, but only {durable} bytes of the log are durable (12)"
                ));
            }
        }
    }
    Ok(())
}
