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

use crate::path::Path;
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
    entries: OrdMap<Path, Entry>,
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
        if let Some((at, found)) = text.char_indices().find(|(_, c)| c.is_control()) {
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
        self.entries.get(path)
    }

    /// The same by text; `None` also for a text that is no path.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
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
        self.entries.iter()
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
        self.entries.get(path).is_none_or(|held| entry.beats(held))
    }

    /// Takes over `entry` if it is newer than what is held under `path`.
    pub fn merge(&mut self, path: Path, entry: Entry) -> Merged {
        if let Some(held) = self.entries.get(&path) {
            if *held == entry {
                return Merged::Same;
            }
            if !entry.beats(held) {
                return Merged::Older;
            }
        }
        self.count_in(&path, &entry);
        let old = self.entries.insert(path.clone(), entry);
        if let Some(old) = &old {
            self.count_out(&path, old);
        }
        Merged::Changed { old }
    }

    /// Forgets a deletion which every member has seen (`collect.rs`). Live entries are never removed:
    /// returns `None` and leaves them.
    pub fn remove_collected(&mut self, path: &Path) -> Option<Entry> {
        if !self.entries.get(path)?.is_tombstone() {
            return None;
        }
        self.entries.remove(path)
    }

    fn count_in(&mut self, path: &Path, entry: &Entry) {
        if !entry.is_tombstone() {
            self.live += 1;
            self.digest = self.digest.wrapping_add(entry_digest(path, entry));
        }
    }

    fn count_out(&mut self, path: &Path, entry: &Entry) {
        if !entry.is_tombstone() {
            self.live -= 1;
            self.digest = self.digest.wrapping_sub(entry_digest(path, entry));
        }
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Digest of one entry under its path. Sums of these do not depend on the order of the entries.
pub(crate) fn entry_digest(path: &Path, entry: &Entry) -> u128 {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(path.as_str().as_bytes());
    field(&entry.stamp.ns.to_le_bytes());
    field(entry.stamp.writer.as_str().as_bytes());
    field(&entry.issue.nr.to_le_bytes());
    field(entry.issue.writer.as_str().as_bytes());
    field(entry.text().unwrap_or_default().as_bytes());
    field(&[u8::from(entry.is_tombstone()), u8::from(entry.lazy)]);
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(half)
}
