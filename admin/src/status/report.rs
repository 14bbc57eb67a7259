//! What `mars-status` reports, as data: computed once from the snapshot, then printed as text or as JSON.
//!
//! Every WORK, TODO and HINT is a [`Note`]; the condition stands beside the place that makes it. Never writes, never
//! looks at a disk.
//!
//! Manual: "mars-status".

use serde::Serialize;

use super::environment::{Environment, Workers};
use super::history::{self, LogVersion};
use crate::snapshot::Snapshot;
use crate::view::status_api::{Known, ReplayValue, Res, World, number};

/// A host is alive when it was heard of within so many seconds.
pub const ALIVE_SECONDS: u64 = 30;

/// How urgent a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Tag {
    /// The system is busy, nobody need act.
    Work,
    /// Something is wrong at the moment.
    Todo,
    /// A person should look at it.
    Hint,
}

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How urgent.
    pub tag: Tag,
    /// What.
    pub text: String,
}

impl Note {
    pub(super) fn new(tag: Tag, text: impl Into<String>) -> Note {
        Note {
            tag,
            text: text.into(),
        }
    }
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// This host.
    pub host: String,
    /// What the whole cluster has in common.
    pub cluster: Cluster,
    /// The resources, in natural order.
    pub resources: Vec<Resource>,
}

/// The summary line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Hosts whose space for logs is used up, with the limit in KiB when known.
    pub full: Vec<Full>,
    /// This host has stopped logging for want of space.
    pub emergency: bool,
    /// Members whose state is not current.
    pub silent: Vec<String>,
    /// How many syncs may run at once; 0 is no limit.
    pub sync_limit: u64,
}

/// A host without space for logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Full {
    /// Which host.
    pub host: String,
    /// Whether it is this one.
    pub local: bool,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The designated primary.
    pub primary: Option<String>,
    /// This host first, then the other members when this host is one.
    pub nodes: Vec<Node>,
    /// How many members there are; 0 when this host is none.
    pub members: usize,
    /// The log versions, oldest first.
    pub history: Vec<LogVersion>,
    /// What the workers do or why they rest, as far as the daemon tells.
    pub workers: Workers,
}

/// The role of a host, as `mars-status` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Role {
    /// Designated primary.
    Primary,
    /// Takes part.
    Secondary,
    /// Takes no part.
    NotJoined,
}

/// One host in one resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its name.
    pub host: String,
    /// Its address.
    pub ip: String,
    /// Whether it is this host.
    pub local: bool,
    /// Its role.
    pub role: Role,
    /// Seconds beyond the limit for which it has been silent; `None` when alive.
    pub silent_for: Option<u64>,
    /// The underlying disk and the device.
    pub device: Device,
    /// The first copy.
    pub sync: Sync,
    /// The log it is at.
    pub fetch: Fetch,
    /// Replay of that log.
    pub replay: Replay,
    /// What it reports.
    pub actual: Actual,
    /// What it is told.
    pub switches: Switches,
}

/// The underlying disk and the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The underlying disk.
    pub disk: String,
    /// The disk is larger or smaller than the resource.
    pub resizing: bool,
    /// The device, at the local primary.
    pub device: Option<String>,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// The first copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sync {
    /// Bytes copied.
    pub bytes: u64,
    /// Share of the size.
    pub percent: f64,
    /// KiB per second; 0 when nothing is copied.
    pub kib_per_second: u64,
    /// Minutes until the end, when the rate is known.
    pub minutes_left: Option<f64>,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// The log a host is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetch {
    /// Its number.
    pub log: u64,
    /// Its length in bytes, as far as this host has it.
    pub bytes: u64,
    /// KiB per second; 0 when nothing is fetched.
    pub kib_per_second: u64,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// Replay of the log a host is at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// Bytes of it on the disk.
    pub bytes: u64,
    /// Bytes which may or may not be on the disk yet, as the host says.
    pub todo: i64,
    /// Share of the log.
    pub percent: f64,
    /// KiB per second; 0 when nothing is replayed.
    pub kib_per_second: u64,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// What a host reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Actual {
    /// It is primary.
    pub primary: bool,
    /// The device is there.
    pub device: bool,
    /// It is copying the disk.
    pub syncing: bool,
    /// It is fetching logs.
    pub fetching: bool,
    /// The disk is opened.
    pub attached: bool,
}

