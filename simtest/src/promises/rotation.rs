//! The final end of a log is durable before its successor begins (invariant 22, requirement L-A1): where the creator of a
//! log says what it continues, its own link of that predecessor ends at exactly this place.

use tree::{LogName, VersionLink, key};

use crate::world::World;

/// Looks at the own version links of every running host.
///
/// # Errors
/// An own log that has a successor, and whose own link is older than what the successor says.
pub fn look(w: &World) -> Result<(), String> {
    for (name, host) in &w.hosts {
        let Some(node) = host.node() else { continue };
        let tree = node.keys().read();
        let own = format!("-{name}");
        for (path, text) in tree.texts("resource-") {
            let is_own = path.as_str().ends_with(&own) && path.as_str().contains("/version-");
            let link = is_own.then(|| text.parse::<VersionLink>().ok()).flatten();
            let Some((link, (_, pred, len))) =
                link.and_then(|link| Some((link.clone(), link.pred?)))
            else {
                continue;
            };
            if link.log.creator != host.name || pred.creator != host.name {
                continue;
            }
            let Some(before) = own_link(&tree, path.as_str(), &pred) else {
                continue;
            };
            if before.log == pred && before.len != len {
                return Err(format!(
                    "{name}: {path} = {text}, but its own link of {pred} ends at {} (22)",
                    before.len
                ));
            }
        }
    }
    Ok(())
}

fn own_link(tree: &tree::Tree, path: &str, log: &LogName) -> Option<VersionLink> {
    let res = path.strip_prefix("resource-")?.split('/').next()?;
    let res = tree::Resource::new(res).ok()?;
    let path = key::version(&res, log.seq, &log.creator);
    tree.text(path.as_str())?.parse().ok()
}
