//! What a node keeps in memory is bounded, whatever happens (invariant 42; requirements L-C1, L-C10): buffered writes,
//! entries of the tree, channels. Every limit follows from what was configured, or from the table of keys.

use std::collections::BTreeSet;

use tree::keys::KEYS;
use tree::{Key, Path, Tree};

use crate::app::REQUEST_BYTES_MAX;
use crate::world::World;

/// A request is let in while there is room, however much longer than the room it is: so much more than its bytes is
/// kept with it.
const REQUEST_OVERHEAD_BYTES: u64 = 4 << 10;
/// Names a daemon gives to messages and figures which the table has no line of their own for, about itself or about
/// one resource.
const NAMES_MAX: usize = 24;
/// One for keys, one for a log and one for a first copy of each resource, in each direction.
const CHANNELS_PER_RESOURCE: usize = 2 * 2;
const CHANNELS_OF_KEYS: usize = 2;
/// One that was given up is still there when the next one is.
const CHANNELS_GIVEN_UP: usize = 2;

/// Looks at every running host.
///
/// # Errors
/// Whatever has grown beyond its limit.
pub fn look(w: &World) -> Result<(), String> {
    for (name, host) in &w.hosts {
        let Some(node) = host.node() else { continue };
        let limit = host.config().logger.buffer_bytes_max;
        buffered(name, node.hub().buffered_bytes(), limit)?;
        entries(name, &node.keys().read(), w.hosts.len(), w.keys_typed())?;
    }
    match w.net.busiest() {
        Some((from, to, open)) => channels(&format!("{from} to {to}"), open, w.apps.len()),
        None => Ok(()),
    }
}

/// Data that is in no log or not on the disk yet; `limit` is what was configured.
fn buffered(name: &str, bytes: u64, limit: u64) -> Result<(), String> {
    let limit = limit + REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES;
    within(&format!("bytes buffered by {name}"), bytes, limit)
}

/// Whatever the tree holds besides logs and their links, whose number grows with what is written.
fn entries(name: &str, tree: &Tree, hosts: usize, typed: usize) -> Result<(), String> {
    // Almost always; what there is of each kind is counted only where it may be too much.
    if tree.len() <= of_table(1, hosts) + typed {
        return Ok(());
    }
    let resources: BTreeSet<&str> = tree
        .iter()
        .filter_map(|(path, _)| path.as_str().strip_prefix("resource-"))
        .filter_map(|rest| Some(rest.split_once('/')?.0))
        .collect();
    let others = tree.iter().filter(|(path, _)| !is_of_log(path)).count();
    let limit = of_table(resources.len(), hosts) + typed;
    let what = format!("entries in the tree of {name} besides those of logs");
    within(&what, others as u64, limit as u64)
}

/// So many keys the table has room for.
fn of_table(resources: usize, hosts: usize) -> usize {
    let lines = KEYS.iter().map(|line| {
        let times = |placeholder, count| match line.pattern.contains(placeholder) {
            true => count,
            false => 1,
        };
        let names = times("<name>", NAMES_MAX) * times("<rest>", NAMES_MAX);
        names * times("<res>", resources) * times("<host>", hosts) * times("<peer>", hosts)
    });
    lines.sum()
}

fn is_of_log(path: &Path) -> bool {
    matches!(Key::parse(path), Some((Key::Version | Key::Log, _)))
}

/// Channels that are open at once from one host to another.
fn channels(pair: &str, open: usize, resources: usize) -> Result<(), String> {
    let limit = CHANNELS_GIVEN_UP * (CHANNELS_OF_KEYS + CHANNELS_PER_RESOURCE * resources);
    within(
        &format!("channels open from {pair}"),
        open as u64,
        limit as u64,
    )
}

fn within(what: &str, have: u64, limit: u64) -> Result<(), String> {
    match have > limit {
        true => Err(format!("{have} {what}, {limit} are allowed (42)")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tree::{Entry, Host, Issue, Stamp, Value};

    use super::*;

    fn tree(paths: impl IntoIterator<Item = String>) -> Tree {
        let mut tree = Tree::new();
        let writer = Host::new("alpha").expect("a name");
        for (nr, path) in (1..).zip(paths) {
            let entry = Entry {
                value: Value::text("x").expect("a value"),
                stamp: Stamp::new(nr, &writer),
                issue: Issue {
                    writer: writer.clone(),
                    nr,
                },
                lazy: false,
            };
            tree.merge(Path::new(&path).expect("a path"), entry);
        }
        tree
    }

    #[test]
    fn a_buffer_may_be_one_request_above_its_limit_and_no_more() {
        let most = (1 << 20) + REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES;
        assert_eq!(buffered("alpha", most, 1 << 20), Ok(()));
        assert!(buffered("alpha", most + 1, 1 << 20).is_err());
    }

    #[test]
    fn logs_may_be_many_but_other_keys_may_not() {
        let logs = tree((1..50_000).map(|nr| format!("resource-data/log-{nr:09}-alpha")));
        assert_eq!(entries("alpha", &logs, 2, 0), Ok(()));
        let limit = of_table(1, 2);
        let notes = |count| tree((0..count).map(|nr| format!("resource-data/userspace/{nr}")));
        assert_eq!(entries("alpha", &notes(limit), 2, 0), Ok(()));
        assert!(entries("alpha", &notes(limit + 1), 2, 0).is_err());
        assert_eq!(entries("alpha", &notes(limit + 1), 2, 1), Ok(()));
    }

    #[test]
    fn channels_that_are_never_closed_are_seen() {
        assert_eq!(channels("alpha to beta", 12, 1), Ok(()));
        assert!(channels("alpha to beta", 13, 1).is_err());
    }
}
