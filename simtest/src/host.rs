//! One simulated host: a node on simulated ports, and what survives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use node::config::NodeConfig;
use node::export::Exports;
use node::job::LoggerLimits;
use node::node::{Node, Parts};
use node::ports::Ports;
use storage::{AheadOptions, Layout, MemMedium};
use tree::{Entry, Host};

use crate::clock::SimClock;
use crate::disk::SimFs;
use crate::exec::SimExec;
use crate::net::SimNet;
use crate::prng::Prng;

/// State directory of every host, in its own file system.
pub const STATE_DIR: &str = "/mars";
/// Space of a host's file system unless a story says otherwise.
pub const CAPACITY: u64 = 1 << 30;

/// How a host goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies, the machine stays up: nothing visible is lost.
    Process,
    /// The power goes: whatever was not durable may be lost.
    Power,
}

/// See the module.
pub struct SimHost {
    /// Its name.
    pub name: Host,
    /// Its files and disks.
    pub fs: SimFs,
    /// The store of its key tree.
    pub medium: MemMedium,
    /// Its clock.
    pub clock: SimClock,
    /// Its lanes while it runs.
    pub exec: Option<SimExec>,
    node: Option<Node>,
    chance: Prng,
    config: NodeConfig,
    cluster: String,
    starts: u64,
}

impl SimHost {
    /// A host that has never run.
    pub fn new(
        name: &Host,
        cluster: &str,
        began: tokio::time::Instant,
        seed: u64,
        config: NodeConfig,
    ) -> SimHost {
        let chance = Prng::new(seed, &format!("host {name}"));
        let fs = SimFs::new(Prng::new(seed, &format!("disk {name}")), CAPACITY);
        SimHost {
            name: name.clone(),
            fs,
            medium: MemMedium::default(),
            clock: SimClock::new(began),
            exec: None,
            node: None,
            chance,
            config,
            cluster: cluster.to_owned(),
            starts: 0,
        }
    }

    /// Puts entries into the store of a host that does not run, as joining a cluster does.
    pub fn seed(&self, entries: Vec<(tree::Path, Entry)>) {
        let changes: Vec<_> = entries
            .into_iter()
            .map(|(path, entry)| (path, Some(entry)))
            .collect();
        let stored = storage::TreeStore::commit(&mut self.medium.store(), &changes);
        assert!(stored.is_ok(), "an empty store takes entries: {stored:?}");
    }

    /// Its limits and intervals.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Limits and intervals of this host from its next start on.
    pub fn set_config(&mut self, change: impl FnOnce(&mut NodeConfig)) {
        change(&mut self.config);
    }

    /// Starts the node; it must not run.
    pub async fn start(&mut self, net: &SimNet) -> anyhow::Result<()> {
        assert!(self.node.is_none(), "{} runs already", self.name);
        self.starts += 1;
        let exec = SimExec::new(self.chance.clone());
        let ports = Ports {
            clock: Arc::new(self.clock.clone()),
            chance: Arc::new(self.chance.clone()),
            exec: Arc::new(exec.clone()),
            fs: Arc::new(self.fs.clone()),
            net: net.port(&self.name),
        };
        storage::Fs::create_dir(&self.fs, Path::new(STATE_DIR))?;
        let parts = Parts {
            here: self.name.clone(),
            cluster: self.cluster.clone(),
            layout: Layout::new(STATE_DIR),
            ports,
            store: Box::new(self.medium.store()),
            exports: Exports::new(),
            config: self.config.clone(),
        };
        self.exec = Some(exec);
        let node = self.node.insert(Node::start(parts).await?);
        self.fs.watch_write_ahead(node.hub(), node.exports());
        Ok(())
    }

    /// The node, while it runs.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Ends it at once.
    pub fn crash(&mut self, net: &SimNet, how: Crash) {
        if let Some(exec) = self.exec.take() {
            exec.kill();
        }
        // First nothing works any more, then the tasks go: none of them may leave a last trace.
        self.fs.power_off();
        net.vanish(&self.name);
        self.node = None;
        match how {
            Crash::Power => self.fs.power_on(),
            Crash::Process => self.fs.restart_process(),
        }
    }

    /// Ends it in order.
    pub async fn stop(&mut self, net: &SimNet) {
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
        if let Some(exec) = self.exec.take() {
            exec.kill();
        }
        net.disconnect(&self.name);
        self.fs.restart_process();
    }

    /// Where this host keeps its replica of `res`.
    pub fn disk_path(res: &str) -> PathBuf {
        PathBuf::from(format!("/disk-{res}"))
    }

    /// What lies on its disk for `res` now.
    pub fn disk(&self, res: &str) -> Vec<u8> {
        self.fs.read(&SimHost::disk_path(res)).unwrap_or_default()
    }

    /// This host has taken the place of `old`.
    pub fn count_starts_of(&mut self, old: &SimHost) {
        self.starts += old.starts;
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.starts
    }
}

/// Limits and intervals of simulated hosts: small logs, so that rotations happen.
pub fn config() -> NodeConfig {
    NodeConfig {
        rotate_bytes: 2 << 20,
        keep_logs: Duration::from_secs(60),
        free_bytes: [4 << 20; 4],
        logger: LoggerLimits {
            ahead: AheadOptions {
                ahead_bytes: 64 << 10,
                step_bytes: 16 << 10,
                ..AheadOptions::default()
            },
            ..LoggerLimits::default()
        },
        ..NodeConfig::default()
    }
}
