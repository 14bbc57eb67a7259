//! Typed reading of the tree: the cluster, a resource, a member.
//!
//! Views borrow a [`Tree`] and read on demand; they cost nothing to make. A value that is missing, deleted or
//! garbled reads as `None` (or off): what a host or an operator wrote wrongly must not stop the others. Who wants
//! to know *why* reads the text with [`Tree::text`] and parses it.
//!
//! Manual: "The State of MARS"; membership as in `marsadm view` ("member", "guest").

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::key::{self, Switch};
use crate::keys::Key;
use crate::log_name::{LogName, cut, parse_seq};
use crate::name::{Host, Resource};
use crate::path::Path;
use crate::stamp::ns_from_text;
use crate::tree::Tree;
use crate::value::{
    ClusterId, HostList, MaybeHost, OnOff, ReplayCode, ReplayPos, VersionLink, number,
};

/// The cluster as a whole.
#[derive(Clone, Copy, Debug)]
pub struct ClusterView<'a> {
    tree: &'a Tree,
}

/// One resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceView<'a> {
    tree: &'a Tree,
    res: &'a Resource,
}

/// One host's part in a resource, whether it is a member or not.
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    tree: &'a Tree,
    res: &'a Resource,
    host: &'a Host,
}

impl<'a> ClusterView<'a> {
    /// Reads from `tree`.
    pub fn new(tree: &'a Tree) -> ClusterView<'a> {
        ClusterView { tree }
    }

    /// Identity of the cluster.
    pub fn id(&self) -> Option<ClusterId> {
        parsed(self.tree, &Key::Uuid.text(&[]))
    }

    /// Members of the cluster: all hosts with an address.
    pub fn hosts(&self) -> BTreeSet<Host> {
        self.addresses().into_keys().collect()
    }

    /// Where each member listens.
    pub fn addresses(&self) -> BTreeMap<Host, &'a str> {
        let address = |(path, text): (&Path, &'a str)| Some((Key::parse(path)?.1.host?, text));
        self.tree.texts("ips/ip-").filter_map(address).collect()
    }

    /// All resources with a live key, in order.
    pub fn resources(&self) -> BTreeSet<Resource> {
        let names = self.tree.folders("resource-");
        names
            .into_iter()
            .filter_map(|name| Resource::new(name).ok())
            .collect()
    }

    /// One resource; it may be one that does not exist.
    pub fn resource(&self, res: &'a Resource) -> ResourceView<'a> {
        ResourceView {
            tree: self.tree,
            res,
        }
    }

    /// Lamport time of the last heartbeat of `host`, in nanoseconds.
    pub fn heartbeat_ns(&self, host: &Host) -> Option<u64> {
        let time = Key::Time.text(&[host.as_str()]);
        ns_from_text(self.tree.text(&time)?).ok()
    }

    /// Is the daemon of `host` running, as far as it has said?
    pub fn is_alive(&self, host: &Host) -> bool {
        is_on(self.tree, &Key::Alive.text(&[host.as_str()]))
    }

    /// Level of too little space at `host`, 0 to 4; 0 when unknown.
    pub fn emergency_level(&self, host: &Host) -> u64 {
        let level = Key::Emergency.text(&[host.as_str()]);
        number_at(self.tree, &level).unwrap_or(0)
    }

    /// How many syncs may run at a time on `host`: its own default before that for all. `None` for no limit.
    pub fn sync_limit(&self, host: &Host) -> Option<u64> {
        let own = Key::HostSyncLimit.text(&[host.as_str()]);
        let common = || number_at(self.tree, &Key::DefaultSyncLimit.text(&[]));
        let limit = number_at(self.tree, &own).or_else(common)?;
        (limit > 0).then_some(limit)
    }
}

impl<'a> ResourceView<'a> {
    /// The resource `res` in `tree`.
    pub fn new(tree: &'a Tree, res: &'a Resource) -> ResourceView<'a> {
        ResourceView { tree, res }
    }

    /// Its name.
    pub fn name(&self) -> &'a Resource {
        self.res
    }

