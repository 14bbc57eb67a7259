//! The key table: every key of the tree, who writes it, what it holds, and how durable a write must be.
//!
//! This is the only place that knows a stored path pattern. Constructors (`key.rs`) and [`Key::parse`] work from
//! the table, so do help texts and checks of values typed by an operator. Paths that are not in the table are
//! allowed too: the tree is a generic store for operators.
//!
//! In a pattern `<res>`, `<host>`, `<peer>`, `<seq>`, `<log>` stand for a resource, hosts, a nine-digit log number
//! and a log name; `<name>` for the rest of a component, `<rest>` for the rest of the path. The first line that
//! fits wins, so special names stand before general ones. A host stands always at the end of its component:
//! `data-icpu-bs60` can never be read as the key of `icpu-bs6`.
//!
//! Manual: "The State of MARS" and the appendix on the symlink tree.

use std::sync::LazyLock;

use crate::log_name::{LogName, parse_seq};
use crate::name::{Host, Resource};
use crate::path::Path;
use crate::value::{Kind, ReplayPos};

/// Who may write a key. A convention between the programs; the tree itself accepts every member's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// `marsadm`, at whatever host the operator is.
    Operator,
    /// The daemon of the host in the key's path.
    OwnHost,
    /// Mostly the daemon of that host; `marsadm` when it creates, joins, invalidates or leaves.
    OwnHostOrOperator,
    /// A daemon which speaks about another host.
    AnyHost,
    /// Nobody any more; old trees may hold it, `marsadm cron` removes it.
    Obsolete,
}

/// When may a new value be shown before it is durable?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Never.
    Durable,
    /// Once the key exists: only its first value is a new piece of history.
    LazyUpdate,
    /// While it stays in the same log: only the number of the log permits anybody to delete one.
    LazyInLog,
    /// Always: a pure indicator, published again after a restart.
    Lazy,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct KeyDef {
    /// Its name in the code.
    pub key: Key,
    /// The stored path.
    pub pattern: &'static str,
    /// Who writes it.
    pub writer: Writer,
    /// What it holds.
    pub kind: Kind,
    /// How durable a write must be.
    pub haste: Haste,
    /// One line for people.
    pub meaning: &'static str,
}

/// What the placeholders of a pattern stood for in one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// `<res>`.
    pub res: Option<Resource>,
    /// `<host>`: the host whose key it is.
    pub host: Option<Host>,
    /// `<peer>`: the other host it speaks about.
    pub peer: Option<Host>,
    /// `<seq>`, also the number inside `<log>`.
    pub seq: Option<u64>,
    /// `<log>`.
    pub log: Option<LogName>,
    /// `<name>` or `<rest>`.
    pub name: Option<String>,
}

macro_rules! key_table {
    ($($key:ident $pattern:literal $writer:ident $kind:ident $haste:ident $meaning:literal)*) => {
        /// A key of the tree, see [`KEYS`] for its path and meaning.
        #[allow(rustdoc::invalid_html_tags, reason = "meanings name the placeholders of the pattern")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key {
            $(#[doc = concat!("`", $pattern, "`: ", $meaning)] $key,)*
        }

        /// The key table.
        pub const KEYS: &[KeyDef] = &[
            $(KeyDef {
                key: Key::$key,
                pattern: $pattern,
                writer: Writer::$writer,
                kind: Kind::$kind,
                haste: Haste::$haste,
                meaning: $meaning,
            },)*
        ];
    };
}

