//! Nothing but durable facts leaves a host (invariant 17, requirement L-A2): what others know from it, it would still know
//! after a power cut, or something newer. Lazy entries are the exception that is meant to be one.

use super::fresh::Fresh;
use crate::world::World;

/// Compares the fresh entries of a host with what lies on the medium of those who issued them.
///
/// # Errors
/// A fact whose issuer could still lose it.
pub fn look(w: &World, fresh: &Fresh) -> Result<(), String> {
    let name = &fresh.name;
    for (path, entry) in fresh.entries() {
        let issuer = entry.issue.writer.as_str();
        // Deletions are forgotten one after the other.
        if entry.lazy || entry.is_tombstone() || issuer == name || w.forgot(issuer) > 0 {
            continue;
        }
        let Some(host) = w.hosts.get(issuer) else {
            continue;
        };
        let knows_all = host.node().is_some_and(|node| !node.keys().is_incomplete());
        let stored = host.medium.get(path);
        if knows_all && stored.as_ref().is_none_or(|s| s.stamp < entry.stamp) {
            return Err(format!(
                "{name} knows {path} = {:?} of stamp {} from {issuer}, which has {stored:?} on its medium (17)",
                entry.value, entry.stamp
            ));
        }
    }
    Ok(())
}
