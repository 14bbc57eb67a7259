//! A saved tree in place of a daemon: for support, and for tests.
//!
//! Reading commands print what they would have printed at that time. Changing commands print the same text and
//! refusals; what they would have set is collected and may be written to a delta file. Time passes only while a command
//! waits, so every wait ends at once, as if its time were over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::{Change, Daemon, DaemonError, Trigger};
use crate::disk::{self, DiskRefusal};
use crate::snapshot::{Item, Kind, Snapshot, TOMBSTONE, Time};

/// See the module header.
pub struct OfflineDaemon {
    /// What stood at the paths that were touched.
    before: BTreeMap<String, Option<Item>>,
    tree: Snapshot,
    elapsed: Duration,
    /// Disks to pretend, with their sizes in bytes; others are looked at for real.
    pub disks: BTreeMap<String, u64>,
}

impl OfflineDaemon {
    /// Begins with this tree, at its time.
    pub fn new(tree: Snapshot) -> OfflineDaemon {
        OfflineDaemon {
            before: BTreeMap::new(),
            tree,
            elapsed: Duration::ZERO,
            disks: BTreeMap::new(),
        }
    }

    /// The tree as changed up to now.
    pub fn tree(&self) -> &Snapshot {
        &self.tree
    }

    /// Sets a key as if another host had done it.
    pub fn set_from_outside(&mut self, path: &str, value: &str) {
        self.put(path, value, self.now());
    }

    /// What has changed since the beginning, one line each: `+ path TAB value TAB stamp TAB type` or `- path`.
    pub fn delta(&self) -> String {
        let changed = self.before.iter().filter_map(|(path, old)| {
            let new = self.tree.entries.get(path);
            (new != old.as_ref()).then_some((path, new))
        });
        changed.map(|(path, new)| delta_line(path, new)).collect()
    }

    fn now(&self) -> Time {
        let now = self.tree.now;
        Time {
            sec: now.sec + self.elapsed.as_secs(),
            nsec: now.nsec,
        }
    }

    fn put(&mut self, path: &str, value: &str, time: Time) {
        let kind = if is_log(path) && value != TOMBSTONE {
            Kind::File
        } else {
            Kind::Key
        };
        let item = Item {
            value: value.to_owned(),
            sec: time.sec,
            nsec: time.nsec,
            kind,
        };
        let old = self.tree.entries_mut().insert(path.to_owned(), item);
        self.before.entry(path.to_owned()).or_insert(old);
    }
}

fn delta_line(path: &str, new: Option<&Item>) -> String {
    match new {
        None => format!("- {path}\n"),
        Some(item) => {
            let kind = if item.kind == Kind::File { 'f' } else { 'l' };
            format!("+ {path}\t{}\t{}\t{kind}\n", item.value, item.time())
        }
    }
}

fn is_log(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("log-"))
}

impl Daemon for OfflineDaemon {
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError> {
        let mut tree = self.tree.clone();
        tree.now = self.now();
        Ok(tree)
    }

    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        _trigger: Trigger,
    ) -> Result<Time, DaemonError> {
        let stamp = stamp.unwrap_or_else(|| self.now());
        for change in changes {
            self.put(&change.path, &change.value, stamp);
        }
        Ok(stamp)
    }

    fn trigger(&mut self, _trigger: Trigger) -> Result<(), DaemonError> {
        Ok(())
    }

    fn forget(&mut self, paths: &[String]) -> Result<bool, DaemonError> {
        for path in paths {
            if let Some(old) = self.tree.entries_mut().remove(path) {
                self.before.entry(path.clone()).or_insert(Some(old));
            }
        }
        Ok(true)
    }

    fn pause(&mut self, at_most: Duration) -> Result<(), DaemonError> {
        self.elapsed += at_most;
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn is_saved(&self) -> bool {
        true
    }

    fn disk_size(&mut self, path: &str) -> Result<u64, DiskRefusal> {
        self.disks
            .get(path)
            .map_or_else(|| disk::size(path), |bytes| Ok(*bytes))
    }
}
