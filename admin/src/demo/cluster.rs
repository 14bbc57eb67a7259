//! A cluster of real daemons on this machine: one directory, one process and one port per host.
//!
//! For the demo, the benchmarks and the tests with real processes. Every process is ended by its
//! own process id when its [`Host`] is dropped, also when the caller fails.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longest wait for a daemon to say `ready`.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for a daemon to stop after SIGTERM; a clean stop writes everything back.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How often a condition is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl Ran {
    /// Standard output, or an error that shows everything when the exit code was not zero.
    pub fn ok(self) -> Result<String> {
        let Ran {
            stdout,
            stderr,
            code,
        } = self;
        ensure!(
            code == Some(0),
            "exit {code:?}\nstdout: {stdout}\nstderr: {stderr}"
        );
        Ok(stdout)
    }
}

/// One host of the cluster: its state directory and, while it runs, its daemon.
pub struct Host {
    name: String,
    dir: PathBuf,
    mars: PathBuf,
    listen: String,
    advertise: Option<String>,
    daemon: Option<Child>,
}

impl Host {
    /// A host `name` with its state below `base`/`name`, listening on a free port of loopback.
    pub fn new(mars: &Path, base: &Path, name: &str) -> Result<Host> {
        let dir = base.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Host {
            name: name.to_owned(),
            dir,
            mars: mars.to_owned(),
            listen: format!("127.0.0.1:{}", free_udp_port()?),
            advertise: None,
            daemon: None,
        })
    }

    /// Other hosts shall reach this one at `address` (a proxy, say) instead of where it listens.
    pub fn advertised_at(mut self, address: &str) -> Host {
        self.advertise = Some(address.to_owned());
        self
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its daemon listens, `IP:PORT`.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Where others reach it, `IP:PORT`.
    pub fn address(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.listen)
    }

    /// The NBD socket of this host.
    pub fn nbd_socket(&self) -> PathBuf {
        self.dir.join("nbd.sock")
    }

    /// Makes this host the first one of a new cluster.
    pub fn create_cluster(&self) -> Result<()> {
        let (host, ip) = (
            format!("--host={}", self.name),
            format!("--ip={}", self.address()),
        );
        self.marsadm(&[&host, &ip, "create-cluster"])?.ok()?;
        Ok(())
    }

    /// Lets this host join the cluster of `first`, whose daemon must be running.
    pub fn join_cluster(&self, first: &Host) -> Result<()> {
        let token = first.mars(&["cluster", "token"])?.ok()?;
        let (host, ip) = (
            format!("--host={}", self.name),
            format!("--ip={}", self.address()),
        );
        let token = format!("--token={}", token.trim());
        self.marsadm(&[&host, &ip, "join-cluster", first.name(), &token])?
            .ok()?;
        Ok(())
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "{} runs already", self.name);
        let mut child = self
            .command()?
            .stdout(Stdio::piped())
            .spawn()
            .context("start mars node")?;
        let out = child
            .stdout
            .take()
            .context("daemon without standard output")?;
        self.daemon = Some(child);
        let (tell, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Nobody listens any more once the daemon was ready.
                let _ = tell.send(line);
            }
        });
        loop {
            match ready.recv_timeout(READY_WITHIN) {
                Ok(line) if line.starts_with("ready ") => return Ok(()),
                Ok(_) => {}
                Err(_) => {
                    let ended = self.daemon.as_mut().map(Child::try_wait);
                    let how = match ended {
                        Some(Ok(Some(status))) => format!("ended before it was ready: {status}"),
                        _ => format!("did not become ready within {READY_WITHIN:?}"),
                    };
                    bail!("daemon of {} {how}\n{}", self.name, self.log_tail())
                }
            }
        }
    }

    /// Starts the daemon so that it outlives this program, and returns its process id.
    pub fn start_detached(&mut self) -> Result<u32> {
        ensure!(self.daemon.is_none(), "{} runs already", self.name);
        Ok(self
            .command()?
            .stdout(Stdio::null())
            .spawn()
            .context("start mars node")?
            .id())
    }

    fn command(&self) -> Result<Command> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("daemon.log"))?;
        let mut command = Command::new(&self.mars);
        command
            .arg("node")
            .arg("--dir")
            .arg(&self.dir)
            .arg("--listen")
            .arg(&self.listen);
        if let Some(address) = &self.advertise {
            command.arg("--advertise").arg(address);
        }
        command.stdin(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// The last lines the daemon logged.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Asks the daemon to stop and waits until it has: everything is written back afterwards.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.daemon.take() else {
            return Ok(());
        };
        if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let mut waited = Duration::ZERO;
        while waited < STOP_WITHIN {
            if let Some(status) = child.try_wait()? {
                ensure!(
                    status.success(),
                    "daemon of {}: {status}\n{}",
                    self.name,
                    self.log_tail()
                );
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
        child.kill()?;
        child.wait()?;
        bail!(
            "daemon of {} did not stop within {STOP_WITHIN:?}\n{}",
            self.name,
            self.log_tail()
        )
    }

    /// Ends the daemon at once, as a crash would (`kill -9`).
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.daemon.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Runs `mars ARGS` on this host.
    pub fn mars(&self, args: &[&str]) -> Result<Ran> {
        self.run(&[], args)
    }

    /// Runs `marsadm ARGS` on this host.
    pub fn marsadm(&self, args: &[&str]) -> Result<Ran> {
        self.run(&["marsadm"], args)
    }

    /// Text of one key of the tree as this host has it; `None` when absent.
    pub fn key(&self, path: &str) -> Result<Option<String>> {
        let ran = self.mars(&["tree", "get", path])?;
        Ok((ran.code == Some(0)).then(|| ran.stdout.trim_end().to_owned()))
    }

    /// Waits until `holds` of what `marsadm view-MACRO RESOURCE` prints here, at most `limit`.
    pub fn wait_view(
        &self,
        macro_name: &str,
        resource: &str,
        limit: Duration,
        holds: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let verb = format!("view-{macro_name}");
        let mut waited = Duration::ZERO;
        loop {
            let ran = self.marsadm(&[&verb, resource])?;
            let text = ran.stdout.trim().to_owned();
            if holds(&text) {
                return Ok(text);
            }
            if waited >= limit {
                bail!(
                    "{} {verb} {resource} is still {text:?}\n{}",
                    self.name,
                    ran.stderr
                );
            }
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
    }

    fn run(&self, front: &[&str], args: &[&str]) -> Result<Ran> {
        let out = Command::new(&self.mars)
            .args(front)
            .args(args)
            .env("MARS_DIR", &self.dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {} {args:?}", self.mars.display()))?;
        Ok(Ran {
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            code: out.status.code(),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed.
        let _ = self.kill();
    }
}

/// A UDP port of loopback that is free now.
pub fn free_udp_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Makes a sparse file of `size` bytes to serve as an underlying disk.
pub fn make_disk(path: &Path, size: u64) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(size)?;
    Ok(())
}
