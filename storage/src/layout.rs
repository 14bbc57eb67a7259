//! Where files lie below the state directory of a host. Names are part of the contract with
//! operators and scripts.

use crate::io::Fs;
use std::io;
use std::path::{Path, PathBuf};
use tree::{LogName, Resource};

/// Paths below one state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout of state directory `dir`, which should be absolute.
    pub fn new(dir: impl Into<PathBuf>) -> Layout {
        Layout { dir: dir.into() }
    }

    /// The state directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Optional configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("mars.toml")
    }

    /// Control socket of the daemon.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("mars.sock")
    }

    /// NBD socket of the daemon.
    pub fn nbd_socket(&self) -> PathBuf {
        self.dir.join("nbd.sock")
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// A join token left by an operator.
    pub fn join_token(&self) -> PathBuf {
        self.dir.join("join-token")
    }

    /// Database of the tree store.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// What this host has seen of every writer, beside the database of the tree store.
    pub fn horizons(&self) -> PathBuf {
        self.dir.join("horizons")
    }

    /// Name of this host.
    pub fn host_name(&self) -> PathBuf {
        self.dir.join("host")
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> PathBuf {
        self.dir.join("cluster-id")
    }

    /// How far the Lamport clock may run before the next lease is written.
    pub fn clock_lease(&self) -> PathBuf {
        self.dir.join("clock-lease")
    }

    /// Held by the running daemon.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Directory of the logs of a resource.
    pub fn resource(&self, res: &Resource) -> PathBuf {
        self.dir.join(format!("resource-{res}"))
    }

    /// Says that nothing of a resource was ever here although its keys tell of a replica.
    pub fn doubt(&self, res: &Resource) -> PathBuf {
        self.dir.join(format!("doubt-{res}"))
    }

    /// One log file.
    pub fn log(&self, res: &Resource, log: &LogName) -> PathBuf {
        self.resource(res).join(log.to_string())
    }

    /// The logs of a resource that are here, oldest first; none when there is no directory. Other
    /// files are ignored.
    pub fn logs(&self, fs: &dyn Fs, res: &Resource) -> io::Result<Vec<LogName>> {
        let names = match fs.list(&self.resource(res)) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut logs: Vec<LogName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        logs.sort();
        Ok(logs)
    }

    /// Makes the directory of a resource durable.
    pub fn create_resource(&self, fs: &dyn Fs, res: &Resource) -> io::Result<()> {
        fs.create_dir(&self.resource(res))?;
        fs.sync_dir(&self.dir)
    }
}
