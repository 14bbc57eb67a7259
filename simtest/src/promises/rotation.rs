//! The final end of a log is durable before its successor begins (invariant 22, requirement L-A1): where the creator of a
//! log says what it continues, its own link of that predecessor ends at exactly this place.

use tree::{ClusterView, Path, Resource, ResourceView, Tree, VersionLink, key};

use crate::host::SimHost;
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
        for res in ClusterView::new(&tree).resources() {
            for (path, text) in tree.texts(&key::version_prefix(&res)) {
                if path.as_str().ends_with(&own) {
                    check(host, &tree, &res, (path, text))?;
                }
            }
        }
    }
    Ok(())
}

fn check(
    host: &SimHost,
    tree: &Tree,
    res: &Resource,
    (path, text): (&Path, &str),
) -> Result<(), String> {
    let link = text.parse::<VersionLink>().ok();
    let Some((link, (_, pred, len))) = link.and_then(|link| Some((link.clone(), link.pred?)))
    else {
        return Ok(());
    };
    if link.log.creator != host.name || pred.creator != host.name {
        return Ok(());
    }
    match ResourceView::new(tree, res)
        .member(&host.name)
        .version(pred.seq)
    {
        Some(before) if before.log == pred && before.len != len => Err(format!(
            "{}: {path} = {text}, but its own link of {pred} ends at {} (22)",
            host.name, before.len
        )),
        _ => Ok(()),
    }
}
