//! The snapshot, indexed once: what belongs to which resource, which logs there are, who takes part.
//!
//! A view asks hundreds of small questions about one resource. [`Res`] holds the keys of one resource under their short
//! names, so that a question costs one search among some hundred names instead of one in the whole tree.
//! Computed from the snapshot alone; never looks at a disk or at the time of day.
//!
//! Manual: "The State of MARS" (membership, sizes, log amounts).

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::amount::{Amounts, LogSizes};
use crate::natural;
use crate::output::Output;
use crate::snapshot::{Item, Kind, Snapshot, TOMBSTONE, Time};
use crate::split_brain::{self, SplitBrain};

/// How a missing key is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// The key is there and not deleted.
    Live(&'a str),
    /// A tombstone lies there: reads as empty, silently.
    Deleted,
    /// Nothing lies there.
    Missing,
}

/// The snapshot with its index.
pub struct World<'a> {
    /// What everything is computed from.
    pub snap: &'a Snapshot,
    resources: RefCell<BTreeMap<String, Rc<Res<'a>>>>,
    names: OnceCell<Vec<&'a str>>,
    peers: OnceCell<Vec<&'a str>>,
}

impl<'a> World<'a> {
    /// Indexes nothing yet; every part is indexed when first asked for.
    pub fn new(snap: &'a Snapshot) -> World<'a> {
        World {
            snap,
            resources: RefCell::default(),
            names: OnceCell::new(),
            peers: OnceCell::new(),
        }
    }

    /// The resource of that name; an unknown one has no keys.
    pub fn res(&self, name: &str) -> Rc<Res<'a>> {
        if let Some(res) = self.resources.borrow().get(name) {
            return Rc::clone(res);
        }
        let res = Rc::new(Res::new(self.snap, name));
        self.resources
            .borrow_mut()
            .insert(name.to_owned(), Rc::clone(&res));
        res
    }

    /// Reads a key by its path without `/mars/`, telling deleted from missing.
    pub fn read(&self, path: &str) -> Read<'a> {
        read_item(self.snap.entries.get(path))
    }

    /// The value of a key, empty when missing or deleted.
    pub fn text(&self, path: &str) -> &'a str {
        match self.read(path) {
            Read::Live(value) => value,
            Read::Deleted | Read::Missing => "",
        }
    }

    /// Names of all resources with at least one live key, in natural order.
    pub fn resource_names(&self) -> &[&'a str] {
        self.names.get_or_init(|| {
            let mut names = first_parts(self.snap, "resource-");
            names.sort_by(|a, b| natural::compare(a, b));
            names
        })
    }

    /// Resources in which `host` takes part in any way, with a device, a disk or a replay position.
    pub fn resources_of(&self, host: &str) -> Vec<&'a str> {
        self.filtered(|res| {
            res.has(&format!("device-{host}"))
                || res.has(&format!("data-{host}"))
                || res.has(&format!("replay-{host}"))
        })
    }

    /// Resources which `pick` accepts, in natural order.
    pub fn filtered(&self, pick: impl Fn(&Res<'a>) -> bool) -> Vec<&'a str> {
        let names = self.resource_names().iter().copied();
        names.filter(|name| pick(&self.res(name))).collect()
    }

    /// Hosts with a live address (`ips/ip-<host>`), in natural order.
    pub fn configured_peers(&self) -> Vec<&'a str> {
        let mut hosts = self.snap.owners("ips/ip-");
        hosts.sort_by(|a, b| natural::compare(a, b));
        hosts
    }

    /// Every host that has an address, deleted or not, or takes part in some resource.
    pub fn cluster_peers(&self) -> &[&'a str] {
        self.peers.get_or_init(|| {
            let mut hosts: BTreeSet<&'a str> = self
                .snap
                .with_prefix("ips/ip-")
                .filter(|(_, item)| item.kind == Kind::Key)
                .filter_map(|(path, _)| path.strip_prefix("ips/ip-"))
                .collect();
            for name in self.resource_names() {
                hosts.extend(self.res(name).participants());
            }
            let mut hosts: Vec<&str> = hosts.into_iter().collect();
            hosts.sort_by(|a, b| natural::compare(a, b));
            hosts
        })
    }

    /// Whether the address of `host` carries a tombstone: it was taken out of the cluster.
    pub fn is_decommissioned(&self, host: &str) -> bool {
        self.read(&format!("ips/ip-{host}")) == Read::Deleted
    }

    /// The time at which `host` was last heard of, as it says itself (`actual-<host>/time`).
    pub fn alive_time(&self, host: &str) -> Option<Time> {
        self.text(&format!("actual-{host}/time")).parse().ok()
    }

    /// Whether `host` was heard of within `window` seconds.
    pub fn is_alive(&self, host: &str, window: u64) -> bool {
        self.alive_time(host)
            .is_some_and(|time| time.is_recent(self.snap.now, window))
    }

    /// Seconds since `time`, with fraction; negative when it lies ahead.
    pub fn age(&self, time: Time) -> f64 {
        seconds_between(time, self.snap.now)
    }
}

