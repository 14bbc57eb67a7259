//! The local daemon as the commands see it: read the tree, set keys, wait.
//!
//! Two of them exist: [`offline::OfflineDaemon`] works on a saved tree, [`socket::SocketDaemon`] talks to the running
//! daemon of this host. Tests bring a third one whose cluster reacts. No verb knows which one it has.

use std::ffi::OsString;
use std::time::Duration;

use crate::disk::{self, DiskRefusal};
use crate::snapshot::{Snapshot, TOMBSTONE, Time};

pub mod offline;
pub mod socket;

/// One key to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path without `/mars/`.
    pub path: String,
    /// New value; [`TOMBSTONE`] deletes the key.
    pub value: String,
}

impl Change {
    /// Whether this deletes the key.
    pub fn is_deletion(&self) -> bool {
        self.value == TOMBSTONE
    }
}

/// How far the news of a change should be carried at once. The numbers are those of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// `1`: this host looks at it.
    Local,
    /// `2`: and tells its peers.
    Notify,
    /// `3`: and asks its peers.
    Fetch,
    /// `8`: and asks all hosts, about all resources.
    Full,
}

impl Trigger {
    /// The number the original prints for it.
    pub fn code(self) -> u32 {
        match self {
            Trigger::Local => 1,
            Trigger::Notify => 2,
            Trigger::Fetch => 3,
            Trigger::Full => 8,
        }
    }
}

/// Why the daemon could not do it.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens at the control socket.
    #[error(
        "the mars daemon of this host is not running (no answer at '{socket}'): start it with 'mars node --dir {dir}'"
    )]
    NotRunning {
        /// Path of the control socket.
        socket: String,
        /// State directory.
        dir: String,
    },
    /// The socket exists, but this user may not open it.
    #[error("only root, or whoever owns '{socket}', may do this")]
    NotAllowed {
        /// Path of the control socket.
        socket: String,
    },
    /// The daemon answered with a refusal.
    #[error("the daemon refused: {0}")]
    Refused(String),
    /// The connection broke, or a file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The saved tree is damaged.
    #[error("cannot read the saved tree '{file}': {source}")]
    Tree {
        /// Path of the tree file.
        file: String,
        /// What is wrong with it.
        source: crate::snapshot::SnapshotError,
    },
}

/// What a command may ask of its host.
pub trait Daemon {
    /// The tree as it is now.
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError>;

    /// Sets all keys with one stamp: the given one, or the present Lamport time. Returns once they are durable.
    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        trigger: Trigger,
    ) -> Result<Time, DaemonError>;

    /// Asks the cluster for news without changing anything.
    fn trigger(&mut self, trigger: Trigger) -> Result<(), DaemonError>;

    /// Forgets tombstones and rubbish for good. `false` when that is the daemon's own business.
    fn forget(&mut self, paths: &[String]) -> Result<bool, DaemonError>;

    /// Returns when the tree has changed, at the latest after `at_most`.
    fn pause(&mut self, at_most: Duration) -> Result<(), DaemonError>;

    /// Time since the command began.
    fn elapsed(&self) -> Duration;

    /// Is this a saved tree, in which nothing changes while a command waits?
    fn is_saved(&self) -> bool {
        false
    }

    /// What the daemon knows besides the tree, as a JSON object; nothing when nobody can be asked.
    fn facts(&mut self) -> Result<Option<String>, DaemonError> {
        Ok(None)
    }

    /// Program and first words which run `marsadm` for the same node once more; nothing when that makes no sense.
    fn program(&self) -> Option<Vec<OsString>> {
        None
    }

    /// The size of an underlying disk in bytes, looked at here.
    fn disk_size(&mut self, path: &str) -> Result<u64, DiskRefusal> {
        disk::size(path)
    }
}
