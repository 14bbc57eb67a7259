//! The options which every `marsadm` command understands, and how they are written.
//!
//! Options may stand anywhere among the words; what is left are the positional words. A word that looks like an
//! option and is none is refused before anything happens (`operations.md`: a misspelled option must never do
//! something else). Reads nothing but the words.
//!
//! Manual: "The Userspace Tool marsadm" (global options).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::snapshot::Time;

/// How long a wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// That many seconds; 0 means not to wait at all.
    Seconds(u64),
    /// `--timeout=-1`.
    Forever,
}

impl Timeout {
    /// Whether a wait which began `waited` seconds ago is over.
    pub fn is_over(self, waited: std::time::Duration) -> bool {
        match self {
            Timeout::Seconds(limit) => waited.as_secs() >= limit,
            Timeout::Forever => false,
        }
    }
}

impl std::fmt::Display for Timeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Timeout::Seconds(limit) => write!(f, "{limit}"),
            Timeout::Forever => f.write_str("-1"),
        }
    }
}

/// Everything that can be said besides the command and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often `--force` (or a `force-` in front of the command) was given.
    pub force: u32,
    /// Say what would be done, change nothing.
    pub dry_run: bool,
    /// How talkative; negative selects one class of commands in the help.
    pub verbose: i32,
    /// Bound of every wait, default 600 s.
    pub timeout: Timeout,
    /// A peer silent for longer than this many seconds counts as dead.
    pub window: u64,
    /// Seconds without change after which something is called stuck.
    pub stuck_seconds: u64,
    /// Hours for which backups and tombstones are kept.
    pub keep_backup_hours: u64,
    /// Bytes of lag which still count as reached for the `…-threshold-reached` macros.
    pub threshold: u64,
    /// Number of own logs from which on small ones are not rotated.
    pub thresh_logfiles: u64,
    /// In units of 10^9 bytes: what counts as a small log.
    pub thresh_logsize: u64,
    /// Workers at once for lists of resources; 0 is no limit. Accepted; resources are worked on one after the other.
    pub parallel: Option<u64>,
    /// One JSON document instead of text.
    pub json: bool,
    /// Ask before every phase.
    pub singlestep: bool,
    /// Test aid: fail when this phase begins.
    pub error_injection_phase: u32,
    /// `primary` without force although another replica is not yet synchronised.
    pub ignore_sync: bool,
    /// 0 no, 1 not counted in reports, 2 skipped everywhere.
    pub ignore_deleted_peers: u32,
    /// `cron`: forget hosts and resources gone for that many days; 0 is never.
    pub autoclean_days: u64,
    /// Act as this host.
    pub host: Option<String>,
    /// `--ip=`: the address of the host acted for.
    pub own_ip: Option<String>,
    /// `--ip-PEER=`: addresses of others.
    pub peer_ips: BTreeMap<String, String>,
    /// Where `split-cluster` keeps what it removes.
    pub backup_dir: Option<String>,
    /// Whether systemd is told about changes.
    pub systemd_enable: bool,
    /// Program for syslog lines; empty is none.
    pub logger: Option<String>,
    /// `--macro=`: macro text used once, for the first macro that is looked up.
    pub macro_text: Option<String>,
    /// `join-cluster`: the join token.
    pub token: Option<String>,
    /// State directory of the node which is spoken to.
    pub dir: PathBuf,
    /// Work on this saved tree instead of the daemon.
    pub tree_file: Option<PathBuf>,
    /// The time to assume with `--tree-file`.
    pub now: Option<Time>,
    /// Where the changes go with `--tree-file`.
    pub delta_file: Option<PathBuf>,
    /// With `--tree-file`: the host whose tree it is.
    pub tree_host: Option<String>,
    /// With `--tree-file`: answer as if the daemon did not run (`--daemon-down`).
    pub daemon_down: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            force: 0,
            dry_run: false,
            verbose: 0,
            timeout: Timeout::Seconds(600),
            window: 60,
            stuck_seconds: 3600,
            keep_backup_hours: 168,
            threshold: 10 << 20,
            thresh_logfiles: 10,
            thresh_logsize: 5,
            parallel: None,
            json: false,
            singlestep: false,
            error_injection_phase: 0,
            ignore_sync: false,
            ignore_deleted_peers: 1,
            autoclean_days: 0,
            host: None,
            own_ip: None,
            peer_ips: BTreeMap::new(),
            backup_dir: None,
            systemd_enable: true,
            logger: None,
            macro_text: None,
            token: None,
            dir: std::env::var_os("MARS_DIR").map_or_else(|| PathBuf::from("/mars"), PathBuf::from),
            tree_file: None,
            now: None,
            delta_file: None,
            tree_host: None,
            daemon_down: false,
        }
    }
}
