//! The replicated key tree: entries, their order, and the merge that makes all hosts agree.
//!
//! [`Tree`] is a value: a clone costs O(1) and is a snapshot. It knows nothing about who has seen what;
//! that is `knowledge.rs`. Merging is commutative, associative and idempotent, because the entry that stays is
//! simply the greatest one in a total order (see [`Entry::beats`]), so entries may arrive in any order and any
//! number of times.
//!
//! A deleted key stays as [`Value::Tombstone`] until every member has seen the deletion (`collect.rs`).

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::path::{Path, first_control};
use crate::stamp::{Issue, Stamp};

/// Longest text of one value: the original keeps values in symlinks, which end at one page.
pub const VALUE_BYTES_MAX: usize = 4096;

/// The character right behind the slash: a range that begins with it leaves out a whole folder.
const BEHIND_SLASH: char = '0';
const _: () = assert!(BEHIND_SLASH as u32 == '/' as u32 + 1);

/// What a key holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Option<String>", into = "Option<String>")]
pub enum Value {
    /// Text of at most [`VALUE_BYTES_MAX`] bytes without control characters; make it with [`Value::text`].
    Text(Arc<str>),
    /// The key was deleted.
    Tombstone,
}

/// Why a text cannot be a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueTextError {
    /// More than [`VALUE_BYTES_MAX`] bytes.
    #[error("value has {bytes} bytes, expected at most {VALUE_BYTES_MAX}")]
    TooLong {
        /// How many were offered.
        bytes: usize,
    },
    /// A control character such as newline or TAB; the text dump of the tree has one entry a line.
    #[error("value has the control character {found:?} at byte {at}, expected none")]
    Control {
        /// The character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

/// One key's value, when it was written, and when it was given to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The value or its deletion.
    pub value: Value,
    /// Decides which entry stays.
    pub stamp: Stamp,
    /// Decides who still has to hear of it.
    pub issue: Issue,
    /// A progress indicator: may be visible before it is durable, its loss only costs work done twice.
    pub lazy: bool,
}

/// What [`Tree::merge`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The new entry is in; the one it replaced, if any.
    Changed {
        /// What was there before.
        old: Option<Entry>,
    },
    /// Exactly this entry was there already.
    Same,
    /// The entry held here is newer; nothing changed.
    Older,
}

/// See the head of this file.
#[derive(Clone, Default)]
pub struct Tree {
    /// Behind an `Arc`, because a change after a snapshot copies one node of the map.
    entries: OrdMap<Path, Arc<Entry>>,
    live: usize,
    digest: u128,
}

impl Value {
    /// Checks `text` and makes it a value.
    ///
    /// # Errors
    /// [`ValueTextError`] when it is too long or holds a control character.
    pub fn text(text: &str) -> Result<Value, ValueTextError> {
        if text.len() > VALUE_BYTES_MAX {
            return Err(ValueTextError::TooLong { bytes: text.len() });
        }
        if let Some((at, found)) = first_control(text) {
            return Err(ValueTextError::Control { found, at });
        }
        Ok(Value::Text(text.into()))
    }

    /// The text, unless the key is deleted.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Tombstone => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Tombstone => f.write_str("deleted"),
        }
    }
}

impl TryFrom<Option<String>> for Value {
    type Error = ValueTextError;
    fn try_from(text: Option<String>) -> Result<Value, ValueTextError> {
        text.map_or(Ok(Value::Tombstone), |text| Value::text(&text))
    }
}

impl From<Value> for Option<String> {
    fn from(value: Value) -> Option<String> {
        value.as_text().map(str::to_owned)
    }
}

impl Entry {
    /// Does this entry stay when both are offered for one key? The stamp decides. Equal stamps happen only when
    /// a command sets one explicitly; then the later issue wins, and the rest is there to make the order total.
    pub fn beats(&self, other: &Entry) -> bool {
        self.rank() > other.rank()
    }

    /// Is it a deletion?
    pub fn is_tombstone(&self) -> bool {
        self.value == Value::Tombstone
    }

    /// The text, unless the key is deleted.
    pub fn text(&self) -> Option<&str> {
        self.value.as_text()
    }

