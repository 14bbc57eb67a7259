//! Repair of two trees that differ although their summaries say they should not: questions and answers.
//!
//! The asking side holds a [`Repair`] and walks down the digest trie; the answering side is a function
//! ([`answer`]) and keeps nothing. Both sides have the same entries at the end. The caller carries the messages, and
//! sifts and applies what comes out. It is the second, independent way by which trees become equal; needing it
//! is worth an alarm.
//!
//! ```text
//! asks                                   answers
//! Nodes [root]                           its 256 nodes two levels down
//! Nodes [those which differ]             16 children each, or hash and weight of at most 16 keys
//! Entries { wanted hashes, given }       the entries, and newer ones instead of those given
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::knowledge::Knowledge;
use crate::path::Path;
use crate::tree::Entry;
use crate::trie::{DEPTH_MAX, FANOUT, TrieNode};

/// A node with at most so many keys is answered with the keys themselves.
pub const KEYS_LISTED_MAX: usize = 16;
/// Nodes in one question; the answer has at most 16 digests or keys for each, except below the root.
pub const NODES_ASKED_MAX: usize = 64;
/// Wanted or given entries in one question.
pub const ENTRIES_ASKED_MAX: usize = 64;
/// Most hash values that share a single place of the trie before the node is called garbled.
const SAME_HASH_MAX: usize = 4096;

/// What the repairing side asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairAsk {
    /// What is below these nodes?
    Nodes(Vec<TrieNode>),
    /// Give me the keys with these hashes; take these.
    Entries {
        /// Hashes of paths.
        want: Vec<u64>,
        /// Entries which the other side lacks or has otherwise.
        give: Vec<(Path, Entry)>,
    },
}

/// What the other side answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairAnswer {
    /// One for each node asked for, in order.
    Nodes(Vec<NodeIs>),
    /// The wanted entries, and those which are newer than what was given.
    Entries(Vec<(Path, Entry)>),
}

/// What is below one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeIs {
    /// Digests of the nodes below it: two levels down for the root, one level else.
    Digests(Vec<u64>),
    /// Hash and weight of every key below it.
    Keys(Vec<(u64, u64)>),
}

