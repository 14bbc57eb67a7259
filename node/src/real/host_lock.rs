//! One daemon per state directory.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Held as long as the daemon runs; the system gives it back whatever happens.
#[derive(Debug)]
pub struct HostLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl HostLock {
    /// Takes the lock file at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it; what the system says otherwise.
    pub fn take(path: &Path) -> io::Result<HostLock> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(HostLock(file))
    }
}
