//! A saved tree whose other hosts and workers do something while a command waits.

use std::time::Duration;

use admin::daemon::offline::OfflineDaemon;
use admin::daemon::{Change, Daemon, DaemonError, Trigger};
use admin::disk::DiskRefusal;
use admin::snapshot::{Snapshot, Time};

/// See the module header.
pub struct Reacting {
    /// The tree.
    pub saved: OfflineDaemon,
    /// What happens at the end of every pause.
    pub react: fn(&mut OfflineDaemon),
}

impl Daemon for Reacting {
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError> {
        self.saved.snapshot()
    }
    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        trigger: Trigger,
    ) -> Result<Time, DaemonError> {
        self.saved.commit(changes, stamp, trigger)
    }
    fn trigger(&mut self, trigger: Trigger) -> Result<(), DaemonError> {
        self.saved.trigger(trigger)
    }
    fn forget(&mut self, paths: &[String]) -> Result<bool, DaemonError> {
        self.saved.forget(paths)
    }
    fn pause(&mut self, at_most: Duration) -> Result<(), DaemonError> {
        self.saved.pause(at_most)?;
        (self.react)(&mut self.saved);
        Ok(())
    }
    fn elapsed(&self) -> Duration {
        self.saved.elapsed()
    }
    fn disk_size(&mut self, path: &str) -> Result<u64, DiskRefusal> {
        self.saved.disk_size(path)
    }
}
