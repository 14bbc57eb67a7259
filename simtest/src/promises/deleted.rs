//! No deleted key comes back (requirement L-A5 of the tree, lessons E11): where a deletion was seen, nothing older is seen
//! again, not even after the deletion itself was forgotten.

use std::collections::BTreeMap;

use tree::{Entry, Path, Stamp, Summary};

use super::fresh::Fresh;
use crate::world::World;

/// The newest deletion of each path that each host has shown.
#[derive(Default)]
pub struct Deleted {
    hosts: BTreeMap<String, Shown>,
}

/// What one host has shown.
#[derive(Default)]
struct Shown {
    /// How often it had lost what it knew, number of its start, and how often another tree had taken the place of its own since.
    when: (u64, u64, u64),
    /// What it knew when it was looked at last.
    known: Summary,
    gone: BTreeMap<Path, Stamp>,
    /// Deletions that came behind a gap: they do not count as seen, and leave with a tree that is replaced.
    behind_gap: Vec<(Path, Entry)>,
}

impl Deleted {
    /// Compares the entries of a host with the deletions it has shown.
    ///
    /// # Errors
    /// An entry that is older than its deletion.
    pub fn look(&mut self, w: &World, fresh: &Fresh) -> Result<(), String> {
        let host = w.host(&fresh.name);
        let Some(node) = host.node() else {
            return Ok(());
        };
        let replaced = node.keys().replacements();
        let when = (w.forgot(&fresh.name), host.starts(), replaced);
        let known = node.keys().with_knowledge(|all| all.summary().clone());
        let shown = self.hosts.entry(fresh.name.clone()).or_default();
        shown.renew(when, known);
        let back = shown.compare(fresh.entries());
        back.map_err(|what| format!("{}: {what}", fresh.name))
    }
}

impl Shown {
    /// The host knows this much now. A tree that is replaced by that of another host, because its own was away for too
    /// long, begins where that one is; what is newer comes again, and what nobody had heard does not.
    fn renew(&mut self, when: (u64, u64, u64), known: Summary) {
        let (forgot, start, replaced) = when;
        let before = self.when;
        if forgot != before.0 || (start == before.1 && replaced != before.2) {
            *self = Shown::default();
        }
        (self.when, self.known) = (when, known);
    }

    fn compare<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a Path, &'a Entry)>,
    ) -> Result<(), String> {
        for (path, entry) in std::mem::take(&mut self.behind_gap) {
            self.note(&path, &entry);
        }
        for (path, entry) in entries {
            match self.gone.get(path) {
                // An older deletion brings nothing back.
                Some(deletion) if entry.stamp < *deletion && !entry.is_tombstone() => {
                    return Err(format!(
                        "{path} = {:?} of stamp {} is back, it was deleted with stamp {deletion} (L-A5)",
                        entry.value, entry.stamp
                    ));
                }
                // A lazy deletion may be lost with the power.
                _ if entry.is_tombstone() && !entry.lazy => self.note(path, entry),
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &Path, entry: &Entry) {
        if self.known.horizon(&entry.issue.writer) < entry.issue.nr {
            self.behind_gap.push((path.clone(), entry.clone()));
            return;
        }
        let stamp = entry.stamp.clone();
        let deletion = self.gone.entry(path.clone()).or_insert(stamp.clone());
        *deletion = deletion.clone().max(stamp);
    }
}

#[cfg(test)]
mod tests {
    use tree::{Host, Issue, Value};

    use super::*;

    fn entry(value: Value, ns: u64) -> Entry {
        let writer = Host::new("gamma").expect("a name");
        Entry {
            value,
            stamp: Stamp::new(ns, &writer),
            issue: Issue { writer, nr: ns },
            lazy: false,
        }
    }

    /// What alpha shows of one key, one after the other; with how often it has lost what it knew and its tree was replaced, and
    /// what it has seen of gamma.
    fn check(shown: &[((u64, u64), u64, Entry)]) -> Result<(), String> {
        let path = Path::new("userspace/note").expect("a path");
        let gamma = Host::new("gamma").expect("a name");
        let mut alpha = Shown::default();
        for ((forgot, replaced), seen, entry) in shown {
            let mut known = Summary::default();
            known.raise(&gamma, *seen);
            alpha.renew((*forgot, 1, *replaced), known);
            alpha.compare([(&path, entry)].into_iter())?;
        }
        Ok(())
    }

    fn text(ns: u64) -> Entry {
        entry(Value::text("x").expect("a value"), ns)
    }

    fn gone(ns: u64) -> Entry {
        entry(Value::Tombstone, ns)
    }

    #[test]
    fn what_is_older_than_its_deletion_may_not_be_seen_again() {
        let renewed = [
            ((0, 0), 5, text(5)),
            ((0, 0), 6, gone(6)),
            ((0, 0), 7, text(7)),
        ];
        assert_eq!(check(&renewed), Ok(()));
        let back = [
            ((0, 0), 5, text(5)),
            ((0, 0), 6, gone(6)),
            ((0, 0), 6, text(5)),
        ];
        assert!(check(&back).is_err());
        let older = [
            ((0, 0), 6, gone(6)),
            ((0, 0), 8, gone(8)),
            ((0, 0), 8, text(7)),
        ];
        assert!(check(&older).is_err());
        let lost = [((0, 0), 6, gone(6)), ((1, 0), 5, text(5))];
        assert_eq!(check(&lost), Ok(()));
    }

    #[test]
    fn a_replaced_tree_begins_anew_and_what_came_behind_a_gap_counts_when_the_gap_is_closed() {
        let replaced = [((0, 0), 6, gone(6)), ((0, 1), 6, text(5))];
        assert_eq!(check(&replaced), Ok(()));
        let behind_gap = [((0, 0), 5, gone(7)), ((0, 0), 5, text(5))];
        assert_eq!(check(&behind_gap), Ok(()));
        let closed = [
            ((0, 0), 5, gone(7)),
            ((0, 0), 7, gone(7)),
            ((0, 0), 7, text(5)),
        ];
        assert!(check(&closed).is_err());
        let closed_later = [
            ((0, 0), 5, gone(7)),
            ((0, 0), 7, text(8)),
            ((0, 0), 8, text(5)),
        ];
        assert!(check(&closed_later).is_err());
    }
}
