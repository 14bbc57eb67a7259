//! A replica is some past state of the device, never a mixture (invariants 5, 16, 19, 33, 34): what was damaged, foreign or
//! behind a hole was not applied. Looked at where a host was stopped, and where it crashed: what its durable keys call clean
//! is clean, for whoever starts there has nothing else to go by (invariants 13 and 33).

use tree::view::ResourceView;
use tree::{Host, ReplayPos, Resource, Tree};

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
    let Some(replay) = promised(&tree, &resource, &host.name) else {
        return Ok(false);
    };
    // What went past the log has no order.
    if !app.is_ordered() {
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

/// Where the replica of `host` stands by its own keys, if they say that its disk is one state of the device.
fn promised(tree: &Tree, res: &Resource, host: &Host) -> Option<ReplayPos> {
    let view = ResourceView::new(tree, res);
    let member = view.member(host);
    // What a primary could not write back is in its log; its disk may have parts of it.
    let clean = |at: &ReplayPos| at.dirty == 0 && at.log.creator != *host;
    let replay = member.replay().filter(clean)?;
    let reached = match member.sync_barrier() {
        None => true,
        Some(None) => false,
        Some(Some(point)) => point.log == replay.log && replay.offset >= point.offset + point.dirty,
    };
    let whole = member.is_member() && !member.needs_sync() && reached;
    whole.then_some(replay)
}

#[cfg(test)]
mod tests {
    use tree::{Entry, Issue, Path, Stamp, Value};

    use super::*;

    /// A secondary whose disk is called clean, except for what `keys` say.
    fn check(keys: &[(&str, &str)]) -> bool {
        let usual = [
            ("size", "4096"),
            ("data-beta", "/disk-data"),
            ("replay-beta", "log-000000001-alpha,700,0"),
            ("syncstatus-beta", "4096"),
        ];
        let beta = Host::new("beta").expect("a name");
        let mut tree = Tree::new();
        for (nr, (key, text)) in (1..).zip(usual.iter().chain(keys)) {
            let path = Path::new(&format!("resource-data/{key}")).expect("a path");
            let writer = beta.clone();
            let entry = Entry {
                value: Value::text(text).expect("a value"),
                stamp: Stamp::new(nr, &beta),
                issue: Issue { writer, nr },
                lazy: false,
            };
            tree.merge(path, entry);
        }
        promised(&tree, &Resource::new("data").expect("a name"), &beta).is_some()
    }

    #[test]
    fn a_disk_is_judged_where_the_keys_of_its_host_call_it_clean() {
        assert!(check(&[]));
        assert!(check(&[("syncpos-beta", "log-000000001-alpha,600,100")]));
        assert!(!check(&[("replay-beta", "log-000000001-alpha,700,64")]));
        assert!(!check(&[("replay-beta", "log-000000001-beta,700,0")]));
        assert!(!check(&[("syncstatus-beta", "2048")]));
        assert!(!check(&[("syncpos-beta", "log-000000001-alpha,600,101")]));
    }
}