    /// The tree it is read from.
    pub fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// Was it created and not deleted?
    pub fn exists(&self) -> bool {
        self.tree.text(&self.key(Key::Primary)).is_some()
    }

    /// Logical size of the device in bytes.
    pub fn size(&self) -> Option<u64> {
        number_at(self.tree, &self.key(Key::Size))
    }

    /// Greatest log number ever used, as the commands noted it.
    pub fn max_nr(&self) -> Option<u64> {
        number_at(self.tree, &self.key(Key::MaxNr))
    }

    /// Who should write. `None` when nobody should, or nobody knows.
    pub fn designated_primary(&self) -> Option<Host> {
        parsed::<MaybeHost>(self.tree, &self.key(Key::Primary))?.0
    }

    /// Should `host` write?
    pub fn is_designated_primary(&self, host: &Host) -> bool {
        self.designated_primary().as_ref() == Some(host)
    }

    /// Does `host` write, as it reports itself?
    pub fn is_actual_primary(&self, host: &Host) -> bool {
        is_on(self.tree, &of_member(Key::IsPrimary, self.res, host))
    }

    /// All hosts that report to be primary; more than one after a forced failover.
    pub fn actual_primaries(&self) -> BTreeSet<Host> {
        let mut hosts = self.participants();
        hosts.retain(|host| self.is_actual_primary(host));
        hosts
    }

    /// Hosts with a disk for it: those with a `data` or `replay` key.
    pub fn members(&self) -> BTreeSet<Host> {
        let mut hosts = self.hosts_of("data-");
        hosts.append(&mut self.hosts_of("replay-"));
        hosts
    }

    /// Members and everybody else with a device.
    pub fn participants(&self) -> BTreeSet<Host> {
        let mut hosts = self.members();
        hosts.append(&mut self.with_device());
        hosts
    }

    /// Everybody with a device.
    pub fn with_device(&self) -> BTreeSet<Host> {
        self.hosts_of("device-")
    }

    /// Hosts that use the device without a disk.
    pub fn guests(&self) -> BTreeSet<Host> {
        let members = self.members();
        let mut hosts = self.participants();
        hosts.retain(|host| {
            let uses = is_on(self.tree, &of_member(Key::ProsumerOn, self.res, host));
            !members.contains(host) && uses
        });
        hosts
    }