/// What a host is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Switches {
    /// Open the disk.
    pub attach: bool,
    /// Fetch logs.
    pub connect: bool,
    /// Copy the disk.
    pub sync: bool,
    /// Replay logs.
    pub replay: bool,
}

impl Report {
    /// Everything about the resources in `names`.
    pub fn new(tree: &Snapshot, env: &Environment, names: &[String]) -> Report {
        let world = World::new(tree);
        Report {
            host: tree.host.clone(),
            cluster: cluster(&world, names),
            resources: names
                .iter()
                .map(|name| resource(&world, env, name))
                .collect(),
        }
    }
}

fn cluster(world: &World<'_>, names: &[String]) -> Cluster {
    let host = &world.snap.host;
    let peers = world.configured_peers();
    let is_full = |peer: &str| {
        let space = world.text(&format!("actual-{peer}/rest-space"));
        space.parse::<f64>().is_ok_and(|gib| gib < 1.0)
    };
    let full = |peer: &str| Full {
        host: peer.to_owned(),
        local: peer == host,
    };
    let others = peers.iter().copied().filter(|peer| *peer != host.as_str());
    let hosts = std::iter::once(host.as_str()).chain(others);
    let mut silent: Vec<String> = names
        .iter()
        .flat_map(|name| world.res(name).members())
        .filter(|member| !world.is_alive(member, ALIVE_SECONDS))
        .map(str::to_owned)
        .collect();
    silent.sort();
    silent.dedup();
    let stopped = |name: &str| world.res(name).actual(host, "has-emergency");
    Cluster {
        full: hosts.filter(|peer| is_full(peer)).map(full).collect(),
        emergency: number(world.text(&format!("actual-{host}/emergency"))) > 0
            || world.resource_names().iter().any(|name| stopped(name)),
        silent,
        sync_limit: number(world.text(&format!("defaults-{host}/sync-limit"))),
    }
}

fn resource(world: &World<'_>, env: &Environment, name: &str) -> Resource {
    let res = world.res(name);
    let host = world.snap.host.as_str();
    let members = res.members();
    let joined = members.contains(&host);
    let mut nodes = vec![node(world, env, &res, host)];
    if joined {
        let others = members.iter().filter(|member| **member != host);
        nodes.extend(others.map(|member| node(world, env, &res, member)));
    }
    Resource {
        name: name.to_owned(),
        size: number(res.text("size")),
        primary: res.designated_host().map(str::to_owned),
        nodes,
        members: if joined { members.len() } else { 0 },
        history: history::versions(&res, &members),
        workers: env.workers.get(name).cloned().unwrap_or_default(),
    }
}

fn node<'a>(world: &World<'a>, env: &Environment, res: &Res<'a>, host: &str) -> Node {
    let role = if res.designated_host() == Some(host) {
        Role::Primary
    } else if res.has(&format!("device-{host}")) {
        Role::Secondary
    } else {
        Role::NotJoined
    };
    let local = host == world.snap.host;
    let at = Place::of(world, res, host, role);
    Node {
        host: host.to_owned(),
        ip: world.text(&format!("ips/ip-{host}")).to_owned(),
        local,
        role,
        silent_for: silent_for(world, host),
        device: device(&at, env),
        sync: sync(&at),
        fetch: fetch(&at),
        replay: replay(&at),
        actual: actual(res, host),
        switches: switches(res, host),
    }
}

