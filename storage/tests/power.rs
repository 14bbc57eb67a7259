//! The tree store on a device that loses unflushed writes when the power goes, and on a full disk.
//!
//! Real parts: ext4 on a loop device; below it a block device whose write cache dies with its
//! process (`nbdkit` with a write-back cache, seen through FUSE). The store runs in a child
//! process, because it must neither panic nor hang there. Needs root and these tools; without them
//! the tests say so and pass.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail like tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use storage::{Fs as _, Opened, RealFs, Reserve, SledOptions, SledStore, StoreError, TreeStore};
use tree::{Entry, Host, Issue, Stamp, Value};

const ROUNDS: u64 = 20;
/// Longer than any single step may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Tells a child what to do and where.
const JOB: &str = "MARS_TEST_STORE_JOB";
const DIR: &str = "MARS_TEST_STORE_DIR";
const RESERVE: &str = "MARS_TEST_STORE_RESERVE";
/// Keys that every commit sets to the same value.
const TOGETHER: u64 = 9;

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let Some(dir) = place_for_test(&["nbdkit", "nbdfuse"]) else {
        return;
    };
    let image = dir.path().join("disk.img");
    fs::File::create(&image)
        .unwrap()
        .set_len(128 << 20)
        .unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut device = VolatileDevice::start(dir.path(), &image);
        let mount = Mount::new(device.disk(), dir.path().join("mnt"), round == 0);
        let mut child = StoreChild::start("write", &mount.at.join("tree"), 0);
        let found = child.number("loaded");
        assert!(
            found >= acknowledged,
            "round {round}: {acknowledged} was acknowledged, {found} found"
        );
        for _ in 0..5 + round * 37 % 101 {
            acknowledged = child.number("ack");
        }
        device.cut_power();
        acknowledged = child.kill().max(acknowledged);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_every_start_succeeds_after_the_disk_was_full() {
    let Some(dir) = place_for_test(&[]) else {
        return;
    };
    for round in 0..ROUNDS {
        // Every other round there is nothing to give up.
        let reserve = [4 << 20, 0][round as usize % 2];
        let image = dir.path().join("disk.img");
        fs::File::create(&image).unwrap().set_len(40 << 20).unwrap();
        let mount = Mount::new(&image, dir.path().join("mnt"), true);
        let tree = mount.at.join("tree");
        let mut child = StoreChild::start("write", &tree, reserve);
        child.number("loaded");
        for _ in 0..20 {
            child.number("ack");
        }
        let filler = mount.at.join("filler");
        fill_up(&filler, round * 4096);
        let acknowledged = child.last_before_full();
        drop(child);
        // While it is full: with a reserve it opens, without one it says that it is full. Nothing else.
        let mut child = StoreChild::start("look", &tree, reserve);
        let found = child.number_or_full("loaded");
        assert!(
            found.is_some() || reserve == 0,
            "round {round}: not even with a reserve"
        );
        if let Some(found) = found {
            assert!(
                found >= acknowledged,
                "round {round}: {acknowledged} acknowledged, {found} found"
            );
        }
        drop(child);
        fs::remove_file(&filler).unwrap();
        let mut child = StoreChild::start("write", &tree, reserve);
        let found = child.number("loaded");
        assert!(
            found >= acknowledged,
            "round {round}: {acknowledged} acknowledged, {found} found"
        );
        child.number("ack");
    }
}

