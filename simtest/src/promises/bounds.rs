//! What a node keeps in memory is bounded, whatever happens (invariant 42; requirements L-C1, L-C10): buffered writes,
//! entries of the tree, channels.

use tree::LogName;

use crate::world::World;

/// Beyond the limit a buffer may hold what was admitted last: one request of each writer.
const BUFFER_SLACK_BYTES: u64 = 256 << 10;
/// Entries of a tree besides those of logs, for each pair of hosts.
const ENTRIES_PER_PAIR: usize = 120;
/// Channels that are open from one host to another at once.
const CHANNELS_MAX: usize = 24;

/// Looks at every running host.
///
/// # Errors
/// Whatever has grown beyond its limit.
pub fn look(w: &World) -> Result<(), String> {
    let hosts = w.hosts.len();
    for (name, host) in &w.hosts {
        let Some(node) = host.node() else { continue };
        let buffered = node.hub().buffered_bytes();
        let limit = host.config().logger.buffer_bytes_max + BUFFER_SLACK_BYTES;
        if buffered > limit {
            return Err(format!(
                "{name} buffers {buffered} bytes, {limit} are allowed (42)"
            ));
        }
        let tree = node.keys().read();
        let limit = ENTRIES_PER_PAIR * hosts * hosts;
        if tree.len() <= limit {
            continue;
        }
        let of_logs = tree.iter().filter(|(path, _)| is_of_log(path.as_str()));
        let others = tree.len() - of_logs.count();
        if others > limit {
            return Err(format!(
                "the tree of {name} has {others} entries besides those of logs, {limit} are allowed (42)"
            ));
        }
    }
    match w.net.busiest() {
        Some((from, to, open)) if open > CHANNELS_MAX => Err(format!(
            "{open} channels are open from {from} to {to}, {CHANNELS_MAX} are allowed (L-C10)"
        )),
        _ => Ok(()),
    }
}

/// An entry of one log: its number grows with what is written.
fn is_of_log(path: &str) -> bool {
    let Some((_, name)) = path.split_once('/') else {
        return false;
    };
    name.starts_with("version-") || name.parse::<LogName>().is_ok()
}
