//! What the daemon can be told: `mars.toml` in the state directory, and flags that override it.
//!
//! Every value has a default, so the file may be missing. Unknown names in the file are errors: a
//! misspelled limit must not silently be the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::job::LoggerLimits;

/// Default UDP port of a node, also the default in `marsadm --ip`.
pub const PORT_DEFAULT: u16 = 7777;

/// Name of the configuration file inside the state directory.
pub const FILE_NAME: &str = "mars.toml";

const GIB: u64 = 1 << 30;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there but cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Place and kind of the mistake.
        reason: String,
    },
    /// NBD without TLS would be open to the network.
    #[error(
        "nbd_listen = {addr} is not a loopback address: everybody who reaches it could read and write \
         the devices; set nbd_tls = true, or nbd_insecure = true if this network is yours alone"
    )]
    NbdOpenToAll {
        /// The address asked for.
        addr: SocketAddr,
    },
}

/// Flags of `mars node`; each overrides the value of the same name in the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Name of this host; only needed before `create-cluster` or `join-cluster` has stored it.
    pub host: Option<String>,
    /// UDP address to listen on.
    pub listen: Option<SocketAddr>,
    /// Address other hosts shall use for this one, when it differs from `listen`.
    pub advertise: Option<SocketAddr>,
    /// TCP address for NBD clients, besides the unix socket.
    pub nbd_listen: Option<SocketAddr>,
    /// The clock of this host was far ahead and is right now; for one start, so there is no such value in the file.
    pub forget_future: bool,
}

/// Everything `mars node` was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state directory `D`.
    pub dir: PathBuf,
    /// Name of this host, unless it is stored in the state directory already.
    pub host: Option<String>,
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Address other hosts shall use for this one; `None` leaves the key `ips/ip-<me>` alone.
    pub advertise: Option<SocketAddr>,
    /// TCP address for NBD clients, besides `D/nbd.sock`.
    pub nbd_listen: Option<SocketAddr>,
    /// NBD clients over TCP have to present a certificate of the cluster.
    pub nbd_tls: bool,
    /// Limits and intervals.
    pub node: NodeConfig,
}

impl Config {
    /// The configuration of the state directory `dir`, overridden by `flags`.
    pub fn load(dir: &Path, flags: Flags) -> Result<Config, ConfigError> {
        let path = dir.join(FILE_NAME);
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| ConfigError::Malformed {
                path: path.clone(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        file.with(dir, flags)
    }
}

/// Limits and intervals of a node. The simulation sets them, too.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How often `actual-<me>/time` is refreshed. `marsadm` takes a host for alive while it is
    /// younger than 60 s.
    pub heartbeat: Duration,
    /// Longest pause between two exchanges with a connected peer; longer with more than ten peers, in proportion to their
    /// number.
    pub exchange: Duration,
    /// How long a starting node waits for other members before it may become actual primary
    /// although none of them has answered.
    pub grace: Duration,
    /// Longest time between two rounds of the main loop when nothing happens.
    pub round: Duration,
    /// Shortest time between two rounds of a main loop: a burst of small changes is one round.
    pub rounds_apart: Duration,
    /// A peer counts as alive while its heartbeat is younger than this.
    pub alive_window: Duration,
    /// How far ahead of the time of day a stamp may be, in nanoseconds, before it is held back.
    pub max_future_ns: u64,
    /// The clock of this host was further ahead and is right now: make good at the start what was written meanwhile
    /// (`tree::future`).
    pub forget_future: bool,
    /// A log of the primary is rotated when it has reached this many bytes; 0 for never.
    pub rotate_bytes: u64,
    /// Whether the primary deletes logs all members have replayed, without `marsadm cron`.
    pub delete_logs: bool,
    /// How long a log stays after its last change, though nobody needs it.
    pub keep_logs: Duration,
    /// What this host sends of logs to all peers together, bytes per second; keys may say otherwise.
    pub log_rate: Option<u64>,
    /// The same for blocks of syncs.
    pub sync_rate: Option<u64>,
    /// What is known about the line to the peers; counts for connections made later.
    pub line: transport::line::Line,
    /// A host that leaves the cluster is listened to for so long, so that its last words arrive; then its certificate
    /// opens nothing any more.
    pub leave_grace: Duration,
    /// How long a tombstone blocks for a member nobody has heard of.
    pub keep_tombstones: Duration,
    /// Bytes that stay free in the state directory at each of the four levels, cumulative:
    /// warn; delete logs at secondaries; refuse sync; stop logging.
    pub free_bytes: [u64; 4],
    /// Limits of the logger of a primary: buffers, flushes, zeros ahead.
    pub logger: LoggerLimits,
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            heartbeat: Duration::from_secs(5),
            exchange: Duration::from_secs(3),
            grace: Duration::from_secs(5),
            round: Duration::from_secs(5),
            rounds_apart: Duration::from_millis(4),
            alive_window: Duration::from_secs(30),
            max_future_ns: 3600 * 1_000_000_000,
            forget_future: false,
            rotate_bytes: 4 * GIB,
            delete_logs: true,
            keep_logs: Duration::from_secs(120),
            keep_tombstones: Duration::from_secs(168 * 3600),
            log_rate: None,
            sync_rate: None,
            line: transport::line::Line::default(),
            leave_grace: Duration::from_secs(30),
            free_bytes: [GIB / 4; 4],
            logger: LoggerLimits::default(),
        }
    }
}

/// `mars.toml` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    host: Option<String>,
    listen: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    nbd_listen: Option<SocketAddr>,
    nbd_insecure: bool,
    nbd_tls: bool,
    limits: Limits,
}

