//! Real daemons for a measurement, and what all measurements need: clocks, control sockets, figures of processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use transport::control::{Answer, Change, ControlClient, Request};
use tree::ReplayPos;

use crate::demo::cluster::{Host, make_disk};

/// The resource under test.
pub const RES: &str = "bench";

/// Names another build whose daemons are to be measured, so that two builds are measured by the same bench.
const DAEMONS: &str = "MARS_BENCH_DAEMONS";

/// Longest wait for anything that must come.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A daemon has told by then how far it is.
const REPORTED_WITHIN: Duration = Duration::from_millis(2500);

/// Hosts of one cluster; the first one created it. Ends them all when dropped.
pub struct Lab {
    /// Where everything lies.
    pub base: PathBuf,
    /// In the order in which they joined.
    pub hosts: Vec<Host>,
}

/// Names of hosts, as many as anybody wants here.
fn name_of(nr: usize) -> String {
    format!("host{nr:02}")
}

impl Lab {
    /// `count` running hosts of one cluster, in a fresh directory below `work`.
    pub fn new(work: &Path, count: usize) -> Result<Lab> {
        Lab::with(work, count, Ok)
    }

    /// The same; `change` has the last word on each host before it is made known.
    pub fn with(
        work: &Path,
        count: usize,
        mut change: impl FnMut(Host) -> Result<Host>,
    ) -> Result<Lab> {
        let base = work.join("cluster");
        if base.exists() {
            std::fs::remove_dir_all(&base)?;
        }
        let mars = match std::env::var_os(DAEMONS) {
            Some(other) => PathBuf::from(other),
            None => std::env::current_exe()?,
        };
        let mut hosts: Vec<Host> = Vec::new();
        for nr in 0..count {
            let mut host = change(Host::new(&mars, &base, &name_of(nr))?)?;
            match hosts.first() {
                None => host.create_cluster()?,
                Some(first) => host.join_cluster(first)?,
            }
            host.start()?;
            hosts.push(host);
        }
        Ok(Lab { base, hosts })
    }

    /// The underlying disk of one host.
    pub fn disk(&self, nr: usize) -> PathBuf {
        self.base.join(format!("{}-disk", name_of(nr)))
    }

    /// The first host becomes primary of a fresh resource of `size` bytes. A disk that is there already is taken.
    pub fn create(&self, size: u64) -> Result<()> {
        self.member(0, size, "create-resource")?;
        let primary = |text: &str| text == "1";
        self.hosts[0].wait_view("is-primary", RES, PATIENCE, primary)?;
        Ok(())
    }

    /// Another host becomes a member and is up to date.
    pub fn join(&self, nr: usize, size: u64) -> Result<()> {
        self.member(nr, size, "join-resource")?;
        self.wait_up_to_date(nr)
    }

    /// Until the replica of one host is of use.
    pub fn wait_up_to_date(&self, nr: usize) -> Result<()> {
        let done = |text: &str| text == "UpToDate";
        self.hosts[nr].wait_view("diskstate", RES, PATIENCE, done)?;
        Ok(())
    }

    /// Only the command, without waiting for what it leads to.
    pub fn member(&self, nr: usize, size: u64, verb: &str) -> Result<()> {
        let disk = self.disk(nr);
        if !disk.exists() {
            make_disk(&disk, size)?;
        }
        let disk = disk.display().to_string();
        self.hosts[nr].marsadm(&[verb, RES, &disk])?.ok()?;
        Ok(())
    }

    /// How fio reaches the device of one host.
    pub fn uri(&self, nr: usize) -> String {
        let socket = self.hosts[nr].nbd_socket();
        format!("nbd+unix:///{RES}?socket={}", socket.display())
    }

    /// A conversation with the daemon of one host.
    pub fn control(&self, nr: usize) -> Result<ControlClient> {
        Ok(ControlClient::connect(
            &self.hosts[nr].dir().join("mars.sock"),
        )?)
    }

    /// Bytes of all logs a host has.
    pub fn log_bytes(&self, nr: usize) -> u64 {
        fn below(dir: &Path) -> u64 {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let bytes = entries.map(|entry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => below(&entry.path()),
                Ok(meta) if entry.file_name().to_string_lossy().starts_with("log-") => meta.len(),
                _ => 0,
            });
            bytes.sum()
        }
        below(self.hosts[nr].dir())
    }

    /// Waits until the first host has nothing left to be written back: else it would do that while another is measured.
    pub fn settle(&self) -> Result<()> {
        std::thread::sleep(REPORTED_WITHIN);
        let mut control = self.control(0)?;
        let path = format!("resource-{RES}/replay-{}", self.hosts[0].name());
        until("the writeback", Duration::from_millis(50), || {
            let text = value_of(&mut control, &path)?.unwrap_or_default();
            Ok(text.parse().is_ok_and(|pos: ReplayPos| pos.dirty == 0))
        })?;
        Ok(())
    }

    /// Stops all hosts in order, the first one last.
    pub fn stop(&mut self) -> Result<()> {
        for host in self.hosts.iter_mut().rev() {
            host.stop()?;
        }
        Ok(())
    }
}

/// Sets keys through an open conversation.
pub fn commit(client: &mut ControlClient, changes: Vec<Change>) -> Result<()> {
    let request = Request::Commit {
        changes,
        stamp: None,
        trigger: 0,
    };
    match client.request(&request)? {
        Answer::Committed { .. } => Ok(()),
        other => bail!("a commit was answered by {other:?}"),
    }
}

/// One key that is free for everybody.
pub fn free_key(nr: u64, value: &str) -> Change {
    Change {
        path: format!("userspace/bench/key-{nr:07}"),
        value: Some(value.to_owned()),
    }
}

/// The value of a key through an open conversation.
pub fn value_of(client: &mut ControlClient, path: &str) -> Result<Option<String>> {
    let request = Request::Stat {
        path: path.to_owned(),
    };
    match client.request(&request)? {
        Answer::Entry { entry } => Ok(entry.and_then(|entry| entry.value)),
        other => bail!("a question for a key was answered by {other:?}"),
    }
}

/// A clock for measurements.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Seconds since then.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Milliseconds since then.
    pub fn millis(&self) -> f64 {
        self.seconds() * 1e3
    }
}

/// Looks every `every` until `holds`; seconds it took.
pub fn until(what: &str, every: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<f64> {
    let watch = Stopwatch::start();
    while !holds()? {
        ensure!(
            watch.seconds() < PATIENCE.as_secs_f64(),
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(every);
    }
    Ok(watch.seconds())
}

/// Seconds of processor time a process has used.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = text.rsplit_once(')').context("/proc/PID/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = [11, 12]
        .iter()
        .filter_map(|nr| fields.get(*nr)?.parse::<f64>().ok())
        .sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// MiB of memory a process holds now.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.context("VmRSS")? / 1024.0)
}

/// Bytes the loopback interface has carried. All traffic of a measurement goes through it; so does that of others.
pub fn loopback_bytes() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let first = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    first.context("/proc/net/dev has no loopback interface")
}

/// A bar on standard error for `count` steps.
pub fn bar(count: u64, what: &str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(count);
    bar.set_message(what.to_owned());
    bar
}
