//! A replica is some past state of the device, never a mixture (invariants 5, 16, 19, 33, 34): what was damaged, foreign or
//! behind a hole was not applied. Looked at where a host was stopped, and where it crashed: what its durable keys call clean
//! is clean, for whoever starts there has nothing else to go by (invariants 13 and 33).

use tree::view::ResourceView;
use tree::{Resource, Tree};

use crate::world::World;

/// Compares the disk of a host that has just ended with all that the application knows. `false` when its keys promise nothing.
///
/// # Errors
/// Why the disk is no state of any history.
pub fn after_end(w: &World, name: &str, res: &str, size: u64) -> Result<bool, String> {
    let (Some(app), Ok(resource)) = (w.apps.get(res), Resource::new(res)) else {
        return Ok(false);
    };
    let host = w.host(name);
    let mut tree = Tree::new();
    for (path, entry) in host.medium.entries() {
        tree.merge(path, entry);
    }
    let view = ResourceView::new(&tree, &resource);
    let member = view.member(&host.name);
    // What a primary could not write back is in its log; its disk may have parts of it.
    let clean = |at: &tree::ReplayPos| at.dirty == 0 && at.log.creator != host.name;
    let Some(replay) = member.replay().filter(clean) else {
        return Ok(false);
    };
    let reached = match member.sync_barrier() {
        None => true,
        Some(None) => false,
        Some(Some(point)) => point.log == replay.log && replay.offset >= point.offset + point.dirty,
    };
    let whole = member.is_member() && !member.needs_sync() && reached;
    // What went past the log has no order.
    if !whole || !app.is_ordered() {
        return Ok(false);
    }
    let disk = host.disk(res);
    let found = app.recognize(&disk[..disk.len().min(size as usize)]);
    match found {
        Ok(_) => Ok(true),
        Err(why) => Err(format!(
            "the disk of {name}, which ended at {replay}, is no state of the device (16): {why}"
        )),
    }
}