#[rustfmt::skip]
key_table! {
//  key                 stored path                                   who writes         value        haste      meaning
    Uuid                "uuid"                                        Operator           ClusterId    Durable    "identity of the cluster; hosts with another one are refused"
    Ip                  "ips/ip-<host>"                               OwnHostOrOperator  Address      Durable    "membership of <host> and the address it listens on"
    LeftCluster         "ips/left-<host>"                             OwnHostOrOperator  Text         Durable    "<host> has left the cluster: its certificate opens nothing, until it joins again"
    // Defaults.
    LogCompressions     "defaults/enabled-log-compressions"           Operator           Mask         Durable    "compressions allowed in logs"
    NetCompressions     "defaults/enabled-net-compressions"           Operator           Mask         Durable    "compressions allowed on the wire"
    NoLogDigests        "defaults/disabled-log-digests"               Operator           Mask         Durable    "digests forbidden in logs"
    NoNetDigests        "defaults/disabled-net-digests"               Operator           Mask         Durable    "digests forbidden on the wire"
    DefaultSyncLimit    "defaults/sync-limit"                         Operator           Number       Durable    "syncs at a time on every host, 0 for no limit"
    Default             "defaults/<name>"                             Operator           Text         Durable    "default <name> for all hosts"
    HostSyncLimit       "defaults-<host>/sync-limit"                  Operator           Number       Durable    "syncs at a time on <host>, 0 for no limit"
    HostSyncPreference  "defaults-<host>/sync-pref-list"              Operator           Text         Durable    "order of syncs on <host>; not interpreted"
    HostDefault         "defaults-<host>/<name>"                      Operator           Text         Durable    "default <name> for <host>, stronger than the one for all"
    // Space for operators and their tools.
    SystemdGlobal       "todo-global/systemd-global-trigger"          Operator           Text         Durable    "wakes the systemd interface on all hosts"
    HostLeft            "todo-global/deleted-<host>"                  Operator           Text         Durable    "trace of a host that left the cluster"
    TodoGlobal          "todo-global/<name>"                          Obsolete           Text         Durable    "deletion request of old releases"
    Userspace           "userspace/<rest>"                            Operator           Text         Durable    "free for operators"
    BackupIp            "backups-<name>/ips-backup/ip-<host>"         Operator           Address      Durable    "address of <host> before split-cluster"
    BackupUuid          "backups-<name>/uuid-backups/uuid"            Operator           Text         Durable    "cluster identity before a merge"
    ProbeGot            "probe-<host>/got-<peer>"                     OwnHost            Switch       Durable    "<host> has a copy of the foreign tree of <peer>"
    Probe               "probe-<host>/mars/<rest>"                    OwnHost            Text         Durable    "copy of a foreign tree, for merge-cluster"
    Cache               "cache-<host>/<name>"                         OwnHost            Text         Lazy       "local cache of the original's tools"
    // What a host says about itself.
    Time                "actual-<host>/time"                          OwnHost            Stamp        Lazy       "Lamport time at <host>: its heartbeat"
    Alive               "actual-<host>/alive"                         OwnHost            Switch       Lazy       "1 while the daemon works, 0 when it was stopped in order"
    TreeVersion         "actual-<host>/tree"                          OwnHost            Text         Durable    "version of the layout of the tree"
    Features            "actual-<host>/features"                      OwnHost            Features     Durable    "what the daemon of <host> can do"
    Usable              "actual-<host>/usable"                        OwnHost            Features     Durable    "what all hosts can do, as <host> sees it"
    BuildTag            "actual-<host>/buildtag"                      OwnHost            Text         Durable    "release of the daemon"
    UsedLogDigest       "actual-<host>/used-log-digest"               OwnHost            Mask         Lazy       "digest in use for logs"
    UsedNetDigest       "actual-<host>/used-net-digest"               OwnHost            Mask         Lazy       "digest in use on the wire"
    UsedLogCompression  "actual-<host>/used-log-compression"          OwnHost            Mask         Lazy       "compression in use for logs"
    UsedNetCompression  "actual-<host>/used-net-compression"          OwnHost            Mask         Lazy       "compression in use on the wire"
    Emergency           "actual-<host>/emergency"                     OwnHost            Level        Lazy       "level of too little space for logs, 0 to 4"
    RestSpace           "actual-<host>/rest-space"                    OwnHost            Number       Lazy       "GiB left for logs above the reserves"
    TotalSpace          "actual-<host>/total-space"                   OwnHost            Number       Lazy       "GiB for logs in all, without the reserves"
    ToolVersion         "actual-<host>/marsadm-version"               Operator           Text         Durable    "release of marsadm at <host>"
    ReadStamp           "actual-<host>/read-stamp"                    AnyHost            Stamp        Lazy       "up to when the state of <host> was seen elsewhere"
    CompatAlive         "actual-<host>/compat-alivelinks"             Obsolete           Text         Durable    "mark of a transition in the original"
    NeedsConnection     "actual-<host>/msg-needed-connection-with-<peer>" OwnHost        Message      Lazy       "state of the connection from <host> to <peer>"
    HostMessage         "actual-<host>/msg-<name>"                    OwnHost            Message      Lazy       "message <name> of the daemon"
    HostActual          "actual-<host>/<name>"                        OwnHost            Text         Lazy       "anything else a daemon says about its host"
    // A resource as a whole.
    Primary             "resource-<res>/primary"                      Operator           HostOrNone   Durable    "designated primary"
    Size                "resource-<res>/size"                         Operator           Bytes        Durable    "logical size of the device"
    MaxNr               "resource-<res>/maxnr"                        Operator           Number       Durable    "greatest log number ever used; outlives the resource"
    SystemdStart        "resource-<res>/systemd-start-unit"           Operator           Text         Durable    "unit to start where the resource becomes primary"
    SystemdStop         "resource-<res>/systemd-stop-unit"            Operator           Text         Durable    "unit to stop where it ceases to be"
    SystemdWant         "resource-<res>/systemd-want"                 Operator           HostOrNone   Durable    "where the units should run"
    SystemdTrigger      "resource-<res>/systemd-trigger"              Operator           Text         Lazy       "wakes the systemd interface"
    LastPrimary         "resource-<res>/userspace/last-primary"       Operator           HostOrNone   Durable    "last host that was designated"
    PrevPrimary         "resource-<res>/userspace/prev-primary"       Operator           HostOrNone   Durable    "the one before"
    SystemdStarted      "resource-<res>/userspace/systemd-status-start-<host>" Operator  Signed       Durable    "exit status of the start unit at <host>"
    SystemdStopped      "resource-<res>/userspace/systemd-status-stop-<host>"  Operator  Signed       Durable    "exit status of the stop unit at <host>"
    ResUserspace        "resource-<res>/userspace/<rest>"             Operator           Text         Durable    "free for operators"
    ResDefault          "resource-<res>/defaults/<name>"              Operator           Text         Durable    "default <name> for this resource"
    ResHostDefault      "resource-<res>/defaults-<host>/<name>"       Operator           Text         Durable    "default <name> for this resource at <host>"
    // One member of a resource.
    Data                "resource-<res>/data-<host>"                  Operator           DiskPath     Durable    "membership: the underlying disk at <host>"
    Device              "resource-<res>/device-<host>"                Operator           DeviceName   Durable    "participation: name of the device at <host>"
    ActSize             "resource-<res>/actsize-<host>"               OwnHost            Bytes        Lazy       "real size of the disk at <host>"
    Replay              "resource-<res>/replay-<host>"                OwnHostOrOperator  ReplayPos    LazyInLog  "how far the disk at <host> has come"
    Version             "resource-<res>/version-<seq>-<host>"         OwnHostOrOperator  VersionLink  LazyUpdate "log <seq> as <host> has it, chained to the one before"
    Log                 "resource-<res>/<log>"                        OwnHostOrOperator  Bytes        LazyUpdate "durable length of a transaction log; deleted: delete it"
    SkipCheck           "resource-<res>/skip-check-<host>"            Operator           SkipCheck    Durable    "one gap in the log numbers that <host> may pass"
    SyncStatus          "resource-<res>/syncstatus-<host>"            OwnHostOrOperator  Bytes        LazyUpdate "bytes the sync at <host> has behind it"
    SyncPos             "resource-<res>/syncpos-<host>"               OwnHostOrOperator  ReplayPos    Durable    "what replay must reach before the disk is consistent"
    SyncFrom            "resource-<res>/syncfrom-<host>"              Obsolete           HostOrNone   Durable    "the only host to sync from"
    VerifyStatus        "resource-<res>/verifystatus-<host>"          OwnHost            Verify       Lazy       "equal and unequal blocks of the sync"
    FetchFrom           "resource-<res>/connect-<host>"               Operator           HostList     Durable    "preferred sources of logs, best first"
    // Todo switches.
    TodoAttach          "resource-<res>/todo-<host>/attach"           Operator           Switch       Durable    "may <host> use its disk?"
    TodoFetch           "resource-<res>/todo-<host>/connect"          Operator           Switch       Durable    "may <host> fetch logs?"
    TodoReplay          "resource-<res>/todo-<host>/allow-replay"     Operator           Switch       Durable    "may <host> replay?"
    TodoSync            "resource-<res>/todo-<host>/sync"             Operator           Switch       Durable    "may <host> sync?"
    EmergencyLimit      "resource-<res>/todo-<host>/emergency-limit"  Operator           Percent      Durable    "free space below which this resource counts as in emergency"
    Exports             "resource-<res>/todo-<host>/exports"          Operator           Text         Durable    "guests of <host>, joined by +"
    // Actual indicators.
    IsAttached          "resource-<res>/actual-<host>/is-attached"    OwnHost            Switch       Lazy       "is the disk in use?"
    IsCopying           "resource-<res>/actual-<host>/is-copying"     OwnHost            Switch       Lazy       "is <host> fetching logs?"
    IsReplaying         "resource-<res>/actual-<host>/is-replaying"   OwnHost            Switch       Lazy       "is <host> replaying?"
    IsSyncing           "resource-<res>/actual-<host>/is-syncing"     OwnHost            Switch       Lazy       "is <host> syncing?"
    IsPrimary           "resource-<res>/actual-<host>/is-primary"     OwnHost            Switch       Durable    "actual primary: does <host> offer the device?"
    KnowsPrimary        "resource-<res>/actual-<host>/knows-primary"  OwnHost            Text         Durable    "the designation under which <host> does not write: its stamp, its writer, and who is designated; 0 while it writes"
    HasEmergency        "resource-<res>/actual-<host>/has-emergency"  OwnHost            Switch       Durable    "is there too little space for logs?"
    IsEmergency         "resource-<res>/actual-<host>/is-emergency"   OwnHost            Switch       Durable    "has logging ceased?"
    IfOn                "resource-<res>/actual-<host>/if-on"          OwnHostOrOperator  Switch       Lazy       "is the device usable?"
    OpenCount           "resource-<res>/actual-<host>/open-count"     OwnHost            Number       Lazy       "how many clients have it open"
    IfFlying            "resource-<res>/actual-<host>/if-flying"      OwnHost            Number       Lazy       "requests in flight"
    IfState             "resource-<res>/actual-<host>/if-state"       OwnHost            Signed       Lazy       "0, or the negative error number of the device"
    IfCompletionStamp   "resource-<res>/actual-<host>/if-completion-stamp" OwnHost       Stamp        Lazy       "when the last request was done"
    DiskError           "resource-<res>/actual-<host>/disk-error"     OwnHost            Signed       Lazy       "0, or the negative error number of the disk"
    ReplayCode          "resource-<res>/actual-<host>/replay-code"    OwnHost            ReplayCode   Lazy       "how replay goes: 0 running, 1 done, 2 incomplete, negative damaged"
    OpsIf               "resource-<res>/actual-<host>/ops-if_rate"        OwnHost        Number       Lazy       "requests per second at the device"
    AmountIf            "resource-<res>/actual-<host>/amount-if_rate"     OwnHost        Number       Lazy       "KiB per second at the device"
    OpsSync             "resource-<res>/actual-<host>/ops-sync_rate"      OwnHost        Number       Lazy       "requests per second of the sync"
    AmountSync          "resource-<res>/actual-<host>/amount-sync_rate"   OwnHost        Number       Lazy       "KiB per second of the sync"
    OpsFile             "resource-<res>/actual-<host>/ops-file_rate"      OwnHost        Number       Lazy       "requests per second of the fetch"
    AmountFile          "resource-<res>/actual-<host>/amount-file_rate"   OwnHost        Number       Lazy       "KiB per second of the fetch"
    OpsReplay           "resource-<res>/actual-<host>/ops-replay_rate"    OwnHost        Number       Lazy       "records per second of the replay"
    AmountReplay        "resource-<res>/actual-<host>/amount-replay_rate" OwnHost        Number       Lazy       "KiB per second of the replay"
    ProsumerOn          "resource-<res>/actual-<host>/prosumer-on"    OwnHost            Switch       Lazy       "does a guest use the device?"
    OldDevice           "resource-<res>/actual-<host>/device-<peer>"  Obsolete           Switch       Lazy       "device presence in old releases"
    Message             "resource-<res>/actual-<host>/msg-<name>"     OwnHost            Message      Lazy       "message <name> about this resource at <host>"
    ResActual           "resource-<res>/actual-<host>/<name>"         OwnHost            Text         Lazy       "anything else a daemon says about this resource"
    // Texts of old releases for people.
    LocalState          "resource-<res>/local-<host>/<name>"          OwnHost            Text         Lazy       "states of connections in the original"
    LogStatusText       "resource-<res>/logstatus-<host>.status"      Obsolete           Text         Lazy       "text about the logs at <host>"
    StatusText          "resource-<res>/<name>.status"                Obsolete           Text         Lazy       "text of one channel"
    // Root keys of releases before 2020.
    OldAlive            "alive-<host>"                                Obsolete           Text         Lazy       "now actual-<host>/alive"
    OldBuildTag         "buildtag-<host>"                             Obsolete           Text         Lazy       "now actual-<host>/buildtag"
    OldEmergency        "emergency-<host>"                            Obsolete           Text         Lazy       "now actual-<host>/emergency"
    OldFeatures         "features-<host>"                             Obsolete           Text         Lazy       "now actual-<host>/features"
    OldRestSpace        "rest-space-<host>"                           Obsolete           Text         Lazy       "now actual-<host>/rest-space"
    OldTotalSpace       "total-space-<host>"                          Obsolete           Text         Lazy       "now actual-<host>/total-space"
    OldTime             "time-<host>"                                 Obsolete           Text         Lazy       "now actual-<host>/time"
    OldTree             "tree-<host>"                                 Obsolete           Text         Lazy       "now actual-<host>/tree"
    OldUsable           "usable-<host>"                               Obsolete           Text         Lazy       "now actual-<host>/usable"
    OldUsed             "used-<host>"                                 Obsolete           Text         Lazy       "now actual-<host>/used-*"
    OldCompatAlive      "compat-alivelinks-<host>"                    Obsolete           Text         Lazy       "mark of a transition in the original"
}

