//! Digest trie over all live keys: finds the few keys in which two large trees differ.
//!
//! Every live key has a place by the hash of its path (xxh3, 64 bits, never used against an adversary) and a weight
//! (first 8 bytes of the digest of its entry). A node of the 16-ary trie stands for all hashes that begin with
//! its prefix; its digest is the sum of the weights below it modulo 2^64, so a change costs O(depth).
//!
//! Deletions are not in it, because hosts forget them at different times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::path::Path;
use crate::tree::EntryDigest;

/// Children of a node.
pub const FANOUT: usize = 16;
/// Levels below the root whose sums are kept; deeper ones are added up when somebody asks. Sixteen keys share
/// a node of the last level when there are a million of them.
const KEPT_DEPTH: u8 = 4;
/// Levels in all: 4 bits each.
pub const DEPTH_MAX: u8 = 16;
const _: () = assert!(DEPTH_MAX as u32 * 4 == u64::BITS && KEPT_DEPTH < DEPTH_MAX);

/// All keys whose hash begins with the `depth` hex digits of `prefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrieNode {
    /// Number of hex digits, 0 for the root.
    pub depth: u8,
    /// These digits as a number.
    pub prefix: u64,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Trie {
    /// Hash and path of every live key → weight. The path is there for keys with equal hash.
    weights: BTreeMap<(u64, Path), u64>,
    /// `sums[d][p]` is the digest of the node with depth `d` and prefix `p`.
    sums: Vec<Vec<u64>>,
}

impl TrieNode {
    /// The node above all others.
    pub const ROOT: TrieNode = TrieNode {
        depth: 0,
        prefix: 0,
    };

    /// Does such a node exist?
    pub fn is_valid(&self) -> bool {
        self.depth <= DEPTH_MAX
            && (self.prefix.checked_shr(4 * u32::from(self.depth))).unwrap_or(0) == 0
    }

    /// The nodes `levels` below it, in order.
    pub fn below(self, levels: u8) -> impl Iterator<Item = TrieNode> {
        let levels = levels.min(DEPTH_MAX - self.depth.min(DEPTH_MAX));
        let count = 1u64 << (4 * levels);
        (0..count).map(move |child| TrieNode {
            depth: self.depth + levels,
            prefix: (self.prefix.checked_shl(4 * u32::from(levels)).unwrap_or(0)) | child,
        })
    }

    /// First and last hash below it.
    fn hashes(self) -> (u64, u64) {
        let free = 64 - 4 * u32::from(self.depth.min(DEPTH_MAX));
        let first = self.prefix.checked_shl(free).unwrap_or(0);
        let below = u64::MAX.checked_shr(64 - free).unwrap_or(0);
        (first, first | below)
    }
}

impl Default for Trie {
    fn default() -> Trie {
        let sums = (0..=KEPT_DEPTH).map(|depth| vec![0; 1 << (4 * depth)]);
        Trie {
            weights: BTreeMap::new(),
            sums: sums.collect(),
        }
    }
}

impl Trie {
    /// The trie of all these live keys; much faster than inserting a million of them.
    pub(crate) fn of<'a>(keys: impl Iterator<Item = (&'a Path, EntryDigest)>) -> Trie {
        let weigh = |(path, digest): (&Path, EntryDigest)| {
            ((Trie::hash(path), path.clone()), digest.weight())
        };
        let mut trie = Trie {
            weights: keys.map(weigh).collect(),
            ..Trie::default()
        };
        let mut sums = std::mem::take(&mut trie.sums);
        for ((hash, _), weight) in &trie.weights {
            add(&mut sums, *hash, *weight);
        }
        trie.sums = sums;
        trie
    }

    /// Place of a path.
    pub fn hash(path: &Path) -> u64 {
        xxh3_64(path.as_str().as_bytes())
    }

    /// Puts in a live entry, instead of the one that was there.
    pub(crate) fn insert(&mut self, path: &Path, digest: EntryDigest) {
        let hash = Trie::hash(path);
        let weight = digest.weight();
        let old = self.weights.insert((hash, path.clone()), weight);
        add(&mut self.sums, hash, weight.wrapping_sub(old.unwrap_or(0)));
    }

    /// Takes out a key that is not live any more.
    pub fn remove(&mut self, path: &Path) {
        let hash = Trie::hash(path);
        if let Some(old) = self.weights.remove(&(hash, path.clone())) {
            add(&mut self.sums, hash, old.wrapping_neg());
        }
    }

    /// Digest of a node; 0 for an empty one.
    pub fn digest(&self, node: TrieNode) -> u64 {
        let kept = self.sums.get(usize::from(node.depth));
        match kept.and_then(|level| level.get(node.prefix as usize)) {
            Some(sum) => *sum,
            None => self
                .keys(node)
                .fold(0, |sum, (_, _, w)| sum.wrapping_add(w)),
        }
    }

    /// Hash, path and weight of every key below a node, ordered by hash.
    pub fn keys(&self, node: TrieNode) -> impl Iterator<Item = (u64, &Path, u64)> {
        let (first, last) = node.hashes();
        let ordered = self.weights.range((first, Path::least())..);
        ordered
            .map(|((hash, path), weight)| (*hash, path, *weight))
            .take_while(move |(hash, _, _)| *hash <= last)
    }

    /// The keys with exactly this hash: one, except for a rare coincidence.
    pub fn with_hash(&self, hash: u64) -> impl Iterator<Item = &Path> {
        let leaf = TrieNode {
            depth: DEPTH_MAX,
            prefix: hash,
        };
        self.keys(leaf).map(|(_, path, _)| path)
    }
}

