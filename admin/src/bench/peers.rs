//! Other NBD servers on the same file system, each started for one measurement and ended by its
//! process id.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::demo::cluster::make_disk;

/// A running server of a peer product.
pub struct Peer {
    child: Child,
    socket: PathBuf,
}

/// The peers of the device benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `nbdkit file`: the fastest one here, the one to beat.
    Nbdkit,
    /// `qemu-nbd`.
    QemuNbd,
}

impl Kind {
    /// Name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nbdkit => "nbdkit file",
            Kind::QemuNbd => "qemu-nbd",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Nbdkit => "nbdkit",
            Kind::QemuNbd => "qemu-nbd",
        }
    }

    /// Whether its program can be started here.
    pub fn is_installed(self) -> bool {
        let ran = Command::new(self.program())
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ran.is_ok_and(|status| status.success())
    }

    /// Serves a fresh file of `size` bytes below `work`.
    pub fn start(self, work: &Path, size: u64) -> Result<Peer> {
        let (disk, socket) = (work.join("peer-disk"), work.join("peer.sock"));
        make_disk(&disk, size)?;
        // A socket left by an earlier round would be taken for a ready server.
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(self.program());
        match self {
            Kind::Nbdkit => command
                .args(["-f", "-U"])
                .arg(&socket)
                .arg("file")
                .arg(&disk),
            Kind::QemuNbd => command
                .args([
                    "--persistent",
                    "--shared=0",
                    "--format=raw",
                    "--cache=writeback",
                    "--socket",
                ])
                .arg(&socket)
                .arg(&disk),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", self.program()))?;
        let peer = Peer { child, socket };
        for _ in 0..500 {
            if peer.socket.exists() {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{} did not open its socket", self.name())
    }
}

impl Peer {
    /// Where fio finds it.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
