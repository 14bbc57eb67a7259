//! A device is only offered where the replica is complete (invariants 29 and 36): whoever copies still, or has to
//! begin again, has a mixture of old and new on its disk.

use tree::{Resource, key};

use crate::world::World;

/// Looks at every device that is offered.
///
/// # Errors
/// A device on a host whose own tree says that its first copy is not complete.
pub fn look(w: &World) -> Result<(), String> {
    for (name, host) in &w.hosts {
        let Some(node) = host.node() else { continue };
        let tree = node.keys().read();
        for res in node.exports().names() {
            let Ok(res) = Resource::new(&res) else {
                continue;
            };
            let number = |path: tree::Path| tree.text(path.as_str())?.parse::<u64>().ok();
            let copied = number(key::syncstatus(&res, &host.name));
            let size = number(key::size(&res));
            if let (Some(copied), Some(size)) = (copied, size)
                && copied < size
            {
                return Err(format!(
                    "{name} offers {res}, but only {copied} of {size} bytes of its replica were copied (29)"
                ));
            }
        }
    }
    Ok(())
}