impl Key {
    /// Its line in the table.
    pub fn def(self) -> &'static KeyDef {
        // The table is generated in the order of the enum; a test compares every line.
        &KEYS[self as usize]
    }

    /// Which key a path is, and what its placeholders stand for. `None` for a path outside the table.
    pub fn parse(path: &Path) -> Option<(Key, Parts)> {
        let text = path.as_str();
        let of_resource = text.starts_with(RESOURCE);
        let below = match of_resource {
            true => text.split_once('/')?.1,
            false => text,
        };
        let lines = &LINES[usize::from(of_resource)];
        let candidates = lines.iter().filter(|line| below.starts_with(line.head));
        for line in candidates {
            let mut parts = Parts::default();
            if fits(&line.pieces, text, &mut parts) {
                return Some((line.key, parts));
            }
        }
        None
    }

    /// The path with the placeholders of the pattern filled in from left to right.
    ///
    /// # Panics
    /// As [`Key::text`].
    pub(crate) fn path(self, fillings: &[&str]) -> Path {
        Path::known_good(&self.text(fillings))
    }

    /// The same as text, to look for it in a tree: that costs half as much.
    ///
    /// # Panics
    /// When the number of fillings is wrong: an error of the caller in this crate.
    pub(crate) fn text(self, fillings: &[&str]) -> String {
        let mut text = String::with_capacity(80);
        let mut fillings = fillings.iter();
        for piece in &PIECES[self as usize] {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Placeholder(_) => {
                    let filling = fillings.next();
                    assert!(filling.is_some(), "too few fillings for {self:?}");
                    text.push_str(filling.copied().unwrap_or_default());
                }
            }
        }
        assert!(fillings.next().is_none(), "too many fillings for {self:?}");
        text
    }
}