/// Not a test of its own: what the child processes of the tests above do.
#[test]
fn child_process() {
    let (Ok(job), Some(dir)) = (std::env::var(JOB), std::env::var_os(DIR)) else {
        return;
    };
    let options = SledOptions {
        cache_bytes: 4 << 20,
        lock_tries: 20,
    };
    let dir = Path::new(&dir);
    let reserve = Reserve::new(Arc::new(RealFs), dir.parent().unwrap());
    let is_full = |e: &StoreError| matches!(e, StoreError::Full { .. });
    let (mut store, opened) = match reserve.spend(is_full, || SledStore::open(dir, options)) {
        Ok(opened) => opened,
        Err(e) => return report_failure(&e),
    };
    assert!(!matches!(opened, Opened::Incomplete { .. }), "{opened:?}");
    assert_eq!(store.must_resync(), None);
    let found = check_contents(store.load().unwrap());
    let wanted: u64 = std::env::var(RESERVE).unwrap().parse().unwrap();
    let free = || RealFs.free_space(dir).unwrap().free;
    while job != "look" && reserve.grow(2 * wanted, free()).unwrap() {}
    say(&format!("loaded {found}"));
    if job == "look" {
        return;
    }
    for nr in found + 1.. {
        match store.commit(&changes(nr)) {
            Ok(()) => say(&format!("ack {nr}")),
            Err(e) => return report_failure(&e),
        }
    }
}

fn report_failure(e: &StoreError) {
    match e {
        StoreError::Full { .. } => say("full 0"),
        e => say(&format!("failed {e}")),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // The parent may be gone already.
    let _ = writeln!(out, "\n{line}").and_then(|()| out.flush());
}

/// Commit `nr`: some keys that are always set, and one of a thousand others.
fn changes(nr: u64) -> Vec<(tree::Path, Option<Entry>)> {
    let host = Host::new("alpha").unwrap();
    let entry = Entry {
        value: Value::text(&nr.to_string()).unwrap(),
        stamp: Stamp::new(nr, &host),
        issue: Issue { writer: host, nr },
        lazy: false,
    };
    let others = std::iter::once(format!("userspace/other-{}", nr % 1000));
    let together = (0..TOGETHER).map(|i| format!("userspace/together-{i}"));
    together
        .chain(others)
        .map(|path| (tree::Path::new(&path).unwrap(), Some(entry.clone())))
        .collect()
}

/// The number of the last commit, after a look at whether each was done as a whole.
fn check_contents(entries: Vec<(tree::Path, Entry)>) -> u64 {
    let found: BTreeMap<String, u64> = entries
        .into_iter()
        .map(|(path, entry)| (path.to_string(), entry.text().unwrap().parse().unwrap()))
        .collect();
    let last = found.get("userspace/together-0").copied().unwrap_or(0);
    let mut wanted = BTreeMap::new();
    for nr in last.saturating_sub(1000) + 1..=last {
        wanted.extend(
            changes(nr)
                .into_iter()
                .map(|(path, _)| (path.to_string(), nr)),
        );
    }
    assert_eq!(
        found, wanted,
        "every commit as a whole, none missing before {last}"
    );
    last
}

/// A directory to work in, unless something is missing.
fn place_for_test(tools: &[&str]) -> Option<tempfile::TempDir> {
    let root = rustix::process::geteuid().is_root();
    let missing = ["losetup", "mkfs.ext4", "mount", "umount"]
        .iter()
        .chain(tools)
        .find(|tool| !is_there(tool));
    let devices = ["/dev/fuse", "/dev/loop-control"]
        .iter()
        .find(|path| !Path::new(path).exists());
    let why = match (root, missing, devices) {
        (false, ..) => "it needs root to mount a file system".to_owned(),
        (_, Some(tool), _) => format!("{tool} is not installed"),
        (_, _, Some(device)) => format!("there is no {device}"),
        _ => return Some(tempfile::tempdir().unwrap()),
    };
    eprintln!("SKIPPED: {why}");
    None
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/sbin"), PathBuf::from("/usr/sbin")];
    std::env::split_paths(&path)
        .chain(more)
        .any(|dir| dir.join(tool).exists())
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..600 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not appear");
}

/// Takes all space but `leave` bytes.
fn fill_up(path: &Path, leave: u64) {
    let mut file = fs::File::create(path).unwrap();
    for chunk in [1 << 20, 4096] {
        while file.write_all(&vec![1; chunk]).is_ok() {}
    }
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(leave)).unwrap();
    file.sync_all().unwrap();
}