/// Seconds from `from` to `to`, exact for whole seconds.
pub fn seconds_between(from: Time, to: Time) -> f64 {
    let ns = i128::from(to.as_ns()) - i128::from(from.as_ns());
    ns as f64 / 1e9
}

fn read_item(item: Option<&Item>) -> Read<'_> {
    match item {
        Some(item) if item.value == TOMBSTONE => Read::Deleted,
        Some(item) if matches!(item.kind, Kind::Key | Kind::File) => Read::Live(&item.value),
        Some(_) | None => Read::Missing,
    }
}

/// The distinct first path components that begin with `prefix`, without it. Steps from one to the next
/// instead of walking all keys below.
fn first_parts<'a>(snap: &'a Snapshot, prefix: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut from = prefix.to_owned();
    while let Some((path, _)) = snap.entries.range(from.clone()..).next() {
        let Some(rest) = path.strip_prefix(prefix) else {
            break;
        };
        let Some((name, _)) = rest.split_once('/') else {
            from = format!("{path}\0");
            continue;
        };
        let dir = format!("{prefix}{name}/");
        // '0' is the character behind '/', so this is the first path behind the directory.
        from = format!("{prefix}{name}0");
        let mut below = snap.entries.range(dir.clone()..from.clone());
        if below.any(|(_, item)| item.is_live()) {
            parts.push(name);
        }
    }
    parts
}

/// One resource: its keys under their names below `resource-<name>/`.
pub struct Res<'a> {
    /// The name of the resource.
    pub name: String,
    keys: Vec<(&'a str, &'a Item)>,
    hosts: BTreeSet<&'a str>,
    logs: OnceCell<LogSizes<'a>>,
    amounts: RefCell<BTreeMap<String, Rc<Amounts>>>,
    snap: &'a Snapshot,
    split: OnceCell<Option<SplitBrain>>,
}

impl<'a> Res<'a> {
    fn new(snap: &'a Snapshot, name: &str) -> Res<'a> {
        let dir = format!("resource-{name}/");
        let behind = format!("resource-{name}0");
        let keys: Vec<_> = snap
            .entries
            .range(dir.clone()..behind)
            .map(|(path, item)| (&path[dir.len()..], item))
            .collect();
        let hosts = hosts_in(&keys);
        Res {
            name: name.to_owned(),
            keys,
            hosts,
            logs: OnceCell::new(),
            amounts: RefCell::default(),
            snap,
            split: OnceCell::new(),
        }
    }

    /// Whatever lies at that name, tombstones included.
    pub fn item(&self, key: &str) -> Option<&'a Item> {
        let at = self.keys.binary_search_by(|(name, _)| (*name).cmp(key));
        at.ok().map(|at| self.keys[at].1)
    }