const RESOURCE: &str = "resource-";

/// May `new` be visible under `path` before it is durable, where `old` is the live value now?
/// Paths outside the table are always durable.
pub fn may_be_lazy(path: &Path, old: Option<&str>, new: &str) -> bool {
    let Some((key, _)) = Key::parse(path) else {
        return false;
    };
    match key.def().haste {
        Haste::Durable => false,
        Haste::Lazy => true,
        Haste::LazyUpdate => old.is_some(),
        Haste::LazyInLog => {
            let log = |text: &str| text.parse::<ReplayPos>().ok().map(|pos| pos.log);
            old.and_then(log).is_some_and(|held| Some(held) == log(new))
        }
    }
}

/// A line of the table, prepared for reading: every look at a tree reads all its paths.
struct Line {
    key: Key,
    /// What stands before the first placeholder; of a key of a resource, before the next one behind its name.
    head: &'static str,
    pieces: Vec<Piece<'static>>,
}

/// The lines of keys outside and inside of resources, in the order of the table.
static LINES: LazyLock<[Vec<Line>; 2]> = LazyLock::new(|| {
    let (inside, outside) = KEYS
        .iter()
        .partition::<Vec<&KeyDef>, _>(|def| def.pattern.starts_with(RESOURCE));
    [outside, inside].map(|defs| defs.into_iter().map(prepare).collect())
});

