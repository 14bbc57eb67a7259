//! Positions are never ahead of what is durable: the replay position of a host lies inside its own durable
//! copy of that log, and the copies it tells of have names that last (invariants 12, 13, 17).

use storage::Layout;
use storage::log::HEADER_BYTES;
use tree::{ClusterView, LogName, ReplayPos, Resource, Tree, VersionLink, key};

use crate::host::{STATE_DIR, SimHost};
use crate::world::World;

/// Looks at the own positions of every running host.
///
/// # Errors
/// A position behind the end of what a power cut would leave.
pub fn look(w: &World) -> Result<(), String> {
    for host in w.hosts.values() {
        let Some(node) = host.node() else { continue };
        let tree = node.keys().read();
        for res in ClusterView::new(&tree).resources() {
            replay_lies_inside(w, host, &tree, &res)?;
            let is_kept = |log: &LogName| node.hub().local_log(&res, log).is_some();
            names_last(host, &tree, &res, is_kept)?;
        }
    }
    Ok(())
}

fn replay_lies_inside(
    w: &World,
    host: &SimHost,
    tree: &Tree,
    res: &Resource,
) -> Result<(), String> {
    let path = key::replay(res, &host.name);
    let Some(text) = tree.text(path.as_str()) else {
        return Ok(());
    };
    let Ok(at) = text.parse::<ReplayPos>() else {
        return Err(format!(
            "{}: {path} is no replay position: {text}",
            host.name
        ));
    };
    let file = Layout::new(STATE_DIR).log(res, &at.log);
    // After a start such a copy ends where it was damaged.
    let is_whole = !w.is_damaged(host.name.as_str(), &file);
    match durable_bytes(host, res, &at.log) {
        Some(durable) if is_whole && at.offset > durable => Err(format!(
            "{}: {path} = {text}, but only {durable} bytes of the log are durable (12)",
            host.name
        )),
        _ => Ok(()),
    }
}

/// Own links tell what a log was, also when it has been deleted, or is fetched once more, or will be: `invalidate` copies the
/// links of the primary. But a copy the daemon counts on when its link is there has a name that lasts.
fn names_last(
    host: &SimHost,
    tree: &Tree,
    res: &Resource,
    is_kept: impl Fn(&LogName) -> bool,
) -> Result<(), String> {
    let own = format!("-{}", host.name);
    for (path, text) in tree.texts(&key::version_prefix(res)) {
        let mine = path.as_str().ends_with(&own);
        let Some(link) = text.parse::<VersionLink>().ok().filter(|_| mine) else {
            continue;
        };
        if is_kept(&link.log) && durable_bytes(host, res, &link.log).is_none() {
            return Err(format!(
                "{}: {path} = {text}, but the name of the log is not durable (12, 17)",
                host.name
            ));
        }
    }
    Ok(())
}

/// Bytes of records which a power cut would leave; `None` when it would leave no such file.
fn durable_bytes(host: &SimHost, res: &Resource, log: &LogName) -> Option<u64> {
    let file = Layout::new(STATE_DIR).log(res, log);
    let len = host.fs.bytes(&file, true, <[u8]>::len)?;
    Some((len as u64).saturating_sub(HEADER_BYTES))
}