/// The section `[limits]`: intervals in seconds, sizes in GiB.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    heartbeat_seconds: Option<u64>,
    exchange_seconds: Option<u64>,
    grace_seconds: Option<u64>,
    alive_window_seconds: Option<u64>,
    max_future_seconds: Option<u64>,
    logrot_auto_gb: Option<f64>,
    delete_logs: Option<bool>,
    keep_logs_seconds: Option<u64>,
    required_free_space_gb: Option<[f64; 4]>,
    log_ratelimit_kb: Option<u64>,
    sync_ratelimit_kb: Option<u64>,
    line_rate_mbit: Option<u64>,
    line_rtt_max_ms: Option<u64>,
}

impl File {
    fn with(self, dir: &Path, flags: Flags) -> Result<Config, ConfigError> {
        let nbd_listen = flags.nbd_listen.or(self.nbd_listen);
        if let Some(addr) = nbd_listen
            && !addr.ip().is_loopback()
            && !self.nbd_insecure
            && !self.nbd_tls
        {
            return Err(ConfigError::NbdOpenToAll { addr });
        }
        let any = SocketAddr::from(([0, 0, 0, 0], PORT_DEFAULT));
        Ok(Config {
            dir: dir.to_path_buf(),
            host: flags.host.or(self.host),
            listen: flags.listen.or(self.listen).unwrap_or(any),
            advertise: flags.advertise.or(self.advertise),
            nbd_listen,
            nbd_tls: self.nbd_tls,
            node: NodeConfig {
                forget_future: flags.forget_future,
                ..self.limits.node()
            },
        })
    }
}

impl Limits {
    fn node(&self) -> NodeConfig {
        let std = NodeConfig::default();
        let secs = |given: Option<u64>, std| given.map_or(std, Duration::from_secs);
        NodeConfig {
            heartbeat: secs(self.heartbeat_seconds, std.heartbeat),
            exchange: secs(self.exchange_seconds, std.exchange),
            grace: secs(self.grace_seconds, std.grace),
            alive_window: secs(self.alive_window_seconds, std.alive_window),
            max_future_ns: self
                .max_future_seconds
                .map_or(std.max_future_ns, |s| s.saturating_mul(1_000_000_000)),
            rotate_bytes: self.logrot_auto_gb.map_or(std.rotate_bytes, gib),
            delete_logs: self.delete_logs.unwrap_or(std.delete_logs),
            keep_logs: secs(self.keep_logs_seconds, std.keep_logs),
            free_bytes: self
                .required_free_space_gb
                .map_or(std.free_bytes, |levels| levels.map(gib)),
            log_rate: self.log_ratelimit_kb.map(|kib| kib.saturating_mul(1024)),
            sync_rate: self.sync_ratelimit_kb.map(|kib| kib.saturating_mul(1024)),
            line: self.line(),
            ..std
        }
    }

    fn line(&self) -> transport::line::Line {
        let std = transport::line::Line::default();
        transport::line::Line {
            rate: self.line_rate_mbit.map(|mbit| mbit.saturating_mul(125_000)),
            rtt_max: self
                .line_rtt_max_ms
                .map_or(std.rtt_max, Duration::from_millis),
            ..std
        }
    }
}

/// Gibibytes to bytes; negative numbers count as none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a float cast saturates, and fractions of a byte do not matter"
)]
fn gib(given: f64) -> u64 {
    (given * GIB as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, flags: Flags) -> Result<Config, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        file.with(Path::new("/d"), flags).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = check("", Flags::default()).expect("no mistakes in nothing");
        assert_eq!(config.listen.port(), PORT_DEFAULT);
        assert_eq!(config.node.rotate_bytes, 4 * GIB);
        assert_eq!(config.nbd_listen, None);
    }

    #[test]
    fn flags_override_the_file() {
        let flags = Flags {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 7801))),
            ..Flags::default()
        };
        let config = check("listen = '127.0.0.1:1'\nhost = 'alpha'", flags).expect("fine");
        assert_eq!(config.listen.port(), 7801);
        assert_eq!(config.host.as_deref(), Some("alpha"));
    }

    #[test]
    fn a_misspelled_limit_is_an_error() {
        let error = check("[limits]\nlogrot_gb = 1", Flags::default()).expect_err("misspelled");
        assert!(error.contains("logrot_gb"), "{error}");
    }

    #[test]
    fn nbd_for_everybody_needs_a_word_of_consent() {
        let open = "nbd_listen = '0.0.0.0:10809'";
        let error = check(open, Flags::default()).expect_err("open to all");
        assert!(error.contains("nbd_insecure"), "{error}");
        assert!(check(&format!("{open}\nnbd_insecure = true"), Flags::default()).is_ok());
        assert!(
            check(&format!("{open}\nnbd_tls = true"), Flags::default()).is_ok_and(|c| c.nbd_tls)
        );
        assert!(check("nbd_listen = '127.0.0.1:10809'", Flags::default()).is_ok());
    }

    #[test]
    fn a_line_and_its_limits_come_in_the_units_of_their_names() {
        let text = "[limits]\nline_rate_mbit = 1000\nline_rtt_max_ms = 200\nlog_ratelimit_kb = 2";
        let node = check(text, Flags::default()).expect("fine").node;
        assert_eq!(node.line.rate, Some(125_000_000));
        assert_eq!(node.line.bytes_in_flight(), 25_000_000);
        assert_eq!((node.log_rate, node.sync_rate), (Some(2048), None));
    }

    #[test]
    fn sizes_are_gibibytes_and_may_have_fractions() {
        let config = check("[limits]\nlogrot_auto_gb = 0.5", Flags::default()).expect("fine");
        assert_eq!(config.node.rotate_bytes, GIB / 2);
    }
}
