//! What the key tree says about one resource, as a member looks at it: the views of the tree crate,
//! asked the way decisions ask. A key that is missing or malformed reads as "unknown", never as a
//! default that could start something.

use tree::key::{self, Switch};
use tree::lineage::Lineage;
use tree::view::{ClusterView, MemberView, ResourceView};
use tree::{Entry, Host, Key, LogName, ReplayPos, Resource, Tree, VersionLink};

/// One resource in the tree, seen from one host.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The snapshot all decisions of one round look at.
    pub tree: &'a Tree,
    /// The resource.
    pub res: &'a Resource,
    /// This host.
    pub here: &'a Host,
    /// Members, positions, logs and version links of the resource in `tree`, read once for all.
    pub lineage: &'a Lineage,
}

impl<'a> Seen<'a> {
    /// The resource as a whole.
    pub fn resource(&self) -> ResourceView<'a> {
        ResourceView::new(self.tree, self.res)
    }

    /// One host's part of it.
    pub fn member<'h>(&self, host: &'h Host) -> MemberView<'h>
    where
        'a: 'h,
    {
        MemberView::new(self.tree, self.res, host)
    }

    /// Size of the device in bytes.
    pub fn size(&self) -> Option<u64> {
        self.resource().size()
    }

    /// The designated primary; `None` for `(none)`, a missing or a malformed key.
    pub fn designated_primary(&self) -> Option<Host> {
        self.lineage.designated().cloned()
    }

    /// Has `host` a disk for the resource? This host only as long as the key that names its disk is there: where it was made to leave
    /// while it did not hear of it, the rest of its keys may be younger than that.
    pub fn is_member(&self, host: &Host) -> bool {
        self.lineage.is_member(host) && (host != self.here || self.disk().is_some())
    }

    /// All hosts with a disk for the resource, in order.
    pub fn members(&self) -> impl Iterator<Item = &'a Host> + use<'a> {
        self.lineage.members()
    }

    /// The underlying disk of this host.
    pub fn disk(&self) -> Option<&'a str> {
        self.member(self.here).disk()
    }

    /// The name under which applications find the device on this host.
    pub fn device(&self) -> Option<&'a str> {
        let name = self.member(self.here).device();
        name.filter(|name| *name != "(none)")
    }

    /// Is the switch of `host` on? A missing switch is off.
    pub fn todo(&self, host: &Host, switch: Switch) -> bool {
        self.member(host).todo(switch)
    }

    /// Did `host` report to be actual primary?
    pub fn is_actual_primary(&self, host: &Host) -> bool {
        self.resource().is_actual_primary(host)
    }

    /// The designation in force, as [`Key::KnowsPrimary`] names it; `None` when there never was one.
    pub fn designation(&self) -> Option<String> {
        let entry = self.tree.get(&key::primary(self.res))?;
        let name = self.designated_primary();
        let name = name.as_ref().map_or("(none)", Host::as_str);
        Some(format!("{},{},{name}", entry.stamp, entry.stamp.writer))
    }

    /// Has `host` said that it does not write and knows who is designated now?
    pub fn knows_primary(&self, host: &Host) -> bool {
        let known = self.member(host).text(Key::KnowsPrimary);
        known.is_some() && known == self.designation().as_deref()
    }

    /// How far the disk of `host` has come.
    pub fn replay(&self, host: &Host) -> Option<&'a ReplayPos> {
        self.lineage.replay(host)
    }

    /// What `host` says about log `seq`.
    pub fn version(&self, seq: u64, host: &Host) -> Option<&'a VersionLink> {
        self.lineage.version(seq, host)
    }

    /// The length of a log as its creator published it; `None` when the log is deleted or unknown.
    pub fn log_len(&self, log: &LogName) -> Option<u64> {
        self.resource().log_len(log)
    }

    /// Was the log deleted by somebody, everywhere?
    pub fn log_deleted(&self, log: &LogName) -> bool {
        let entry = self.tree.get(&key::log(self.res, log));
        entry.is_some_and(Entry::is_tombstone)
    }

    /// All logs with a live key, in order.
    pub fn logs(&self) -> impl Iterator<Item = &'a LogName> + use<'a> {
        self.lineage.logs().keys()
    }

    /// The greatest number of a log with a live key; 0 without any.
    pub fn newest_seq(&self) -> u64 {
        self.logs().map(|log| log.seq).max().unwrap_or(0)
    }

    /// How many bytes of the disk of `host` are synced.
    pub fn sync_status(&self, host: &Host) -> Option<u64> {
        self.member(host).sync_status()
    }

    /// Replay of `host` must have passed this place before its replica is consistent.
    pub fn sync_pos(&self, host: &Host) -> Option<ReplayPos> {
        self.member(host).sync_pos()
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
        let beat = ClusterView::new(self.tree).heartbeat_ns(host);
        beat.is_some_and(|beat| beat.saturating_add(window_ns) >= now_ns)
    }
}
