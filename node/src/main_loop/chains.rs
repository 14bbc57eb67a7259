//! What the tree says about the logs of one resource, read again only as far as keys have changed.

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
        let view = ResourceView::new(tree, res);
        match self.read_at.map(|last| keys.changed_since(last)) {
            Some(Changed::Paths(paths)) => self.lineage.renew(&view, &paths),
            Some(Changed::Everything) | None => self.lineage = Lineage::of(&view),
        }
        self.read_at = Some(generation);
        &self.lineage
    }
}
