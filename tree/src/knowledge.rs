//! All that one host knows: the tree, what of every writer it has seen, and indexes to tell others quickly.
//!
//! An exchange needs no queues and no memory about peers: the peer sends its [`Summary`], and gets what lies beyond
//! it, ordered by issue ([`Knowledge::delta_since`]). It may be cut anywhere and resumed any time. Fresh changes
//! are pushed at once; a receiver notices by the number before ([`PushItem`]) whether it lacks something.
//!
//! What arrives is first *sifted* (what is new, what is too far in the future), then made durable by the caller, then
//! *applied*: nothing becomes visible before it is durable. Horizons may be stored later than entries, never
//! earlier: see [`Saved`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::clock::TooFarAhead;
use crate::name::Host;
use crate::path::Path;
use crate::summary::{Delta, Push, PushItem, Summary};
use crate::tree::{Count, Entry, EntryDigest, Merged, Tree, Value};
use crate::trie::Trie;

/// Bytes of paths and values in one delta, so that a message stays bounded whatever the values are.
pub const DELTA_BYTES_MAX: usize = 512 * 1024;
/// What an entry costs beyond its path and value: stamp, issue, names of fields.
const ENTRY_OVERHEAD_BYTES: usize = 120;

/// The part of the knowledge that is not entries. Store it *after* the entries it speaks of are durable, lazy ones
/// included; an old copy is always right and only costs sending some entries again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Horizon of every writer.
    pub seen: Summary,
    /// For every writer the greatest issue of a deletion that was forgotten.
    pub floor: Summary,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Knowledge {
    me: Host,
    tree: Tree,
    seen: Summary,
    floor: Summary,
    last_issued: u64,
    /// Entries were lost here; until a peer has told all it knows, this host speaks for nobody, itself included.
    incomplete: bool,
    /// Writer → issue number → path, newest issue of each path only.
    issues: BTreeMap<Host, BTreeMap<u64, Path>>,
    /// By the hosts that deleted them; none of them without any.
    tombstones: BTreeMap<Host, BTreeSet<Path>>,
    /// Made when somebody asks for it first, which few hosts ever do; kept up to date from then on.
    trie: OnceLock<Trie>,
}

/// What arrived, sorted: the caller makes `entries` durable and then calls [`Knowledge::apply`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// What is new here, in the order it came.
    pub entries: Vec<(Path, Entry)>,
    /// What is too far in the future, and why. It comes again with a later exchange.
    pub held_back: Vec<HeldBack>,
    raises: Vec<Raise>,
    floor: Summary,
    /// The peer has no more to tell.
    ends: bool,
}

/// An entry that is not applied yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Its key.
    pub path: Path,
    /// The host whose clock seems to be wrong.
    pub writer: Host,
    /// By how much.
    pub why: TooFarAhead,
}

/// What [`Knowledge::apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Keys whose entry is another one now.
    pub changed: Vec<Path>,
    /// Something is missing before a pushed entry, or the answer was to an outdated question: ask for an exchange.
    pub gap: bool,
}

/// How two pieces of work are done that have nothing to do with each other: one after the other, or by threads of the caller at
/// the same time. What comes out does not depend on it.
pub trait Both {
    /// Does them.
    fn both<A, B: Send>(&self, one: impl FnOnce() -> A, other: impl FnOnce() -> B + Send)
    -> (A, B);
}

/// One after the other.
pub struct InTurn;

impl Both for InTurn {
    fn both<A, B: Send>(
        &self,
        one: impl FnOnce() -> A,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        (one(), other())
    }
}

/// What is made from the entries, to find them by other things than their paths.
struct Indexes {
    issues: BTreeMap<Host, BTreeMap<u64, Path>>,
    tombstones: BTreeMap<Host, BTreeSet<Path>>,
}

impl Indexes {
    /// Makes the indexes of all entries at once, which takes a tenth of the time of one by one.
    fn of(entries: &[(Path, Arc<Entry>)]) -> Indexes {
        let mut issues: BTreeMap<&Host, Vec<(u64, Path)>> = BTreeMap::new();
        let mut tombstones: BTreeMap<Host, BTreeSet<Path>> = BTreeMap::new();
        for (path, entry) in entries {
            let writer = &entry.issue.writer;
            let paths = issues.entry(writer).or_default();
            paths.push((entry.issue.nr, path.clone()));
            if entry.is_tombstone() {
                let paths = tombstones.entry(writer.clone()).or_default();
                paths.insert(path.clone());
            }
        }
        let issues = issues.into_iter();
        Indexes {
            issues: issues
                .map(|(writer, paths)| (writer.clone(), paths.into_iter().collect()))
                .collect(),
            tombstones,
        }
    }
}

