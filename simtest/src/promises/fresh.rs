//! What is new in the trees since the last look, so that checks of every entry cost what has changed.

use std::collections::BTreeMap;

use node::keys::Changed;
use tree::{Entry, Path, Tree};

use crate::world::World;

/// How far the tree of each host was looked at: number of its start, and generation.
#[derive(Default)]
pub struct Looked(BTreeMap<String, (u64, u64)>);

/// One running host, and which of its entries nobody has looked at.
pub struct Fresh {
    /// The host.
    pub name: String,
    /// Its tree.
    tree: Tree,
    changed: Changed,
}

impl Looked {
    /// What is new everywhere, and remembers that it was looked at. After a start that is everything.
    pub fn fresh(&mut self, w: &World) -> Vec<Fresh> {
        let mut all = Vec::new();
        for (name, host) in &w.hosts {
            let Some(node) = host.node() else { continue };
            let (tree, generation) = node.keys().read_at();
            let last = self.0.insert(name.clone(), (host.starts(), generation));
            let changed = match last {
                Some((start, last)) if start == host.starts() => node.keys().changed_since(last),
                _ => Changed::Everything,
            };
            let name = name.clone();
            all.push(Fresh {
                name,
                tree,
                changed,
            });
        }
        all
    }
}

impl Fresh {
    /// The entries, in order of their paths, deletions included.
    pub fn entries(&self) -> Box<dyn Iterator<Item = (&Path, &Entry)> + '_> {
        match &self.changed {
            Changed::Everything => Box::new(self.tree.iter()),
            Changed::Paths(paths) => Box::new(
                paths
                    .iter()
                    .filter_map(|path| Some((path, self.tree.get(path)?))),
            ),
        }
    }
}