/// A message that no honest peer sends. The repair ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// A question is larger than allowed.
    #[error("repair question has {found} items, expected at most {max}")]
    TooLarge {
        /// How many there are.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// A node which cannot exist.
    #[error(
        "repair question names a node of depth {depth} with prefix {prefix:x}, which does not exist"
    )]
    NoSuchNode {
        /// Its depth.
        depth: u8,
        /// Its prefix.
        prefix: u64,
    },
    /// An answer does not fit the question.
    #[error("repair answer does not fit: found {found}, expected {expected}")]
    Unfitting {
        /// What was found, in words.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// One repair, seen from the asking side.
#[derive(Clone, Debug)]
pub struct Repair {
    nodes: VecDeque<TrieNode>,
    want: BTreeSet<u64>,
    give: BTreeSet<Path>,
    asked: Option<RepairAsk>,
}

impl Default for Repair {
    fn default() -> Repair {
        Repair::new()
    }
}

impl Repair {
    /// Begins at the root.
    pub fn new() -> Repair {
        Repair {
            nodes: VecDeque::from([TrieNode::ROOT]),
            want: BTreeSet::new(),
            give: BTreeSet::new(),
            asked: None,
        }
    }

    /// The next question; `None` when the repair is done. The same again until it is answered.
    pub fn ask(&mut self, here: &Knowledge) -> Option<RepairAsk> {
        if self.asked.is_none() {
            self.asked = self.next_ask(here);
        }
        self.asked.clone()
    }

    fn next_ask(&mut self, here: &Knowledge) -> Option<RepairAsk> {
        if !self.nodes.is_empty() {
            let count = self.nodes.len().min(NODES_ASKED_MAX);
            return Some(RepairAsk::Nodes(self.nodes.drain(..count).collect()));
        }
        let want: Vec<u64> = (0..ENTRIES_ASKED_MAX)
            .map_while(|_| self.want.pop_first())
            .collect();
        let mut give = Vec::new();
        while give.len() < ENTRIES_ASKED_MAX
            && let Some(path) = self.give.pop_first()
        {
            let entry = here.tree().get(&path).cloned();
            give.extend(entry.map(|entry| (path, entry)));
        }
        let done = want.is_empty() && give.is_empty();
        (!done).then_some(RepairAsk::Entries { want, give })
    }

    /// Takes the answer to the last question. Returns entries to sift
    /// ([`sift_repair`](Knowledge::sift_repair)) and apply here.
    ///
    /// # Errors
    /// [`RepairError`] when the answer does not fit the question.
    pub fn answered(
        &mut self,
        here: &Knowledge,
        answer: RepairAnswer,
    ) -> Result<Vec<(Path, Entry)>, RepairError> {
        match (self.asked.take(), answer) {
            (Some(RepairAsk::Nodes(asked)), RepairAnswer::Nodes(are)) => {
                if asked.len() != are.len() {
                    return Err(unfitting(are.len(), "nodes", asked.len()));
                }
                for (node, is) in asked.into_iter().zip(are) {
                    self.compare(here, node, is)?;
                }
                Ok(Vec::new())
            }
            (Some(RepairAsk::Entries { want, give }), RepairAnswer::Entries(entries)) => {
                if entries.len() > want.len() + give.len() + SAME_HASH_MAX {
                    return Err(unfitting(entries.len(), "entries", want.len()));
                }
                // What is older than ours goes back to the peer: it lacks our deletion, for example.
                let outdated = entries
                    .iter()
                    .filter(|(path, entry)| is_outdated(here, path, entry));
                self.give.extend(outdated.map(|(path, _)| path.clone()));
                Ok(entries)
            }
            (asked, _) => Err(RepairError::Unfitting {
                found: "another kind of answer".to_owned(),
                expected: format!("the answer to {asked:?}"),
            }),
        }
    }

    fn compare(&mut self, here: &Knowledge, node: TrieNode, is: NodeIs) -> Result<(), RepairError> {
        match is {
            NodeIs::Digests(digests) => {
                let below: Vec<TrieNode> = node.below(levels_answered(node)).collect();
                if below.len() != digests.len() || node.depth >= DEPTH_MAX {
                    return Err(unfitting(digests.len(), "digests", below.len()));
                }
                let differ = below.into_iter().zip(digests);
                let differ = differ.filter(|(node, theirs)| here.trie().digest(*node) != *theirs);
                self.nodes.extend(differ.map(|(node, _)| node));
            }
            NodeIs::Keys(theirs) => {
                if theirs.len() > SAME_HASH_MAX {
                    return Err(unfitting(theirs.len(), "keys", SAME_HASH_MAX));
                }
                self.compare_keys(here, node, theirs);
            }
        }
        Ok(())
    }

    fn compare_keys(&mut self, here: &Knowledge, node: TrieNode, theirs: Vec<(u64, u64)>) {
        let mut weights: BTreeMap<u64, [Vec<u64>; 2]> = BTreeMap::new();
        for (hash, _, weight) in here.trie().keys(node) {
            weights.entry(hash).or_default()[0].push(weight);
        }
        for (hash, weight) in theirs {
            weights.entry(hash).or_default()[1].push(weight);
        }
        for (hash, [mut ours, mut theirs]) in weights {
            ours.sort_unstable();
            theirs.sort_unstable();
            if ours != theirs {
                self.give.extend(here.trie().with_hash(hash).cloned());
                if !theirs.is_empty() {
                    self.want.insert(hash);
                }
            }
        }
    }
}

/// Answers a question. The second part are entries the asker gave: sift
/// ([`sift_repair`](Knowledge::sift_repair)) and apply them here.
///
/// # Errors
/// [`RepairError`] when the question is too large or names nodes that do not exist.
pub fn answer(
    here: &Knowledge,
    ask: RepairAsk,
) -> Result<(RepairAnswer, Vec<(Path, Entry)>), RepairError> {
    match ask {
        RepairAsk::Nodes(nodes) => {
            at_most(nodes.len(), NODES_ASKED_MAX)?;
            let are = nodes.into_iter().map(|node| describe(here, node));
            Ok((
                RepairAnswer::Nodes(are.collect::<Result<_, _>>()?),
                Vec::new(),
            ))
        }
        RepairAsk::Entries { want, give } => {
            at_most(want.len(), ENTRIES_ASKED_MAX)?;
            at_most(give.len(), ENTRIES_ASKED_MAX)?;
            let wanted = want.iter().flat_map(|hash| here.trie().with_hash(*hash));
            let outdated = give
                .iter()
                .filter(|(path, entry)| is_outdated(here, path, entry));
            let paths: BTreeSet<&Path> = wanted.chain(outdated.map(|(path, _)| path)).collect();
            let entry = |path: &Path| Some((path.clone(), here.tree().get(path)?.clone()));
            let entries = paths.into_iter().filter_map(entry).collect();
            Ok((RepairAnswer::Entries(entries), give))
        }
    }
}

fn describe(here: &Knowledge, node: TrieNode) -> Result<NodeIs, RepairError> {
    if !node.is_valid() {
        let TrieNode { depth, prefix } = node;
        return Err(RepairError::NoSuchNode { depth, prefix });
    }
    let few = here.trie().keys(node).nth(KEYS_LISTED_MAX).is_none();
    if few || node.depth == DEPTH_MAX {
        let keys = here
            .trie()
            .keys(node)
            .map(|(hash, _, weight)| (hash, weight));
        return Ok(NodeIs::Keys(keys.take(SAME_HASH_MAX).collect()));
    }
    let below = node.below(levels_answered(node));
    Ok(NodeIs::Digests(
        below.map(|node| here.trie().digest(node)).collect(),
    ))
}

/// The root is answered two levels down: one round trip less, and still only 2 KiB.
fn levels_answered(node: TrieNode) -> u8 {
    if node.depth == 0 { 2 } else { 1 }
}

const _: () = assert!(FANOUT * FANOUT == 256);

/// Is there a newer entry here?
fn is_outdated(here: &Knowledge, path: &Path, entry: &Entry) -> bool {
    here.tree().get(path).is_some_and(|held| held.beats(entry))
}

fn at_most(found: usize, max: usize) -> Result<(), RepairError> {
    if found > max {
        return Err(RepairError::TooLarge { found, max });
    }
    Ok(())
}

fn unfitting(found: usize, what: &str, expected: usize) -> RepairError {
    RepairError::Unfitting {
        found: format!("{found} {what}"),
        expected: format!("{expected}"),
    }
}