/// "From `base` on nothing of `writer` is missing up to `to`."
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raise {
    writer: Host,
    base: u64,
    to: u64,
}

impl Knowledge {
    /// What a host knows that has just been set up.
    pub fn new(me: &Host) -> Knowledge {
        Knowledge {
            me: me.clone(),
            tree: Tree::new(),
            seen: Summary::default(),
            floor: Summary::default(),
            last_issued: 0,
            incomplete: false,
            issues: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            trie: OnceLock::new(),
        }
    }

    /// What a host knows after a start: the stored entries, best in the order of their paths, the horizons, and its
    /// stored clock lease in nanoseconds. All issue numbers up to the lease count as used: a lazy entry that was pushed and then
    /// lost in a crash comes back through the digest trie.
    pub fn restored(
        me: &Host,
        entries: impl IntoIterator<Item = (Path, Entry)>,
        saved: Saved,
        lease_ns: u64,
    ) -> Knowledge {
        Knowledge::restored_by(&InTurn, me, entries, saved, lease_ns)
    }

    /// The same; `how` does the two large pieces of the work.
    pub fn restored_by(
        how: &impl Both,
        me: &Host,
        entries: impl IntoIterator<Item = (Path, Entry)>,
        saved: Saved,
        lease_ns: u64,
    ) -> Knowledge {
        let mut knowledge = Knowledge::new(me);
        knowledge.seen = saved.seen;
        knowledge.floor = saved.floor;
        let share = |(path, mut entry)| {
            knowledge.share_names(&mut entry);
            (path, Arc::new(entry))
        };
        let entries = in_order(entries.into_iter().map(share).collect());
        let (tree, (indexes, count)) = how.both(
            || Tree::uncounted(&entries),
            || (Indexes::of(&entries), Count::of(&entries)),
        );
        knowledge.tree = tree.counted(count);
        knowledge.tombstones = indexes.tombstones;
        knowledge.issues.extend(indexes.issues);
        let own = knowledge.issues.get(me).and_then(BTreeMap::last_key_value);
        knowledge.last_issued = own.map_or(0, |(nr, _)| *nr).max(lease_ns);
        knowledge.own_horizon_is_complete();
        knowledge
    }

    /// What a host knows whose store had to be given up, in whole or in part: the entries that are left, and its
    /// clock lease. It counts nothing as seen and asks a peer for everything, its own entries included.
    pub fn after_loss(
        me: &Host,
        entries: impl IntoIterator<Item = (Path, Entry)>,
        lease_ns: u64,
    ) -> Knowledge {
        let mut knowledge = Knowledge::restored(me, entries, Saved::default(), lease_ns);
        knowledge.seen = Summary::default();
        knowledge.incomplete = true;
        knowledge
    }

    /// Were entries lost here, and has no peer given them back yet?
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// The tree; clone it for a snapshot.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// This host.
    pub fn me(&self) -> &Host {
        &self.me
    }

    /// What this host has seen.
    pub fn summary(&self) -> &Summary {
        &self.seen
    }

    /// What to store beside the entries; see [`Saved`] for when.
    pub fn saved(&self) -> Saved {
        Saved {
            seen: self.seen.clone(),
            floor: self.floor.clone(),
        }
    }

    /// The digest trie, for `repair.rs`. The first call makes it, which hashes every live entry.
    pub fn trie(&self) -> &Trie {
        self.trie.get_or_init(|| {
            let live = self.tree.iter().filter(|(_, entry)| !entry.is_tombstone());
            Trie::of(live.map(|(path, entry)| (path, EntryDigest::of(path, entry))))
        })
    }