/// Changes the sums of all nodes above a hash.
fn add(sums: &mut [Vec<u64>], hash: u64, difference: u64) {
    for (depth, level) in sums.iter_mut().enumerate() {
        let prefix = hash.checked_shr(64 - 4 * depth as u32).unwrap_or(0);
        if let Some(sum) = level.get_mut(prefix as usize) {
            *sum = sum.wrapping_add(difference);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::Host;
    use crate::stamp::{Issue, Stamp};
    use crate::tree::{Entry, Value};

    fn entry(ns: u64) -> Entry {
        let writer = Host::new("a").expect("valid");
        Entry {
            value: Value::text("v").expect("valid"),
            stamp: Stamp::new(ns, &writer),
            issue: Issue { nr: ns, writer },
            lazy: false,
        }
    }

    fn insert(trie: &mut Trie, nr: u32, ns: u64) {
        trie.insert(&path(nr), EntryDigest::of(&path(nr), &entry(ns)));
    }

    fn path(nr: u32) -> Path {
        Path::new(&format!("userspace/{nr}")).expect("valid")
    }

    fn check_sums(trie: &Trie, node: TrieNode) {
        let by_hand = trie
            .keys(node)
            .fold(0u64, |sum, (_, _, w)| sum.wrapping_add(w));
        assert_eq!(trie.digest(node), by_hand, "{node:?}");
    }

    #[test]
    fn every_node_is_the_sum_of_what_is_below_it() {
        let mut trie = Trie::default();
        for nr in 0..500 {
            insert(&mut trie, nr, u64::from(nr));
        }
        for nr in 0..250 {
            insert(&mut trie, nr, 1_000 + u64::from(nr));
            trie.remove(&path(nr + 250));
            trie.remove(&path(nr + 250));
        }
        assert_eq!(trie.keys(TrieNode::ROOT).count(), 250);
        for levels in 0..3 {
            TrieNode::ROOT
                .below(levels)
                .for_each(|node| check_sums(&trie, node));
        }
        let (hash, _, _) = trie.keys(TrieNode::ROOT).next().expect("not empty");
        for depth in 0..=DEPTH_MAX {
            let prefix = hash.checked_shr(64 - 4 * u32::from(depth)).unwrap_or(0);
            let node = TrieNode { depth, prefix };
            assert!(node.is_valid() && trie.keys(node).count() >= 1);
            check_sums(&trie, node);
        }
    }

    #[test]
    fn a_trie_made_at_once_is_the_one_made_key_by_key() {
        let mut one_by_one = Trie::default();
        (0..300).for_each(|nr| insert(&mut one_by_one, nr, 7));
        let paths: Vec<Path> = (0..300).map(path).collect();
        let keys = paths
            .iter()
            .map(|path| (path, EntryDigest::of(path, &entry(7))));
        let at_once = Trie::of(keys);
        assert_eq!(at_once.sums, one_by_one.sums);
        assert_eq!(at_once.weights, one_by_one.weights);
    }

    #[test]
    fn nodes_below_a_node_cover_its_hashes_without_overlap() {
        let node = TrieNode {
            depth: 1,
            prefix: 0xf,
        };
        let mut next = node.hashes().0;
        for child in node.below(2) {
            assert_eq!(child.hashes().0, next);
            next = child.hashes().1.wrapping_add(1);
        }
        assert_eq!(next, 0);
        assert!(
            !TrieNode {
                depth: 1,
                prefix: 16
            }
            .is_valid()
        );
        assert!(
            !TrieNode {
                depth: 17,
                prefix: 0
            }
            .is_valid()
        );
    }

    proptest! {
        #[test]
        fn the_order_of_changes_leaves_no_trace(mut order in Just((0u32..40).collect::<Vec<_>>()).prop_shuffle()) {
            let build = |order: &[u32]| {
                let mut trie = Trie::default();
                order.iter().for_each(|nr| insert(&mut trie, *nr, u64::from(*nr)));
                trie.digest(TrieNode::ROOT)
            };
            let shuffled = build(&order);
            order.sort_unstable();
            prop_assert_eq!(shuffled, build(&order));
        }
    }
}
