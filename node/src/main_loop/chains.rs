//! What the tree says about the logs of one resource, read anew only when one of the keys it comes from has changed.

use tree::lineage::Lineage;
use tree::view::ResourceView;
use tree::{Resource, Tree};

use crate::keys::{Changed, KeyService};

/// See the module.
#[derive(Default)]
pub struct Chains {
    /// The generation of the tree it was read from.
    read_at: Option<u64>,
    lineage: Lineage,
}

impl Chains {
    /// What `tree`, which is of this `generation`, says.
    pub fn of(
        &mut self,
        keys: &KeyService,
        tree: &Tree,
        generation: u64,
        res: &Resource,
    ) -> &Lineage {
        let is_current = match self.read_at.map(|last| keys.changed_since(last)) {
            Some(Changed::Paths(paths)) => !paths.iter().any(|path| Lineage::reads(res, path)),
            Some(Changed::Everything) | None => false,
        };
        if !is_current {
            self.lineage = Lineage::of(&ResourceView::new(tree, res));
        }
        self.read_at = Some(generation);
        &self.lineage
    }
}
