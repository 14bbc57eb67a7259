//! What must hold: one file per promise, each with the numbers of the invariants it stands for
//! (data-path reference, section 10).
//!
//! [`Watch`] looks at every step, [`images`] wherever a host was stopped in order; [`trees`] and [`progress`] ask at the
//! end, when all faults are over. What an application was promised is checked by the application itself (`app.rs`,
//! `history.rs`).

pub mod bounds;
pub mod chain;
pub mod copies;
pub mod deleted;
pub mod facts;
pub mod fresh;
pub mod images;
pub mod lineage;
pub mod needed;
pub mod offered;
pub mod one_place;
pub mod positions;
pub mod progress;
pub mod rotation;
pub mod stamps;
pub mod trees;

use crate::world::World;

/// Everything that is checked at every step, with what it has to remember.
#[derive(Default)]
pub struct Watch {
    looked: fresh::Looked,
    copies: copies::Copies,
    chain: chain::Chain,
    needed: needed::Needed,
    stamps: stamps::Stamps,
    deleted: deleted::Deleted,
    lineage: lineage::Lineage,
}

impl Watch {
    /// Looks once.
    ///
    /// # Errors
    /// The promise that is broken, with all that is known about it.
    pub fn look(&mut self, w: &World) -> Result<(), String> {
        positions::look(w)?;
        self.copies.look(w)?;
        one_place::look(w)?;
        bounds::look(w)?;
        rotation::look(w)?;
        offered::look(w)?;
        self.needed.look(w)?;
        for fresh in self.looked.fresh(w) {
            self.chain.look(&fresh)?;
            self.stamps.look(&fresh)?;
            self.deleted.look(w, &fresh)?;
            self.lineage.look(w, &fresh)?;
            facts::look(w, &fresh)?;
        }
        Ok(())
    }
}
