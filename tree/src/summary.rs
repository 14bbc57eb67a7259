//! What a host has seen, in short: for each writer the number up to which nothing is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::Host;
use crate::path::Path;
use crate::tree::Entry;

/// Writer → horizon: of everything this writer issued up to that number, the host holds the entry, or a newer one,
/// or the newer one was issued beyond another horizon and comes with the next exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Summary(pub BTreeMap<Host, u64>);

impl Summary {
    /// The horizon of `writer`, 0 where nothing of it is known.
    pub fn horizon(&self, writer: &Host) -> u64 {
        self.0.get(writer).copied().unwrap_or(0)
    }

    /// Each writer of this summary with its horizon here and in `other`. One walk along both, as a summary is as long as the
    /// cluster has hosts.
    pub fn beside<'a>(&'a self, other: &'a Summary) -> impl Iterator<Item = (&'a Host, u64, u64)> {
        let mut others = other.0.iter().peekable();
        self.0.iter().map(move |(writer, nr)| {
            while others.next_if(|(host, _)| *host < writer).is_some() {}
            let other = others.next_if(|(host, _)| *host == writer);
            (writer, *nr, other.map_or(0, |(_, nr)| *nr))
        })
    }

    /// Has everything `other` has seen been seen here too?
    pub fn covers(&self, other: &Summary) -> bool {
        other.beside(self).all(|(_, theirs, ours)| ours >= theirs)
    }

    /// Raises the horizon of `writer` to `nr`; never lowers it.
    pub fn raise(&mut self, writer: &Host, nr: u64) {
        let horizon = self.0.entry(writer.clone()).or_default();
        *horizon = (*horizon).max(nr);
    }

    /// Raises every horizon to that of `other` where it is greater.
    pub fn raise_all(&mut self, other: &Summary) {
        for (host, nr) in &other.0 {
            self.raise(host, *nr);
        }
    }
}

/// What a peer lacks, in the order of issue over all writers. One of several when `more` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Path and entry, oldest issue first.
    pub entries: Vec<(Path, Entry)>,
    /// The horizons the receiver has reached once it holds these entries …
    pub raise: Summary,
    /// … if it had reached these before: the asker's own horizons, for the writers in `raise`.
    #[serde(default)]
    pub since: Summary,
    /// Deletions up to here are forgotten at the sender: whoever takes its entries must not merge with hosts
    /// that have seen less.
    #[serde(default)]
    pub floor: Summary,
    /// There is more: ask again with the raised summary.
    pub more: bool,
}

/// A fresh change, sent at once and without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushItem {
    /// The key.
    pub path: Path,
    /// Its new entry.
    pub entry: Entry,
    /// Number of the entry its writer issued before this one. A receiver whose horizon is below it lacks
    /// something: it takes the entry but does not raise the horizon; the next exchange fills the gap.
    pub prev_issue_of_writer: u64,
}

/// Fresh changes in the order of their issue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The changes, oldest first.
    pub entries: Vec<PushItem>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summaries() -> impl Strategy<Value = Summary> {
        let host = "[a-f]{1,2}".prop_map(|name| Host::new(&name).expect("a good name"));
        prop::collection::btree_map(host, 0u64..3, 0..6).prop_map(Summary)
    }

    proptest! {
        #[test]
        fn a_walk_along_two_summaries_finds_the_horizons_of_both(one in summaries(), other in summaries()) {
            let found: Vec<_> = one.beside(&other).collect();
            let asked: Vec<_> = one.0.keys().map(|w| (w, one.horizon(w), other.horizon(w))).collect();
            prop_assert_eq!(found, asked);
        }
    }
}
