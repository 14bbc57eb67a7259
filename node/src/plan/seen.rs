//! What the key tree says about one resource, as a member looks at it.
//!
//! A thin reading layer: every method looks up one key and parses it. A key that is missing or
//! malformed reads as "unknown", never as a default that could start something.

use std::collections::BTreeSet;
use std::str::FromStr;

use tree::{Host, LogName, ReplayPos, Resource, Tree, VersionLink};

use tree::key::Switch;

/// One resource in the tree, seen from one host.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The snapshot all decisions of one round look at.
    pub tree: &'a Tree,
    /// The resource.
    pub res: &'a Resource,
    /// This host.
    pub here: &'a Host,
}

impl<'a> Seen<'a> {
    /// The live text of a key of this resource.
    pub fn text(&self, rest: &str) -> Option<&'a str> {
        self.tree.text(&format!("resource-{}/{rest}", self.res))
    }

    fn parsed<T: FromStr>(&self, rest: &str) -> Option<T> {
        self.text(rest)?.parse().ok()
    }

    /// Size of the device in bytes.
    pub fn size(&self) -> Option<u64> {
        self.parsed("size")
    }

    /// The designated primary; `None` for `(none)`, a missing or a malformed key.
    pub fn designated_primary(&self) -> Option<Host> {
        Host::new(self.text("primary")?).ok()
    }

    /// Is `host` a member, that is: has it a disk for the resource?
    pub fn is_member(&self, host: &Host) -> bool {
        self.text(&format!("data-{host}")).is_some()
    }

    /// All hosts with a disk for the resource.
    pub fn members(&self) -> BTreeSet<Host> {
        self.owners("data-").collect()
    }

    /// All hosts that own a live key `<prefix><host>` of the resource.
    fn owners(&self, prefix: &str) -> impl Iterator<Item = Host> + use<'a> {
        let whole = format!("resource-{}/{prefix}", self.res);
        let skip = whole.len();
        let owners: Vec<Host> = self
            .tree
            .texts(&whole)
            .filter_map(|(path, _)| Host::new(path.as_str().get(skip..)?).ok())
            .collect();
        owners.into_iter()
    }

    /// The underlying disk of this host.
    pub fn disk(&self) -> Option<&'a str> {
        self.text(&format!("data-{}", self.here))
    }

    /// The name under which applications find the device on this host.
    pub fn device(&self) -> Option<&'a str> {
        self.text(&format!("device-{}", self.here))
            .filter(|name| *name != "(none)")
    }

    /// Is the switch of `host` on? A missing switch is off.
    pub fn todo(&self, host: &Host, switch: Switch) -> bool {
        self.text(&format!("todo-{host}/{}", switch.stored_name()))
            .and_then(|text| text.parse::<i64>().ok())
            .is_some_and(|number| number != 0)
    }

    /// An indicator of `host`.
    pub fn actual(&self, host: &Host, name: &str) -> Option<&'a str> {
        self.text(&format!("actual-{host}/{name}"))
    }

    /// Did `host` report to be actual primary?
    pub fn is_actual_primary(&self, host: &Host) -> bool {
        self.actual(host, "is-primary") == Some("1")
    }

    /// How far the disk of `host` has come.
    pub fn replay(&self, host: &Host) -> Option<ReplayPos> {
        self.parsed(&format!("replay-{host}"))
    }

    /// What `host` says about log `seq`.
    pub fn version(&self, seq: u64, host: &Host) -> Option<VersionLink> {
        self.parsed(&format!("version-{seq:09}-{host}"))
    }

    /// What all hosts say about log `seq`.
    pub fn versions(&self, seq: u64) -> Vec<(Host, VersionLink)> {
        self.owners(&format!("version-{seq:09}-"))
            .filter_map(|host| Some((host.clone(), self.version(seq, &host)?)))
            .collect()
    }

    /// The length of a log as its creator published it; `None` when the log is deleted or unknown.
    pub fn log_len(&self, log: &LogName) -> Option<u64> {
        self.parsed(&log.to_string())
    }

    /// Was the log deleted by somebody, everywhere?
    pub fn log_deleted(&self, log: &LogName) -> bool {
        let path = format!("resource-{}/{log}", self.res);
        self.tree
            .entry(&path)
            .is_some_and(tree::Entry::is_tombstone)
    }

    /// All logs with a live key, in order.
    pub fn logs(&self) -> Vec<LogName> {
        let prefix = format!("resource-{}/", self.res);
        self.tree
            .texts(&format!("{prefix}log-"))
            .filter_map(|(path, _)| path.as_str().strip_prefix(&prefix)?.parse().ok())
            .collect()
    }

    /// How many bytes of the disk of `host` are synced.
    pub fn sync_status(&self, host: &Host) -> Option<u64> {
        self.parsed(&format!("syncstatus-{host}"))
    }

    /// Replay of `host` must have passed this place before its replica is consistent.
    pub fn sync_pos(&self, host: &Host) -> Option<ReplayPos> {
        self.parsed(&format!("syncpos-{host}"))
    }

    /// Is the first copy of `host` complete? Unknown counts as no.
    pub fn is_synced(&self, host: &Host) -> bool {
        match (self.sync_status(host), self.size()) {
            (Some(status), Some(size)) => status >= size,
            _ => false,
        }
    }

    /// Is the heartbeat of `host` younger than `window_ns`?
    pub fn is_alive(&self, host: &Host, now_ns: u64, window_ns: u64) -> bool {
        self.tree
            .text(&format!("actual-{host}/time"))
            .and_then(|text| tree::ns_from_text(text).ok())
            .is_some_and(|beat| beat.saturating_add(window_ns) >= now_ns)
    }
}