    /// Takes over a change made here; its entry is durable, or lazy. Returns what to push, unless a newer entry
    /// has come in meanwhile.
    ///
    /// # Panics
    /// When the issue is not by this host or its number does not rise: then the clock was not asked.
    pub fn issue(&mut self, path: Path, entry: Entry) -> Option<PushItem> {
        assert_eq!(
            entry.issue.writer, self.me,
            "issued in somebody else's name"
        );
        assert!(entry.issue.nr > self.last_issued, "issue numbers must rise");
        let prev_issue_of_writer = self.last_issued;
        if self.seen.horizon(&self.me) >= self.last_issued {
            self.seen.raise(&self.me, entry.issue.nr);
        }
        self.last_issued = entry.issue.nr;
        let changed = self.merge(path.clone(), entry.clone());
        changed.then_some(PushItem {
            path,
            entry,
            prev_issue_of_writer,
        })
    }

    /// What a host with summary `peer` lacks: at most `max_entries` and [`DELTA_BYTES_MAX`], but always at least
    /// one entry if there is any. Only what is known here without gaps is told.
    pub fn delta_since(&self, peer: &Summary, max_entries: usize) -> Delta {
        let mut queue = BinaryHeap::new();
        let mut writers = Vec::new();
        for (writer, to, from) in self.seen.beside(peer) {
            if from < to
                && let Some(paths) = self.issues.get(writer)
            {
                let mut rest = paths.range(from + 1..=to);
                queue.extend(rest.next().map(|next| Reverse((next, writers.len()))));
                writers.push(rest);
            }
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(Reverse(((nr, path), writer))) = queue.pop() {
            let Some(entry) = self.tree.get(path) else {
                continue;
            };
            bytes += ENTRY_OVERHEAD_BYTES + path.as_str().len() + entry.text().map_or(0, str::len);
            let full = entries.len() >= max_entries || bytes > DELTA_BYTES_MAX;
            if full
                && entries
                    .last()
                    .is_some_and(|(_, last): &(Path, Entry)| last.issue.nr < *nr)
            {
                return self.delta(entries, peer, nr - 1, true);
            }
            entries.push((path.clone(), entry.clone()));
            queue.extend(writers[writer].next().map(|next| Reverse((next, writer))));
        }
        self.delta(entries, peer, u64::MAX, false)
    }

    /// A delta which brings `peer` to `upto` of every writer, as far as it is known here.
    fn delta(&self, entries: Vec<(Path, Entry)>, peer: &Summary, upto: u64, more: bool) -> Delta {
        let mut raise = Summary::default();
        let mut since = Summary::default();
        for (writer, horizon, from) in self.seen.beside(peer) {
            let to = upto.min(horizon);
            if from < to {
                raise.raise(writer, to);
                since.raise(writer, from);
            }
        }
        Delta {
            entries,
            raise,
            since,
            floor: self.floor.clone(),
            more,
        }
    }

    /// Looks through the answer to a summary. `admit` is the clock's guard
    /// ([`LamportClock::admits`](crate::LamportClock::admits)) with the wall clock filled in.
    pub fn sift_delta(
        &self,
        delta: Delta,
        admit: impl Fn(u64) -> Result<(), TooFarAhead>,
    ) -> Sifted {
        let mut sifted = Sifted {
            floor: delta.floor,
            ends: !delta.more,
            ..Sifted::default()
        };
        for (writer, to) in delta.raise.0 {
            // Numbers beyond what may be applied now must not count as seen.
            let to = if admit(to).is_ok() { to } else { 0 };
            let base = delta.since.horizon(&writer);
            sifted.raises.push(Raise { writer, base, to });
        }
        for (path, entry) in delta.entries {
            self.sift(&mut sifted, path, entry, &admit);
        }
        sifted
    }

    /// Looks through what a writer, or somebody in between, pushed. Same `admit` as in
    /// [`sift_delta`](Self::sift_delta).
    pub fn sift_push(&self, push: Push, admit: impl Fn(u64) -> Result<(), TooFarAhead>) -> Sifted {
        let mut sifted = Sifted::default();
        for item in push.entries {
            // Numbers beyond what may be applied now must not count as seen.
            if admit(item.entry.issue.nr).is_ok() {
                sifted.raises.push(Raise {
                    writer: item.entry.issue.writer.clone(),
                    base: item.prev_issue_of_writer,
                    to: item.entry.issue.nr,
                });
            }
            self.sift(&mut sifted, item.path, item.entry, &admit);
        }
        sifted
    }

    /// Looks through entries found by the digest trie. They raise no horizon.
    pub fn sift_repair(
        &self,
        entries: Vec<(Path, Entry)>,
        admit: impl Fn(u64) -> Result<(), TooFarAhead>,
    ) -> Sifted {
        let mut sifted = Sifted::default();
        for (path, entry) in entries {
            match guard(&entry, &admit) {
                Err(why) => sifted.hold_back(path, &entry, why),
                Ok(()) if self.tree.wants(&path, &entry) => sifted.entries.push((path, entry)),
                Ok(()) => {}
            }
        }
        sifted
    }

    fn sift(
        &self,
        sifted: &mut Sifted,
        path: Path,
        entry: Entry,
        admit: impl Fn(u64) -> Result<(), TooFarAhead>,
    ) {
        if let Err(why) = guard(&entry, admit) {
            sifted.hold_back(path, &entry, why);
        } else if !self.is_forgotten(&path, &entry) && self.tree.wants(&path, &entry) {
            sifted.entries.push((path, entry));
        }
    }

    /// An entry which was seen before and is not here any more was deleted, and the deletion forgotten: this is
    /// a late copy.
    fn is_forgotten(&self, path: &Path, entry: &Entry) -> bool {
        let seen = self.seen.horizon(&entry.issue.writer) >= entry.issue.nr;
        seen && self.tree.get(path).is_none()
    }

    /// Takes over what was sifted and is durable now.
    pub fn apply(&mut self, sifted: Sifted) -> Applied {
        let mut applied = Applied::default();
        for (path, entry) in sifted.entries {
            if self.merge(path.clone(), entry) {
                applied.changed.push(path);
            }
        }
        self.floor.raise_all(&sifted.floor);
        for Raise { writer, base, to } in sifted.raises {
            match self.seen.horizon(&writer) {
                horizon if horizon >= base => self.seen.raise(&writer, to),
                _ => applied.gap = true,
            }
        }
        if self.incomplete && sifted.ends && !applied.gap {
            self.incomplete = false;
            self.own_horizon_is_complete();
        }
        applied
    }

    /// Deletions held here, by writer and path.
    pub fn tombstones(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        let entry = |path| Some((path, self.tree.get(path)?));
        self.tombstones.values().flatten().filter_map(entry)
    }

    /// Who wrote the deletions held here.
    pub fn deleting_writers(&self) -> impl Iterator<Item = &Host> {
        self.tombstones.keys()
    }

    /// Forgets deletions which every member has seen; `collect.rs` says which. Returns those that were forgotten
    /// indeed: a key may have been written again meanwhile. Store the new floor ([`Saved`]) **before** they are
    /// removed from the store, or a crash lets hosts come back that have missed them.
    #[must_use = "only these may be removed from the store"]
    pub fn forget(&mut self, paths: &[Path]) -> Vec<Path> {
        let mut forgotten = Vec::new();
        for path in paths {
            if let Some(old) = self.tree.remove_collected(path) {
                self.floor.raise(&old.issue.writer, old.issue.nr);
                self.unlink(path, &old);
                forgotten.push(path.clone());
            }
        }
        forgotten
    }

    /// May the trees of this host and of `peer` be merged? Not when the peer has missed a deletion that was
    /// forgotten here: it would bring the deleted keys back. A host which knows only its own entries, of which none
    /// was ever seen here, is new.
    ///
    /// # Errors
    /// [`MustReplace`]: the peer has to drop its tree and take this one (`replacement.rs`).
    pub fn may_merge_with(&self, peer: &Host, summary: &Summary) -> Result<(), MustReplace> {
        let knows_only_itself = summary.0.keys().all(|writer| writer == peer);
        let unheard_of = self.seen.horizon(peer) == 0;
        if summary.0.is_empty() || (knows_only_itself && unheard_of) {
            return Ok(());
        }
        let missed = |(writer, nr): (&Host, &u64)| {
            let horizon = summary.horizon(writer);
            (horizon < *nr).then(|| MustReplace {
                peer: peer.clone(),
                writer: writer.clone(),
                horizon,
                floor: *nr,
            })
        };
        self.floor.0.iter().find_map(missed).map_or(Ok(()), Err)
    }

    /// What this host has issued behind `nr` and is still in force, in that order.
    pub(crate) fn issued_after(&self, nr: u64) -> impl Iterator<Item = (&Path, &Entry)> {
        let own = self.issues.get(&self.me);
        let paths = own.into_iter().flat_map(move |own| own.range(nr + 1..));
        paths.filter_map(|(_, path)| Some((path, self.tree.get(path)?)))
    }

    /// The same host with an empty tree, see `replacement.rs`.
    pub(crate) fn emptied(&self) -> Knowledge {
        Knowledge {
            last_issued: self.last_issued,
            ..Knowledge::new(&self.me)
        }
    }

    /// Counts everything this host ever issued as seen: what nobody gives back is void. Numbers up to that of
    /// `other`, the same host in parallel, are used up, too.
    pub(crate) fn close_own_past(&mut self, other: &Knowledge) {
        self.last_issued = self.last_issued.max(other.last_issued);
        self.own_horizon_is_complete();
    }

    fn own_horizon_is_complete(&mut self) {
        self.seen.raise(&self.me, self.last_issued);
    }

    fn merge(&mut self, path: Path, mut entry: Entry) -> bool {
        self.share_names(&mut entry);
        let digest = EntryDigest::of(&path, &entry);
        let Entry { value, issue, .. } = entry.clone();
        match self.tree.merge_digested(path.clone(), entry, digest) {
            Merged::Changed { old } => {
                if let Some(old) = old {
                    self.unlink(&path, &old);
                }
                match value {
                    Value::Tombstone => {
                        let paths = self.tombstones.entry(issue.writer.clone()).or_default();
                        paths.insert(path.clone());
                    }
                    Value::Text(_) => {
                        if let Some(trie) = self.trie.get_mut() {
                            trie.insert(&path, digest);
                        }
                    }
                }
                let paths = self.issues.entry(issue.writer).or_default();
                paths.insert(issue.nr, path);
                true
            }
            Merged::Same | Merged::Older => false,
        }
    }

    /// A million entries have few writers: keep each name once.
    fn share_names(&mut self, entry: &mut Entry) {
        for name in [&mut entry.stamp.writer, &mut entry.issue.writer] {
            match self.issues.get_key_value(name) {
                Some((held, _)) => *name = held.clone(),
                None => drop(self.issues.insert(name.clone(), BTreeMap::new())),
            }
        }
    }

    fn unlink(&mut self, path: &Path, old: &Entry) {
        let writer = &old.issue.writer;
        if old.is_tombstone() {
            if let Some(paths) = self.tombstones.get_mut(writer) {
                paths.remove(path);
                if paths.is_empty() {
                    self.tombstones.remove(writer);
                }
            }
        } else if let Some(trie) = self.trie.get_mut() {
            trie.remove(path);
        }
        if let Some(paths) = self.issues.get_mut(&old.issue.writer)
            && paths.get(&old.issue.nr) == Some(path)
        {
            paths.remove(&old.issue.nr);
        }
    }
}

/// A host was away for so long that deletions it never saw are forgotten already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{peer} has seen {writer} up to {horizon} only, expected at least {floor}: deletions it missed are forgotten, \
     its tree must be replaced"
)]
pub struct MustReplace {
    /// The host that was away.
    pub peer: Host,
    /// Whose deletion it missed.
    pub writer: Host,
    /// How far it has seen that writer.
    pub horizon: u64,
    /// How far it would have to.
    pub floor: u64,
}

impl Sifted {
    /// The entry waits, and so does its writer's horizon: it must be sent again.
    fn hold_back(&mut self, path: Path, entry: &Entry, why: TooFarAhead) {
        let Entry { issue, .. } = entry;
        for raise in &mut self.raises {
            if raise.writer == issue.writer {
                raise.to = raise.to.min(issue.nr.saturating_sub(1));
            }
        }
        self.held_back.push(HeldBack {
            path,
            writer: issue.writer.clone(),
            why,
        });
    }
}

/// These entries, each path once, ascending. Those of a store are.
fn in_order(entries: Vec<(Path, Arc<Entry>)>) -> Vec<(Path, Arc<Entry>)> {
    if entries.is_sorted_by(|(one, _), (next, _)| one < next) {
        return entries;
    }
    let mut tree = Tree::new();
    for (path, entry) in entries {
        tree.merge(path, Arc::unwrap_or_clone(entry));
    }
    tree.into_entries()
}

fn guard(entry: &Entry, admit: impl Fn(u64) -> Result<(), TooFarAhead>) -> Result<(), TooFarAhead> {
    admit(entry.stamp.ns)?;
    admit(entry.issue.nr)
}