    /// The part of `host` in it.
    pub fn member(&self, host: &'a Host) -> MemberView<'a> {
        MemberView {
            tree: self.tree,
            res: self.res,
            host,
        }
    }

    /// A todo switch of `host`.
    pub fn todo(&self, host: &Host, switch: Switch) -> bool {
        is_on(self.tree, &of_member(switch.todo_key(), self.res, host))
    }

    /// All logs that exist somewhere and their durable length as the creator published it. A length that is
    /// missing or garbled reads as 0.
    pub fn logs(&self) -> BTreeMap<LogName, u64> {
        let prefix = key::log_prefix(self.res);
        let log = |(path, text): (&Path, &str)| {
            Some((log_of(self.res, path)?, number(text).unwrap_or(0)))
        };
        self.tree.texts(&prefix).filter_map(log).collect()
    }

    /// Published length of one log.
    pub fn log_len(&self, log: &LogName) -> Option<u64> {
        number_at(self.tree, key::log(self.res, log).as_str())
    }

    /// Logs that everybody has to delete.
    pub fn deleted_logs(&self) -> BTreeSet<LogName> {
        let prefix = key::log_prefix(self.res);
        let deleted = self
            .tree
            .range(&prefix)
            .filter(|(_, entry)| entry.is_tombstone());
        let log = |(path, _): (&Path, _)| log_of(self.res, path);
        deleted.filter_map(log).collect()
    }

    /// Was this log deleted?
    pub fn is_deleted(&self, log: &LogName) -> bool {
        let entry = self.tree.get(&key::log(self.res, log));
        entry.is_some_and(|entry| entry.is_tombstone())
    }

    /// All version links that can be read: (number of the log, host whose view it is) → link.
    pub fn versions(&self) -> BTreeMap<(u64, Host), VersionLink> {
        self.version_links().into_iter().collect()
    }

    /// The same in order of their paths.
    pub fn version_links(&self) -> Vec<((u64, Host), VersionLink)> {
        let prefix = key::version_prefix(self.res);
        let link = |(path, text): (&Path, &str)| {
            let tail = path.as_str().strip_prefix(&prefix)?;
            Some((version_of(tail)?, text.parse().ok()?))
        };
        self.tree.texts(&prefix).filter_map(link).collect()
    }

    /// The replay positions of all members; `None` where one is missing or garbled.
    pub fn replays(&self) -> BTreeMap<Host, Option<ReplayPos>> {
        let replay = |host: Host| {
            let position = parsed(self.tree, &of_member(Key::Replay, self.res, &host));
            (host, position)
        };
        self.members().into_iter().map(replay).collect()
    }

    /// The log number which every member has reached with its disk; `None` while one of them is unknown.
    pub fn min_replay_seq(&self) -> Option<u64> {
        let positions: Option<Vec<ReplayPos>> = self.replays().into_values().collect();
        positions?.iter().map(|pos| pos.log.seq).min()
    }

    fn key(&self, key: Key) -> String {
        key.text(&[self.res.as_str()])
    }

    /// Who has a key that is `stem` and the name of a host.
    fn hosts_of(&self, stem: &str) -> BTreeSet<Host> {
        let prefix = format!("{}{stem}", key::resource_prefix(self.res));
        let host = |(path, _): (&Path, &str)| {
            let name = path.as_str().strip_prefix(&prefix)?;
            Host::new(name).ok()
        };
        self.tree.texts(&prefix).filter_map(host).collect()
    }
}

impl<'a> MemberView<'a> {
    /// The part of `host` in `res`.
    pub fn new(tree: &'a Tree, res: &'a Resource, host: &'a Host) -> MemberView<'a> {
        MemberView { tree, res, host }
    }

    /// Whose part it is.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// The resource.
    pub fn resource(&self) -> ResourceView<'a> {
        ResourceView::new(self.tree, self.res)
    }

    /// Has it a disk for the resource?
    pub fn is_member(&self) -> bool {
        self.disk().is_some() || self.text(Key::Replay).is_some()
    }

    /// Path of the underlying disk.
    pub fn disk(&self) -> Option<&'a str> {
        self.text(Key::Data)
    }

    /// Name of the device.
    pub fn device(&self) -> Option<&'a str> {
        self.text(Key::Device)
    }

    /// Real size of the disk in bytes.
    pub fn disk_size(&self) -> Option<u64> {
        self.number(Key::ActSize)
    }

    /// A wish of the operator.
    pub fn todo(&self, switch: Switch) -> bool {
        self.on(switch.todo_key())
    }

    /// Whether that wish has come true.
    pub fn actual(&self, switch: Switch) -> bool {
        self.on(switch.actual_key())
    }

    /// Any key of this member that holds `0` or `1`; off when missing or garbled.
    pub fn on(&self, key: Key) -> bool {
        is_on(self.tree, &self.key(key))
    }

    /// Any key of this member that holds a number from 0.
    pub fn number(&self, key: Key) -> Option<u64> {
        number_at(self.tree, &self.key(key))
    }

    /// The text of any key of this member.
    pub fn text(&self, key: Key) -> Option<&'a str> {
        self.tree.text(&self.key(key))
    }

    /// How far its disk has come.
    pub fn replay(&self) -> Option<ReplayPos> {
        parsed(self.tree, &self.key(Key::Replay))
    }

    /// Log `seq` as it has it.
    pub fn version(&self, seq: u64) -> Option<VersionLink> {
        parsed(self.tree, key::version(self.res, seq, self.host).as_str())
    }

    /// Bytes which the sync has behind it.
    pub fn sync_status(&self) -> Option<u64> {
        self.number(Key::SyncStatus)
    }

    /// What replay must reach before a synced disk is consistent.
    pub fn sync_pos(&self) -> Option<ReplayPos> {
        parsed(self.tree, &self.key(Key::SyncPos))
    }

    /// The same, distinguishing none (outer `None`) from one that cannot be read (`Some(None)`).
    pub fn sync_barrier(&self) -> Option<Option<ReplayPos>> {
        Some(self.text(Key::SyncPos)?.parse().ok())
    }

    /// Is the first copy not complete yet?
    pub fn needs_sync(&self) -> bool {
        match (self.sync_status(), self.resource().size()) {
            (Some(done), Some(size)) => done < size || size == 0,
            _ => true,
        }
    }

    /// State of replay.
    pub fn replay_code(&self) -> Option<ReplayCode> {
        parsed(self.tree, &self.key(Key::ReplayCode))
    }

    /// Preferred sources of logs, best first.
    pub fn fetch_from(&self) -> Vec<Host> {
        let list: Option<HostList> = parsed(self.tree, &self.key(Key::FetchFrom));
        list.unwrap_or_default().0
    }

    /// Number of the one log this member may go to although the logs before it are missing.
    pub fn skip_check(&self) -> Option<u64> {
        let check: Option<crate::value::SkipCheck> = parsed(self.tree, &self.key(Key::SkipCheck));
        check.map(|check| check.seq)
    }

    /// Percentage of free space below which the resource counts as in emergency; 0 for never.
    pub fn emergency_limit(&self) -> u64 {
        self.number(Key::EmergencyLimit).unwrap_or(0).min(100)
    }

    fn key(&self, key: Key) -> String {
        of_member(key, self.res, self.host)
    }
}