    fn rank(&self) -> (&Stamp, &Issue, &Value, bool) {
        (&self.stamp, &self.issue, &self.value, self.lazy)
    }
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// What is known about a key, including its deletion.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path).map(Arc::as_ref)
    }

    /// The same by text; `None` also for a text that is no path.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path).map(Arc::as_ref)
    }

    /// The live value of a key.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.entry(path)?.text()
    }

    /// All entries whose path begins with `prefix`, in order of their paths, deletions included.
    /// End the prefix with a slash where a whole component is meant.
    pub fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Path, &'a Entry)> {
        let from = (Bound::Included(prefix), Bound::<&str>::Unbounded);
        self.entries
            .range::<_, str>(from)
            .take_while(move |(path, _)| path.as_str().starts_with(prefix))
            .map(|(path, entry)| (path, entry.as_ref()))
    }

    /// Like [`range`](Self::range), only live values.
    pub fn texts<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Path, &'a str)> {
        self.range(prefix)
            .filter_map(|(path, entry)| Some((path, entry.text()?)))
    }

    /// The folders directly behind `prefix` that hold a live key, in order of their paths: for `resource-` the names
    /// of all resources. Costs O(log n) for each, however many keys lie in it.
    pub fn folders(&self, prefix: &str) -> Vec<&str> {
        let mut found = Vec::new();
        let mut from = prefix.to_owned();
        while let Some(tail) = self.first_live_tail(prefix, &from) {
            match tail.split_once('/') {
                Some((folder, _)) => {
                    found.push(folder);
                    from = format!("{prefix}{folder}{BEHIND_SLASH}");
                }
                None => from = format!("{prefix}{tail}\0"),
            }
        }
        found
    }

    /// What follows `prefix` in the first live path from `from` on.
    fn first_live_tail(&self, prefix: &str, from: &str) -> Option<&str> {
        let rest = (Bound::Included(from), Bound::<&str>::Unbounded);
        let mut rest = self.entries.range::<_, str>(rest);
        let live =
            rest.find(|(path, entry)| !entry.is_tombstone() || !path.as_str().starts_with(prefix));
        live.and_then(|(path, _)| path.as_str().strip_prefix(prefix))
    }

    /// All entries in order of their paths, deletions included.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path, entry.as_ref()))
    }

    /// Number of entries, deletions included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of live values.
    pub fn live_len(&self) -> usize {
        self.live
    }

    /// Is there nothing, not even a deletion?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Digest over all live entries. Deletions are left out, because hosts forget them at different times.
    pub fn digest(&self) -> [u8; 16] {
        self.digest.to_be_bytes()
    }

    /// Would [`merge`](Self::merge) change anything?
    pub fn wants(&self, path: &Path, entry: &Entry) -> bool {
        self.get(path).is_none_or(|held| entry.beats(held))
    }

    /// The tree of these entries, each path once, but for what [`counted`](Self::counted) adds.
    pub(crate) fn uncounted(entries: &[(Path, Arc<Entry>)]) -> Tree {
        Tree {
            entries: entries.iter().cloned().collect(),
            ..Tree::default()
        }
    }

    /// With what was counted of its entries, which may have been done elsewhere meanwhile.
    pub(crate) fn counted(self, count: Count) -> Tree {
        let Count { live, digest } = count;
        Tree {
            live,
            digest,
            ..self
        }
    }

    /// All entries in order of their paths, deletions included.
    pub(crate) fn into_entries(self) -> Vec<(Path, Arc<Entry>)> {
        self.entries.into_iter().collect()
    }

    /// Takes over `entry` if it is newer than what is held under `path`.
    pub fn merge(&mut self, path: Path, entry: Entry) -> Merged {
        let digest = EntryDigest::of(&path, &entry);
        self.merge_digested(path, entry, digest)
    }

    /// The same for a caller that needs the digest, too.
    pub(crate) fn merge_digested(
        &mut self,
        path: Path,
        entry: Entry,
        digest: EntryDigest,
    ) -> Merged {
        if let Some(held) = self.get(&path) {
            if *held == entry {
                return Merged::Same;
            }
            if !entry.beats(held) {
                return Merged::Older;
            }
            if !held.is_tombstone() {
                let held = EntryDigest::of(&path, held);
                self.live -= 1;
                self.digest = self.digest.wrapping_sub(held.0);
            }
        }
        if !entry.is_tombstone() {
            self.live += 1;
            self.digest = self.digest.wrapping_add(digest.0);
        }
        let old = self.entries.insert(path, Arc::new(entry));
        Merged::Changed {
            old: old.map(Arc::unwrap_or_clone),
        }
    }

    /// Forgets a deletion which every member has seen (`collect.rs`). Live entries are never removed:
    /// returns `None` and leaves them.
    pub fn remove_collected(&mut self, path: &Path) -> Option<Entry> {
        if !self.entries.get(path)?.is_tombstone() {
            return None;
        }
        self.entries.remove(path).map(Arc::unwrap_or_clone)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Number and digest of the live ones of some entries.
pub(crate) struct Count {
    live: usize,
    digest: u128,
}

impl Count {
    /// Counts `entries`, each path once.
    pub(crate) fn of(entries: &[(Path, Arc<Entry>)]) -> Count {
        let mut bytes = Vec::new();
        let mut count = Count { live: 0, digest: 0 };
        for (path, entry) in entries.iter().filter(|(_, entry)| !entry.is_tombstone()) {
            let digest = EntryDigest::through(&mut bytes, path, entry);
            count.live += 1;
            count.digest = count.digest.wrapping_add(digest.0);
        }
        count
    }
}

/// Digest of one entry under its path. Sums of these do not depend on the order of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryDigest(u128);

impl EntryDigest {
    /// Hashes one entry.
    pub(crate) fn of(path: &Path, entry: &Entry) -> EntryDigest {
        let text = entry.text().map_or(0, str::len);
        let mut bytes = Vec::with_capacity(160 + path.as_str().len() + text);
        EntryDigest::through(&mut bytes, path, entry)
    }

    /// Hashes every field behind its length, so that no two entries read as the same bytes. They are put together in
    /// `bytes`, which many entries may use in turn.
    fn through(bytes: &mut Vec<u8>, path: &Path, entry: &Entry) -> EntryDigest {
        let value = entry.text().unwrap_or_default();
        bytes.clear();
        let mut field = |field: &[u8]| {
            bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
            bytes.extend_from_slice(field);
        };
        field(path.as_str().as_bytes());
        field(&entry.stamp.ns.to_le_bytes());
        field(entry.stamp.writer.as_str().as_bytes());
        field(&entry.issue.nr.to_le_bytes());
        field(entry.issue.writer.as_str().as_bytes());
        field(value.as_bytes());
        field(&[u8::from(entry.is_tombstone()), u8::from(entry.lazy)]);
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        EntryDigest(u128::from_be_bytes(half))
    }

    /// Its first 8 bytes: the weight in the digest trie.
    pub(crate) fn weight(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::Host;

    fn path(text: &str) -> Path {
        Path::new(text).expect("valid path")
    }

    fn entry(ns: u64, writer: &str, nr: u64, text: Option<&str>) -> Entry {
        let writer = Host::new(writer).expect("valid name");
        Entry {
            value: text.map_or(Value::Tombstone, |text| Value::text(text).expect("valid")),
            stamp: Stamp::new(ns, &writer),
            issue: Issue { nr, writer },
            lazy: false,
        }
    }

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        for (key, entry) in entries {
            tree.merge(path(key), entry.clone());
        }
        tree
    }

    fn check_refused(text: &str, why: &str) {
        let error = Value::text(text).expect_err("must be refused");
        assert!(error.to_string().contains(why), "{error}");
    }

    /// Few keys, stamps and values, so that every kind of tie appears.
    fn entries() -> impl Strategy<Value = Vec<(Path, Entry)>> {
        let text = prop::option::of("[ab]");
        let one = ("[xyz]", 0u64..3, "[ab]", 0u64..3, text, any::<bool>());
        let one = one.prop_map(|(key, ns, writer, nr, text, lazy)| {
            let entry = entry(ns, &writer, nr, text.as_deref());
            (path(&key), Entry { lazy, ..entry })
        });
        prop::collection::vec(one, 0..12)
    }

    fn merged(all: impl IntoIterator<Item = (Path, Entry)>) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in all {
            tree.merge(path, entry);
        }
        tree
    }

    fn check_equal(one: &Tree, other: &Tree) -> Result<(), TestCaseError> {
        let all = |tree: &Tree| -> Vec<(Path, Entry)> {
            let pairs = tree
                .iter()
                .map(|(path, entry)| (path.clone(), entry.clone()));
            pairs.collect()
        };
        prop_assert_eq!(all(one), all(other));
        prop_assert_eq!(one.digest(), other.digest());
        prop_assert_eq!(one.live_len(), other.texts("").count());
        Ok(())
    }

    #[test]
    fn the_newer_stamp_stays_and_the_older_one_is_named_so() {
        let mut tree = tree(&[("k", entry(5, "a", 5, Some("old")))]);
        let newer = entry(6, "a", 6, Some("new"));
        let replaced = tree.merge(path("k"), newer.clone());
        assert_eq!(
            replaced,
            Merged::Changed {
                old: Some(entry(5, "a", 5, Some("old")))
            }
        );
        assert_eq!(tree.merge(path("k"), newer), Merged::Same);
        let late = entry(5, "b", 9, Some("late"));
        assert_eq!(tree.merge(path("k"), late), Merged::Older);
        assert_eq!(tree.text("k"), Some("new"));
    }

    #[test]
    fn of_two_commands_with_the_same_explicit_stamp_the_later_one_stays() {
        let first = entry(1, "a", 100, Some("first"));
        let second = entry(1, "a", 101, Some("second"));
        assert!(second.beats(&first) && !first.beats(&second));
    }

    #[test]
    fn a_deleted_key_has_no_text_but_is_still_known() {
        let deleted = tree(&[
            ("k", entry(5, "a", 5, Some("x"))),
            ("k", entry(6, "b", 6, None)),
        ]);
        assert_eq!(deleted.text("k"), None);
        assert!(deleted.entry("k").expect("known").is_tombstone());
        assert_eq!((deleted.len(), deleted.live_len()), (1, 0));
        assert_eq!(deleted.digest(), Tree::new().digest());
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut tree = tree(&[("k", entry(5, "a", 5, Some("x")))]);
        let snapshot = tree.clone();
        tree.merge(path("k"), entry(6, "a", 6, Some("y")));
        assert_eq!((snapshot.text("k"), tree.text("k")), (Some("x"), Some("y")));
    }

    #[test]
    fn a_live_entry_is_never_forgotten() {
        let mut tree = tree(&[("k", entry(5, "a", 5, Some("x")))]);
        assert_eq!(tree.remove_collected(&path("k")), None);
        tree.merge(path("k"), entry(6, "a", 6, None));
        assert!(tree.remove_collected(&path("k")).is_some());
        assert!(tree.is_empty());
    }

    #[test]
    fn a_prefix_selects_its_keys_and_folders_are_listed_once() {
        let x = || entry(5, "a", 5, Some("x"));
        let tree = tree(&[
            ("resource-a/size", x()),
            ("resource-a-b/size", x()),
            ("resource-a/primary", x()),
            ("resource-gone/size", entry(5, "a", 5, None)),
            ("resource-z", x()),
            ("resource-z/deep/er", x()),
            ("rest", x()),
        ]);
        let found: Vec<&str> = tree
            .texts("resource-a/")
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(found, ["resource-a/primary", "resource-a/size"]);
        assert_eq!(tree.folders("resource-"), ["a-b", "a", "z"]);
        assert_eq!(tree.folders("resource-z/"), ["deep"]);
        assert_eq!(tree.folders("nothing"), Vec::<&str>::new());
    }

    #[test]
    fn values_that_would_break_a_line_or_a_message_are_refused() {
        check_refused("two\nlines", "'\\n' at byte 3");
        check_refused("a\tb", "'\\t' at byte 1");
        check_refused(&"x".repeat(VALUE_BYTES_MAX + 1), "4097 bytes");
        assert!(Value::text(&"x".repeat(VALUE_BYTES_MAX)).is_ok());
        assert!(Value::text("").is_ok());
        assert!(serde_json::from_str::<Value>("\"a\\u0000b\"").is_err());
    }

    #[test]
    fn an_entry_survives_the_wire() {
        for value in [Some("x"), Some(""), None] {
            let sent = entry(5, "a", 7, value);
            let text = serde_json::to_string(&sent).expect("can be written");
            assert_eq!(
                serde_json::from_str::<Entry>(&text).expect("can be read"),
                sent
            );
        }
    }

    proptest! {
        #[test]
        fn a_tree_made_at_once_is_the_one_merged_key_by_key(all in entries()) {
            let one_by_one = merged(all);
            let entries = one_by_one.clone().into_entries();
            check_equal(&Tree::uncounted(&entries).counted(Count::of(&entries)), &one_by_one)?;
        }

        #[test]
        fn merging_is_commutative_and_idempotent(all in entries(), order in any::<u64>()) {
            let mut shuffled = all.clone();
            shuffled.extend(all.iter().filter(|(_, e)| (e.stamp.ns ^ order) & 1 == 0).cloned());
            let turn = order as usize % shuffled.len().max(1);
            shuffled.rotate_left(turn);
            shuffled.reverse();
            check_equal(&merged(all), &merged(shuffled))?;
        }

        #[test]
        fn merging_is_associative(a in entries(), b in entries(), c in entries()) {
            let pairs = |tree: Tree| -> Vec<(Path, Entry)> {
                tree.iter().map(|(path, entry)| (path.clone(), entry.clone())).collect()
            };
            let both = |one: &[(Path, Entry)], other: &[(Path, Entry)]| {
                pairs(merged(one.iter().chain(other).cloned()))
            };
            let left = merged(both(&both(&a, &b), &c));
            let right = merged(both(&a, &both(&b, &c)));
            check_equal(&left, &right)?;
        }
    }
}
