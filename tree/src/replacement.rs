//! Replacing the tree of a host that was away for too long.
//!
//! While it was away, the others have forgotten deletions it never saw. Merging would bring the deleted keys back, so
//! the host takes the whole tree of a peer instead. It is filled beside the old one, which stays in use until the
//! new one is complete; then both are exchanged in one durable step. Of what the host had written before and nobody
//! has seen, it says again what only it can know: how far its own disks and logs are. The rest is lost.
//!
//! The peer answers the summaries of the new tree with deltas and takes nothing from the host until it is done. Where
//! both sides would have to replace the other's tree, nobody does: an operator has to say which is right.
//!
//! ```text
//! away    → peer   Summary                 below the floor of the peer
//! peer    → away   "your tree must be replaced"
//! away    → peer   Replacement::ask        ┐ as often as there is more
//! peer    → away   Knowledge::delta_since  ┘
//! away             Replacement::changes and ::unheard stored, then Replacement::finish
//! ```

use crate::clock::TooFarAhead;
use crate::key;
use crate::keys::{Key, Parts, Writer};
use crate::knowledge::{HeldBack, Knowledge};
use crate::name::Host;
use crate::path::Path;
use crate::summary::{Delta, Summary};
use crate::tree::{Entry, Tree, Value};

/// A tree being filled beside the one in use.
#[derive(Clone, Debug)]
pub struct Replacement {
    new: Knowledge,
}

impl Replacement {
    /// Begins for the host that knows `old`.
    pub fn of(old: &Knowledge) -> Replacement {
        Replacement { new: old.emptied() }
    }

    /// What to send to the peer next: what the new tree has seen so far.
    pub fn ask(&self) -> &Summary {
        self.new.summary()
    }

    /// Takes the peer's answer; `true` when the new tree is complete. The answer to another question completes
    /// nothing. `admit` is as in [`Knowledge::sift_delta`].
    ///
    /// # Errors
    /// An entry is too far in the future. A tree without it would be no tree of anybody: it would lack all that its
    /// writer has said, and would have to be replaced again. So it is the whole tree or none; clocks must be set first.
    pub fn take(
        &mut self,
        delta: Delta,
        admit: impl Fn(u64) -> Result<(), TooFarAhead>,
    ) -> Result<bool, HeldBack> {
        let complete = !delta.more;
        let mut sifted = self.new.sift_delta(delta, admit);
        if let Some(held_back) = sifted.held_back.pop() {
            return Err(held_back);
        }
        let applied = self.new.apply(sifted);
        Ok(complete && !applied.gap)
    }

    /// What has to change in the store, in one durable step: the new entry of a path, or that it is gone. Store the
    /// horizons of the new tree afterwards: after a crash in between, all of this is done again.
    pub fn changes(&self, old: &Knowledge) -> Vec<(Path, Option<Entry>)> {
        let new = self.new.tree();
        let gone = old
            .tree()
            .iter()
            .filter(|(path, _)| new.get(path).is_none());
        let gone = gone.map(|(path, _)| (path.clone(), None));
        let other = new
            .iter()
            .filter(|(path, entry)| old.tree().get(path) != Some(entry));
        let other = other.map(|(path, entry)| (path.clone(), Some(entry.clone())));
        gone.chain(other).collect()
    }

    /// What this host said last about its own part of a resource, deletions included, and the peer has never heard. It is to be
    /// issued anew on top of the new tree: a position that fell back would be that of another disk, logs nobody
    /// knows of would be lost with all that was acknowledged in them.
    ///
    /// Not of resources it is no member of in the new tree: somebody made it leave meanwhile.
    pub fn unheard(&self, old: &Knowledge) -> Vec<(Path, Value)> {
        let (me, new) = (old.me(), self.new.tree());
        let heard = self.new.summary().horizon(me);
        let own = old.issued_after(heard);
        let facts = own.filter(|(path, _)| is_fact_of_member(new, me, path));
        facts
            .map(|(path, entry)| (path.clone(), entry.value.clone()))
            .collect()
    }

    /// The knowledge to use from now on, instead of `old`.
    pub fn finish(mut self, old: &Knowledge) -> Knowledge {
        self.new.close_own_past(old);
        self.new
    }
}

/// Is this key about the part `me` has in a resource, and is it a member of that in `tree`?
fn is_fact_of_member(tree: &Tree, me: &Host, path: &Path) -> bool {
    let Some((key, parts)) = Key::parse(path) else {
        return false;
    };
    let Parts { res, host, log, .. } = parts;
    let Some(res) = res else { return false };
    let own = match log {
        Some(log) => log.creator == *me,
        None => host.as_ref() == Some(me),
    };
    let by_daemon = matches!(
        key.def().writer,
        Writer::OwnHost | Writer::OwnHostOrOperator
    );
    let member = |path: Path| tree.text(path.as_str()).is_some();
    own && (by_daemon || matches!(key, Key::Data | Key::Device))
        && (member(key::of_member(Key::Data, &res, me))
            || member(key::of_member(Key::Replay, &res, me)))
}