/// The pieces of all patterns, in the order of the table: every look at a key makes its path.
static PIECES: LazyLock<Vec<Vec<Piece<'static>>>> = LazyLock::new(|| {
    let patterns = KEYS.iter().map(|def| pieces(def.pattern).collect());
    patterns.collect()
});

fn prepare(def: &'static KeyDef) -> Line {
    let below = match def.pattern.starts_with(RESOURCE) {
        true => def.pattern.split_once('/').map_or("", |(_, below)| below),
        false => def.pattern,
    };
    Line {
        key: def.key,
        head: below.split('<').next().unwrap_or_default(),
        pieces: pieces(def.pattern).collect(),
    }
}

/// A piece of a pattern.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Literal(&'a str),
    Placeholder(&'a str),
}

fn pieces(pattern: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = pattern;
    std::iter::from_fn(move || {
        let (piece, after) = match (rest.find('<'), rest.find('>')) {
            _ if rest.is_empty() => return None,
            (Some(0), Some(end)) => (Piece::Placeholder(&rest[1..end]), &rest[end + 1..]),
            (Some(start), _) => (Piece::Literal(&rest[..start]), &rest[start..]),
            (None, _) => (Piece::Literal(rest), ""),
        };
        rest = after;
        Some(piece)
    })
}

/// Does `text` have the form of these pieces? Fills `parts` on the way.
fn fits(pieces: &[Piece<'_>], text: &str, parts: &mut Parts) -> bool {
    let mut rest = text;
    let mut open = None;
    for piece in pieces {
        match (*piece, open.take()) {
            (Piece::Literal(literal), None) => match rest.strip_prefix(literal) {
                Some(after) => rest = after,
                None => return false,
            },
            (Piece::Literal(literal), Some(name)) => {
                // What follows a placeholder begins where its literal appears for the first time, except
                // for an ending, which is an ending.
                let split = match literal.starts_with('.') {
                    true => rest.strip_suffix(literal).map(|value| (value, "")),
                    false => rest.split_once(literal),
                };
                match split {
                    Some((value, after)) if parts.fill(name, value) => rest = after,
                    _ => return false,
                }
            }
            (Piece::Placeholder(name), _) => open = Some(name),
        }
    }
    match open {
        Some(name) => parts.fill(name, rest),
        None => rest.is_empty(),
    }
}

impl Parts {
    /// Takes over what stands at a placeholder; `false` when it cannot stand there.
    fn fill(&mut self, placeholder: &str, text: &str) -> bool {
        match placeholder {
            "res" => {
                self.res = Resource::new(text).ok();
                self.res.is_some()
            }
            "host" => {
                self.host = Host::new(text).ok();
                self.host.is_some()
            }
            "peer" => {
                self.peer = Host::new(text).ok();
                self.peer.is_some()
            }
            "seq" => {
                self.seq = parse_seq(text);
                self.seq.is_some()
            }
            "log" => {
                self.log = text.parse().ok();
                self.seq = self.log.as_ref().map(|log| log.seq);
                self.log.is_some()
            }
            "name" | "rest" => {
                self.name = Some(text.to_owned());
                !text.is_empty() && (placeholder == "rest" || !text.contains('/'))
            }
            other => unreachable!("a test makes every line of the table, none has <{other}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::key::{self, Switch};

    fn path(text: &str) -> Path {
        Path::new(text).expect("valid path")
    }

    fn host(name: &str) -> Host {
        Host::new(name).expect("valid name")
    }

    fn check_parsed(text: &str, key: Key, res: Option<&str>, owner: Option<&str>) {
        let (found, parts) = Key::parse(&path(text)).expect(text);
        assert_eq!(found, key, "{text}");
        assert_eq!(parts.res.as_ref().map(Resource::as_str), res, "{text}");
        assert_eq!(parts.host.as_ref().map(Host::as_str), owner, "{text}");
    }

    #[test]
    fn every_line_stands_at_its_place_and_can_be_made_and_read_back() {
        let mut seen = BTreeSet::new();
        for def in KEYS {
            assert_eq!(def.key.def().pattern, def.pattern);
            assert!(seen.insert(def.pattern), "{} stands twice", def.pattern);
            let fillings: Vec<&str> = pieces(def.pattern)
                .filter_map(|piece| match piece {
                    Piece::Placeholder("res") => Some("my-data"),
                    Piece::Placeholder("host") => Some("icpu-bs60"),
                    Piece::Placeholder("peer") => Some("icpu-bs6"),
                    Piece::Placeholder("seq") => Some("000000007"),
                    Piece::Placeholder("log") => Some("log-000000007-icpu-bs6"),
                    Piece::Placeholder("rest") => Some("some/where"),
                    Piece::Placeholder(_) => Some("something"),
                    Piece::Literal(_) => None,
                })
                .collect();
            let made = def.key.path(&fillings);
            let (key, parts) = Key::parse(&made).expect("own path");
            assert_eq!(key, def.key, "{made} is read as {}", key.def().pattern);
            assert_eq!(parts.res.is_some(), def.pattern.contains("<res>"), "{made}");
            assert_eq!(
                parts.host.is_some(),
                def.pattern.contains("<host>"),
                "{made}"
            );
            assert!(!def.meaning.is_empty() && !def.meaning.ends_with('.'));
        }
    }

    #[test]
    fn a_host_whose_name_begins_with_another_hosts_name_keeps_its_own_keys() {
        check_parsed(
            "resource-x/data-icpu-bs6",
            Key::Data,
            Some("x"),
            Some("icpu-bs6"),
        );
        check_parsed(
            "resource-x/data-icpu-bs60",
            Key::Data,
            Some("x"),
            Some("icpu-bs60"),
        );
        check_parsed(
            "resource-x/version-000000001-bs-6",
            Key::Version,
            Some("x"),
            Some("bs-6"),
        );
        check_parsed("ips/ip-icpu-bs60", Key::Ip, None, Some("icpu-bs60"));
        check_parsed("rest-space-old", Key::OldRestSpace, None, Some("old"));
        check_parsed("actual-a-b/rest-space", Key::RestSpace, None, Some("a-b"));
    }

    #[test]
    fn names_of_resources_and_hosts_that_look_like_keys_do_no_harm() {
        check_parsed(
            "resource-data-data/data-data-",
            Key::Data,
            Some("data-data"),
            Some("data-"),
        );
        check_parsed(
            "resource-primary/primary",
            Key::Primary,
            Some("primary"),
            None,
        );
        check_parsed(
            "resource-x/todo-todo-y/sync",
            Key::TodoSync,
            Some("x"),
            Some("todo-y"),
        );
        check_parsed(
            "resource-x/actual-b/device-c",
            Key::OldDevice,
            Some("x"),
            Some("b"),
        );
        check_parsed(
            "resource-x/4.fatal.status",
            Key::StatusText,
            Some("x"),
            None,
        );
    }

    #[test]
    fn paths_outside_the_table_are_nobodys_keys() {
        for text in [
            "resource-x",
            "resource-x/unknown",
            "resource-x/data-",
            "resource-x/data-a/b",
            "resource-x/log-7-alpha",
            "resource-x/version-7-alpha",
            "resource-x y/primary",
            "free/for/all",
        ] {
            assert_eq!(Key::parse(&path(text)), None, "{text}");
        }
    }

    #[test]
    fn constructors_make_the_paths_operators_know() {
        let res = Resource::new("data").expect("valid name");
        let alpha = host("alpha");
        let made = [
            key::primary(&res),
            key::todo(&res, &alpha, Switch::Fetch),
            key::todo(&res, &alpha, Switch::Replay),
            key::actual(&res, &alpha, "is-primary"),
            key::version(&res, 7, &alpha),
            key::log(&res, &LogName::new(1_234_567_890, &alpha)),
            key::of_host(Key::Time, &alpha),
            key::ip(&alpha),
        ];
        assert_eq!(
            made.map(String::from),
            [
                "resource-data/primary",
                "resource-data/todo-alpha/connect",
                "resource-data/todo-alpha/allow-replay",
                "resource-data/actual-alpha/is-primary",
                "resource-data/version-000000007-alpha",
                "resource-data/log-1234567890-alpha",
                "actual-alpha/time",
                "ips/ip-alpha",
            ]
        );
        assert_eq!(Switch::Fetch.stored_name(), "connect");
        assert!(key::host_default(&alpha, "a/b").is_err());
    }

    #[test]
    fn only_updates_inside_one_log_may_be_seen_before_they_are_durable() {
        let replay = path("resource-x/replay-b");
        let old = Some("log-000000001-a,0,0");
        assert!(!may_be_lazy(&replay, None, "log-000000001-a,0,0"));
        assert!(may_be_lazy(&replay, old, "log-000000001-a,512,0"));
        assert!(!may_be_lazy(&replay, old, "log-000000002-a,0,0"));
        assert!(!may_be_lazy(&replay, old, "rubbish"));

        let log = path("resource-x/log-000000001-a");
        assert!(!may_be_lazy(&log, None, "0"));
        assert!(may_be_lazy(&log, Some("0"), "4096"));
        assert!(may_be_lazy(&path("actual-a/time"), None, "1.000000000"));
        assert!(!may_be_lazy(&path("resource-x/primary"), Some("a"), "b"));
        assert!(!may_be_lazy(&path("anything/else"), Some("a"), "b"));
    }
}