/// A process of ours that does not outlive its owner.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        Process(
            command
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    fn kill(&mut self) {
        // Ends at once if it has ended before.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A disk in a file, whose unflushed writes live in a process only.
struct VolatileDevice {
    server: Process,
    fuse: Process,
    at: PathBuf,
    disk: PathBuf,
}

impl VolatileDevice {
    fn start(dir: &Path, image: &Path) -> VolatileDevice {
        let (socket, at) = (dir.join("nbd.sock"), dir.join("fuse"));
        // Left behind by the last power cut.
        let _ = fs::remove_file(&socket);
        fs::create_dir_all(&at).unwrap();
        let mut server = Command::new("nbdkit");
        server
            .args(["-f", "--filter=cache", "-U"])
            .arg(&socket)
            .arg("file")
            .arg(image)
            .arg("cache=writeback");
        let server = Process::start(&mut server);
        wait_for("the socket of nbdkit", || socket.exists());
        let disk = at.join("disk");
        let fuse = Process::start(
            Command::new("nbdfuse")
                .arg(&disk)
                .arg("--unix")
                .arg(&socket),
        );
        wait_for("the disk of nbdfuse", || disk.exists());
        VolatileDevice {
            server,
            fuse,
            at,
            disk,
        }
    }

    fn disk(&self) -> &Path {
        &self.disk
    }

    /// What was not flushed is gone.
    fn cut_power(&mut self) {
        self.server.kill();
    }
}

impl Drop for VolatileDevice {
    fn drop(&mut self) {
        self.server.kill();
        // It may have unmounted itself.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        self.fuse.kill();
    }
}

/// An ext4 on a loop device.
struct Mount {
    loop_device: String,
    at: PathBuf,
}

impl Mount {
    fn new(disk: &Path, at: PathBuf, format: bool) -> Mount {
        fs::create_dir_all(&at).unwrap();
        let loop_device = run(Command::new("losetup").args(["--find", "--show"]).arg(disk));
        let mount = Mount { loop_device, at };
        if format {
            run(Command::new("mkfs.ext4").arg("-q").arg(&mount.loop_device));
        }
        run(Command::new("mount").arg(&mount.loop_device).arg(&mount.at));
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: below it the power may be gone.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        let _ = Command::new("losetup")
            .arg("-d")
            .arg(&self.loop_device)
            .output();
    }
}

/// A process with an open store, and the lines it says.
struct StoreChild {
    process: Process,
    lines: Receiver<String>,
}

impl StoreChild {
    fn start(job: &str, dir: &Path, reserve: u64) -> StoreChild {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child_process", "--nocapture"])
            .env(JOB, job)
            .env(DIR, dir)
            .env(RESERVE, reserve.to_string());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        StoreChild {
            process: Process(child),
            lines,
        }
    }

    /// The next thing it says: a word and the rest.
    fn next(&self) -> Option<(String, String)> {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the store hangs"),
            };
            let (word, rest) = line.split_once(' ').unwrap_or_default();
            if ["loaded", "ack", "full", "failed"].contains(&word) {
                return Some((word.to_owned(), rest.to_owned()));
            }
        }
    }

    fn number(&mut self, wanted: &str) -> u64 {
        match self.next() {
            Some((word, rest)) if word == wanted => rest.parse().unwrap(),
            other => panic!("expected {wanted}, the child said {other:?}"),
        }
    }

    fn number_or_full(&mut self, wanted: &str) -> Option<u64> {
        match self.next() {
            Some((word, rest)) if word == wanted => Some(rest.parse().unwrap()),
            Some((word, _)) if word == "full" => None,
            other => panic!("expected {wanted} or full, the child said {other:?}"),
        }
    }

    /// The last number it acknowledged before it found the disk full.
    fn last_before_full(&mut self) -> u64 {
        let mut last = 0;
        while let Some(nr) = self.number_or_full("ack") {
            last = nr;
        }
        last
    }

    /// Kills it; the last number that it had acknowledged.
    fn kill(&mut self) -> u64 {
        self.process.kill();
        let mut last = 0;
        while let Some((word, rest)) = self.next() {
            if word == "ack" {
                last = rest.parse().unwrap();
            }
        }
        last
    }
}