    /// Reads a key, telling deleted from missing.
    pub fn read(&self, key: &str) -> Read<'a> {
        read_item(self.item(key))
    }

    /// The value of a key, empty when missing or deleted.
    pub fn text(&self, key: &str) -> &'a str {
        match self.read(key) {
            Read::Live(value) => value,
            Read::Deleted | Read::Missing => "",
        }
    }

    /// A live key of that name exists.
    pub fn has(&self, key: &str) -> bool {
        matches!(self.read(key), Read::Live(_))
    }

    /// When a live key was written.
    pub fn stamp(&self, key: &str) -> Option<Time> {
        self.has(key)
            .then(|| self.item(key).map(Item::time))
            .flatten()
    }

    /// Everything whose name begins with `prefix`, in order of the names, tombstones included.
    pub fn with_prefix<'s>(
        &'s self,
        prefix: &'s str,
    ) -> impl Iterator<Item = (&'a str, &'a Item)> + 's {
        let from = self.keys.partition_point(|(name, _)| *name < prefix);
        self.keys[from..]
            .iter()
            .copied()
            .take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// Live keys and files whose name begins with `prefix`, as (rest of the name, item).
    pub fn live_with_prefix<'s>(
        &'s self,
        prefix: &'s str,
    ) -> impl Iterator<Item = (&'a str, &'a Item)> + 's {
        self.with_prefix(prefix)
            .filter(|(_, item)| item.is_live() && matches!(item.kind, Kind::Key | Kind::File))
            .map(move |(name, item)| (&name[prefix.len()..], item))
    }

    /// The designated primary as stored: a host, `(none)` or empty.
    pub fn designated(&self) -> &'a str {
        self.text("primary")
    }

    /// The designated primary, if a host is designated.
    pub fn designated_host(&self) -> Option<&'a str> {
        Some(self.designated()).filter(|host| !host.is_empty() && *host != "(none)")
    }

    /// A key below `actual-<host>/` is set and true.
    pub fn actual(&self, host: &str, key: &str) -> bool {
        is_true(self.text(&format!("actual-{host}/{key}")))
    }

    /// Hosts with any key of participation, in order.
    pub fn participants(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.hosts.iter().copied()
    }

    /// Whether `host` stores a replica here.
    pub fn is_member(&self, host: &str) -> bool {
        self.has(&format!("data-{host}")) || self.has(&format!("replay-{host}"))
    }

    /// Whether `host` uses the device without storing a replica.
    pub fn is_guest(&self, host: &str) -> bool {
        let uses = self.has(&format!("device-{host}")) && self.actual(host, "prosumer-on");
        !self.is_member(host) && (uses || self.exported_to(host))
    }

    fn exported_to(&self, host: &str) -> bool {
        let list = self.text(&format!("todo-{host}/exports"));
        list.split('+').any(|name| name == host)
    }

    /// Hosts that store a replica, in natural order.
    pub fn members(&self) -> Vec<&'a str> {
        self.sorted(|host| self.is_member(host))
    }

    /// Hosts that use the device without storing a replica, in natural order.
    pub fn guests(&self) -> Vec<&'a str> {
        self.sorted(|host| self.is_guest(host))
    }

    fn sorted(&self, pick: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let mut hosts: Vec<&str> = self.participants().filter(|host| pick(host)).collect();
        hosts.sort_by(|a, b| natural::compare(a, b));
        hosts
    }

    /// Sizes of all logs, from the files held here and from the version keys of all hosts.
    pub fn logs(&self) -> &LogSizes<'a> {
        self.logs.get_or_init(|| LogSizes::collect(self))
    }

    /// The positions of sync, fetch and replay of `host`.
    pub fn amounts(&self, host: &str) -> Rc<Amounts> {
        if let Some(amounts) = self.amounts.borrow().get(host) {
            return Rc::clone(amounts);
        }
        let amounts = Rc::new(Amounts::of(self, host));
        self.amounts
            .borrow_mut()
            .insert(host.to_owned(), Rc::clone(&amounts));
        amounts
    }

    /// How the histories of the members contradict each other, if they do.
    pub fn split_brain(&self) -> Option<&SplitBrain> {
        self.split
            .get_or_init(|| split_brain::find(self.snap, &self.name))
            .as_ref()
    }

    /// Does the history of `host` contradict that of the designated primary?
    pub fn is_apart(&self, host: &str) -> bool {
        let primary = self.designated_host().filter(|primary| *primary != host);
        primary.is_some_and(|primary| split_brain::are_apart(self.snap, &self.name, host, primary))
    }

    /// Tells the operator about it.
    pub fn report_split_brain(&self, window: u64, out: &mut Output) {
        if let Some(found) = self.split_brain() {
            split_brain::report(self.snap, &self.name, found, window, out);
        }
    }
}

/// Hosts which have a device, a disk, a replay position or an export list.
fn hosts_in<'a>(keys: &[(&'a str, &'a Item)]) -> BTreeSet<&'a str> {
    let mut hosts = BTreeSet::new();
    for (name, item) in keys.iter().filter(|(_, item)| item.is_live()) {
        let found = ["device-", "data-", "replay-"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .or_else(|| name.strip_prefix("todo-")?.strip_suffix("/exports"));
        if let Some(host) = found.filter(|_| matches!(item.kind, Kind::Key | Kind::File)) {
            hosts.insert(host);
        }
    }
    hosts
}

/// Truth as the macro language and the stored switches understand it: everything but empty and `0`.
pub fn is_true(text: &str) -> bool {
    !text.is_empty() && text != "0"
}