/// Seconds of silence beyond the limit; a host never heard of counts from the beginning of time.
fn silent_for(world: &World<'_>, host: &str) -> Option<u64> {
    let last = world.alive_time(host).unwrap_or_default();
    let now = world.snap.now;
    (!last.is_recent(now, ALIVE_SECONDS)).then(|| {
        now.sec
            .saturating_sub(last.sec)
            .saturating_sub(ALIVE_SECONDS)
    })
}

/// One host in one resource, and the log it stands in.
struct Place<'p, 'a> {
    world: &'p World<'a>,
    res: &'p Res<'a>,
    host: &'p str,
    role: Role,
    replay: Option<ReplayValue<'a>>,
    /// Length of that log as far as anybody knows.
    log_size: u64,
}

impl<'p, 'a> Place<'p, 'a> {
    /// A guest has none.
    fn has_disk(&self) -> bool {
        let key = format!("data-{}", self.host);
        self.role != Role::NotJoined && self.res.has(&key)
    }

    fn of(world: &'p World<'a>, res: &'p Res<'a>, host: &'p str, role: Role) -> Place<'p, 'a> {
        let replay = ReplayValue::parse(res.text(&format!("replay-{host}")));
        let log_size = replay.map_or(0, |at| {
            let own = res.text(at.log).parse().ok();
            own.or_else(|| res.logs().len(at.nr, at.origin, Known::Everywhere))
                .unwrap_or(0)
        });
        Place {
            world,
            res,
            host,
            role,
            replay,
            log_size,
        }
    }

    fn is_local(&self) -> bool {
        self.host == self.world.snap.host
    }

    fn rate(&self, what: &str) -> u64 {
        let key = format!("actual-{}/amount-{what}_rate", self.host);
        number(self.res.text(&key))
    }

    /// From whom data comes: the designated primary, while the host says that it is copying.
    fn source(&self, indicator: &str) -> String {
        let source = self.res.designated_host().filter(|host| *host != self.host);
        match source {
            Some(source) if self.res.actual(self.host, indicator) => {
                format!(", transferred from {source}")
            }
            _ => String::new(),
        }
    }
}

fn device(at: &Place<'_, '_>, env: &Environment) -> Device {
    let (res, host) = (at.res, at.host);
    let size = number(res.text("size"));
    let disk_size = number(res.text(&format!("actsize-{host}")));
    let name = res.text(&format!("device-{host}"));
    let present = res.actual(host, "if-on");
    let mut notes = Vec::new();
    let resizing = at.has_disk() && disk_size != size;
    if resizing {
        let text = format!("resizing used ({size} != {disk_size})");
        notes.push(Note::new(Tag::Hint, text));
    }
    let primary = at.is_local() && at.role == Role::Primary;
    if primary {
        notes.push(use_of_device(env, name, present));
    } else if at.is_local() && at.role == Role::Secondary && present {
        notes.push(Note::new(Tag::Hint, "Mars-Device on Secondary available"));
    }
    Device {
        disk: res.text(&format!("data-{host}")).to_owned(),
        resizing,
        device: primary.then(|| format!("/dev/mars/{name}")),
        notes,
    }
}

fn use_of_device(env: &Environment, name: &str, present: bool) -> Note {
    if !present {
        let text = "unable to mount, mars is starting or defective";
        return Note::new(Tag::Hint, text);
    }
    match env.mounts.get(&format!("/dev/mars/{name}")) {
        Some(mountpoint) => Note::new(Tag::Work, format!("mounted as {mountpoint}")),
        None => Note::new(Tag::Todo, "enable to mount"),
    }
}

fn sync(at: &Place<'_, '_>) -> Sync {
    let size = number(at.res.text("size"));
    let bytes = number(at.res.text(&format!("syncstatus-{}", at.host)));
    let percent = share(bytes, size);
    let kib_per_second = at.rate("sync");
    let rest_kib = size.saturating_sub(bytes) as f64 / 1024.0;
    let mut notes = Vec::new();
    if bytes < size && at.has_disk() {
        let text = format!(
            "Sync in progress = ({percent:.2}% < 100.00%){}",
            at.source("is-syncing")
        );
        notes.push(Note::new(Tag::Work, text));
    }
    Sync {
        bytes,
        percent,
        kib_per_second,
        minutes_left: (kib_per_second > 0).then(|| rest_kib / kib_per_second as f64 / 60.0),
        notes,
    }
}