/// The log which a key of `res` is about. The same as [`Key::parse`] says, as are the other readers here, without
/// looking through the whole table for each of many keys.
fn log_of(res: &Resource, path: &Path) -> Option<LogName> {
    let below = path.as_str().strip_prefix("resource-")?;
    let below = below.strip_prefix(res.as_str())?.strip_prefix('/')?;
    below.parse().ok()
}

/// Number and host of a version link, by what stands behind `version-`.
pub(crate) fn version_of(tail: &str) -> Option<(u64, Host)> {
    let (seq, host) = cut(tail, b'-')?;
    Some((parse_seq(seq)?, Host::new(host).ok()?))
}

fn of_member(key: Key, res: &Resource, host: &Host) -> String {
    key.text(&[res.as_str(), host.as_str()])
}

fn parsed<T: FromStr>(tree: &Tree, path: &str) -> Option<T> {
    tree.text(path)?.parse().ok()
}

fn number_at(tree: &Tree, path: &str) -> Option<u64> {
    number(tree.text(path)?).ok()
}

fn is_on(tree: &Tree, path: &str) -> bool {
    parsed(tree, path) == Some(OnOff(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Issue, Stamp};
    use crate::tree::{Entry, Value};

    fn host(name: &str) -> Host {
        Host::new(name).expect("valid name")
    }

    fn res() -> Resource {
        Resource::new("x").expect("valid name")
    }

    /// One key a line, `path = value`; a value `-` deletes.
    fn tree(text: &str) -> Tree {
        let mut tree = Tree::new();
        for (nr, line) in (1u64..).zip(text.lines()) {
            let Some((path, value)) = line.split_once('=') else {
                continue;
            };
            let writer = host("operator");
            let value = match value.trim() {
                "-" => Value::Tombstone,
                text => Value::text(text).expect("valid value"),
            };
            let entry = Entry {
                value,
                stamp: Stamp::new(nr, &writer),
                issue: Issue { nr, writer },
                lazy: false,
            };
            tree.merge(Path::new(path.trim()).expect("valid path"), entry);
        }
        tree
    }

    fn names<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Vec<&'a str> {
        hosts.into_iter().map(Host::as_str).collect()
    }

    #[test]
    fn members_have_a_disk_guests_only_the_device_and_nobody_is_mixed_up() {
        let tree = tree(
            "resource-x/data-bs6 = /dev/x
             resource-x/replay-bs60 = log-000000001-bs6,0,0
             resource-x/device-bs6 = x
             resource-x/device-guest = x
             resource-x/actual-guest/prosumer-on = 1
             resource-x/device-passing = (none)
             resource-x/data-left = /dev/x
             resource-x/data-left = -
             resource-xy/data-other = /dev/y",
        );
        let res = res();
        let view = ResourceView::new(&tree, &res);
        assert_eq!(names(&view.members()), ["bs6", "bs60"]);
        assert_eq!(
            names(&view.participants()),
            ["bs6", "bs60", "guest", "passing"]
        );
        assert_eq!(names(&view.guests()), ["guest"]);
        assert_eq!(ClusterView::new(&tree).resources().len(), 2);
    }

    #[test]
    fn nobody_is_designated_when_it_says_so_or_cannot_be_read() {
        let res = res();
        for value in ["(none)", "al/pha", "-"] {
            let tree = tree(&format!("resource-x/primary = {value}"));
            assert_eq!(
                ResourceView::new(&tree, &res).designated_primary(),
                None,
                "{value}"
            );
        }
        let tree = tree("resource-x/primary = alpha");
        let view = ResourceView::new(&tree, &res);
        assert!(view.exists() && view.is_designated_primary(&host("alpha")));
    }

    #[test]
    fn only_a_plain_one_switches_on() {
        let (alpha, res) = (host("alpha"), res());
        for (value, on) in [
            ("1", true),
            ("0", false),
            ("01", false),
            ("yes", false),
            ("-", false),
        ] {
            let tree = tree(&format!("resource-x/todo-alpha/connect = {value}"));
            let member = MemberView::new(&tree, &res, &alpha);
            assert_eq!(member.todo(Switch::Fetch), on, "{value}");
        }
    }

    #[test]
    fn logs_are_known_by_their_keys_and_deleted_by_tombstones() {
        let tree = tree(
            "resource-x/log-000000002-beta = 512
             resource-x/log-000000001-alpha = 4096
             resource-x/log-000000001-alpha = -
             resource-x/log-3-alpha = 7
             resource-x/log-000000003-beta = garbage",
        );
        let res = res();
        let view = ResourceView::new(&tree, &res);
        let logs: Vec<String> = view
            .logs()
            .iter()
            .map(|(log, len)| format!("{log}={len}"))
            .collect();
        assert_eq!(logs, ["log-000000002-beta=512", "log-000000003-beta=0"]);
        let deleted: Vec<String> = view.deleted_logs().iter().map(LogName::to_string).collect();
        assert_eq!(deleted, ["log-000000001-alpha"]);
    }

    #[test]
    fn one_unreadable_position_hides_how_far_all_have_come() {
        let text = "resource-x/replay-alpha = log-000000003-alpha,0,0
                    resource-x/replay-beta = log-000000002-alpha,9,0";
        let res = res();
        let good = tree(text);
        assert_eq!(ResourceView::new(&good, &res).min_replay_seq(), Some(2));
        let bad = tree(&format!("{text}\nresource-x/replay-gamma = garbage"));
        assert_eq!(ResourceView::new(&bad, &res).min_replay_seq(), None);
        let silent = tree(&format!("{text}\nresource-x/data-gamma = /dev/x"));
        assert_eq!(ResourceView::new(&silent, &res).min_replay_seq(), None);
    }

    #[test]
    fn the_limit_of_a_host_comes_before_that_of_all_and_zero_is_no_limit() {
        let alpha = host("alpha");
        let limit = |text: &str| ClusterView::new(&tree(text)).sync_limit(&alpha);
        assert_eq!(limit(""), None);
        assert_eq!(limit("defaults/sync-limit = 3"), Some(3));
        assert_eq!(
            limit("defaults/sync-limit = 3\ndefaults-alpha/sync-limit = 1"),
            Some(1)
        );
        assert_eq!(
            limit("defaults/sync-limit = 3\ndefaults-alpha/sync-limit = 0"),
            None
        );
        assert_eq!(
            limit("defaults/sync-limit = 3\ndefaults-alphabet/sync-limit = 1"),
            Some(3)
        );
    }
}
