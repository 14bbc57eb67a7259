//! No deleted key comes back (requirement L-A5 of the tree, lessons E11): where a deletion was seen, nothing older is seen
//! again, not even after the deletion itself was forgotten.

use std::collections::BTreeMap;

use tree::{Entry, Path, Stamp, Summary};

use super::fresh::Fresh;
use crate::world::World;

/// The newest deletion of each path that each host has shown.
#[derive(Default)]
pub struct Deleted {
    gone: BTreeMap<String, BTreeMap<Path, Stamp>>,
    forgot: BTreeMap<String, u64>,
    trees: Trees,
}

/// A tree that is replaced by that of another host, because its own was away for too long, begins where that one is; what is
/// newer comes again. Only then does a running host know less than before.
#[derive(Default)]
struct Trees {
    /// Number of the start, what was known, and how often it had become less.
    known: BTreeMap<String, (u64, Summary, u64)>,
}

impl Trees {
    /// How often the tree of a host was replaced.
    fn replaced(&mut self, name: &str, starts: u64, known: Summary) -> u64 {
        let before = self.known.get(name);
        let replaced = before.map_or(0, |(start, old, replaced)| {
            replaced + u64::from(*start == starts && !known.covers(old))
        });
        self.known
            .insert(name.to_owned(), (starts, known, replaced));
        replaced
    }
}

impl Deleted {
    /// Compares the entries of a host with the deletions it has shown.
    ///
    /// # Errors
    /// An entry that is older than its deletion.
    pub fn look(&mut self, w: &World, fresh: &Fresh) -> Result<(), String> {
        let host = w.host(&fresh.name);
        let replaced = host.node().map_or(0, |node| {
            let known = node.keys().with_knowledge(|all| all.summary().clone());
            self.trees.replaced(&fresh.name, host.starts(), known)
        });
        let forgot = w.forgot(&fresh.name) + replaced;
        self.compare(&fresh.name, forgot, fresh.entries())
    }

    /// `forgot`: how often the host has lost what it knew.
    fn compare<'a>(
        &mut self,
        name: &str,
        forgot: u64,
        entries: impl Iterator<Item = (&'a Path, &'a Entry)>,
    ) -> Result<(), String> {
        if self.forgot.insert(name.to_owned(), forgot) != Some(forgot) {
            self.gone.remove(name);
        }
        let gone = self.gone.entry(name.to_owned()).or_default();
        for (path, entry) in entries {
            match gone.get(path) {
                // An older deletion brings nothing back.
                Some(deletion) if entry.stamp < *deletion && !entry.is_tombstone() => {
                    return Err(format!(
                        "{name}: {path} = {:?} of stamp {} is back, it was deleted with stamp {deletion} (L-A5)",
                        entry.value, entry.stamp
                    ));
                }
                // A lazy deletion may be lost with the power.
                _ if entry.is_tombstone() && !entry.lazy => {
                    let deletion = gone
                        .entry(path.clone())
                        .or_insert_with(|| entry.stamp.clone());
                    *deletion = deletion.clone().max(entry.stamp.clone());
                }
                _ => {}
            }
        }
        Ok(())
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

    /// What alpha shows of one key, one after the other; the number says how often it has lost what it knew.
    fn check(seen: &[(u64, Entry)]) -> Result<(), String> {
        let path = Path::new("userspace/note").expect("a path");
        let mut deleted = Deleted::default();
        for (forgot, entry) in seen {
            deleted.compare("alpha", *forgot, [(&path, entry)].into_iter())?;
        }
        Ok(())
    }

    #[test]
    fn what_is_older_than_its_deletion_may_not_be_seen_again() {
        let text = |ns| entry(Value::text("x").expect("a value"), ns);
        let gone = |ns| entry(Value::Tombstone, ns);
        assert_eq!(check(&[(0, text(5)), (0, gone(6)), (0, text(7))]), Ok(()));
        assert!(check(&[(0, text(5)), (0, gone(6)), (0, text(5))]).is_err());
        assert!(check(&[(0, gone(6)), (0, gone(8)), (0, text(7))]).is_err());
        assert_eq!(check(&[(0, gone(6)), (1, text(5))]), Ok(()));
    }
}