/// Per cent of a whole. Not 100.00 as long as a byte is missing; an empty whole is complete.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if part >= whole {
        return 100.0;
    }
    let percent = part as f64 * 100.0 / whole as f64;
    percent.min(99.99)
}

fn fetch(at: &Place<'_, '_>) -> Fetch {
    let log = at.replay.map_or(0, |replay| replay.nr);
    let mut notes = Vec::new();
    let bytes = if at.is_local() {
        at.log_size
    } else {
        let own = history::covered(at.res, log, at.host);
        own.unwrap_or(at.log_size)
    };
    if at.log_size == 0 || at.role == Role::NotJoined {
        notes.push(Note::new(Tag::Work, "Logfile wait for starting ..."));
    }
    let local = at.res.text(&format!("replay-{}", at.world.snap.host));
    if let (Some(local), Some(own), false) = (ReplayValue::parse(local), at.replay, at.is_local())
        && local.nr != own.nr
    {
        let text = format!(
            "Logfile Version not actual = (log-{:09} ! log-{:09})",
            own.nr, local.nr
        );
        notes.push(Note::new(Tag::Hint, text));
    }
    Fetch {
        log,
        bytes,
        kib_per_second: at.rate("file"),
        notes,
    }
}

fn replay(at: &Place<'_, '_>) -> Replay {
    let (bytes, todo) = match at.replay {
        Some(replay) => (
            replay.pos,
            signed_rest(at.res.text(&format!("replay-{}", at.host))),
        ),
        None => (0, 0),
    };
    let percent = share(bytes, at.log_size);
    Replay {
        bytes,
        todo,
        percent,
        kib_per_second: at.rate("replay"),
        notes: replay_notes(at, percent, todo),
    }
}

fn replay_notes(at: &Place<'_, '_>, percent: f64, todo: i64) -> Vec<Note> {
    let mut notes = Vec::new();
    if percent < 1.0 {
        let text = format!(
            "Replay not started, Logfile inactive = (Size: {})",
            at.log_size
        );
        notes.push(Note::new(Tag::Hint, text));
    } else if percent < 100.0 {
        let text = format!(
            "Replay in progress = ({percent:.2}% < 100.00%){}",
            at.source("is-copying")
        );
        notes.push(Note::new(Tag::Work, text));
        let log = at.replay.map_or(0, |replay| replay.nr);
        notes.push(Note::new(Tag::Work, format!("Replay now log-{log:09}")));
    }
    if todo != 0 {
        let what = if todo > 0 {
            "mars it's working ..."
        } else {
            "replaying backwards ??? Check this !!!"
        };
        notes.push(Note::new(
            Tag::Work,
            format!("Replay-Todo is actually {todo}, {what}"),
        ));
    }
    notes
}

/// The third field of a replay position; a negative one is a defect which must be seen.
fn signed_rest(text: &str) -> i64 {
    text.split(',')
        .nth(2)
        .and_then(|rest| rest.parse().ok())
        .unwrap_or(0)
}

fn actual(res: &Res<'_>, host: &str) -> Actual {
    Actual {
        primary: res.actual(host, "is-primary"),
        device: res.actual(host, "if-on"),
        syncing: res.actual(host, "is-syncing"),
        fetching: res.actual(host, "is-copying"),
        attached: res.actual(host, "is-attached"),
    }
}

fn switches(res: &Res<'_>, host: &str) -> Switches {
    let on = |key: &str| {
        let value = res.text(&format!("todo-{host}/{key}"));
        !value.is_empty() && value != "0"
    };
    Switches {
        attach: on("attach"),
        connect: on("connect"),
        sync: on("sync"),
        replay: on("allow-replay"),
    }
}
