//! The first copy of a disk: how fast, and what it sends when both disks are equal already.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::Advice;

use super::lab::{Lab, RES, Stopwatch, bar, loopback_bytes, until, value_of};
use super::table::{Row, Target};
use super::{Common, Found};

/// Both kinds.
pub fn sync(common: &Common) -> Result<Found> {
    let mut rows = Vec::new();
    if common.wants("equal") {
        rows.extend(equal_disks(common)?);
    }
    if common.wants("empty") {
        rows.extend(empty_disk(common)?);
    }
    let curves = Vec::new();
    Ok(Found { rows, curves })
}

/// Where both disks are read from.
#[derive(Debug, Clone, Copy)]
enum ReadFrom {
    /// Nothing of them is in memory at the beginning.
    Medium,
    /// All of them is in memory.
    Memory,
}

impl ReadFrom {
    const BOTH: [ReadFrom; 2] = [ReadFrom::Medium, ReadFrom::Memory];

    fn name(self) -> &'static str {
        match self {
            ReadFrom::Medium => "read from the medium",
            ReadFrom::Memory => "read from memory",
        }
    }

    fn prepare(self, disks: &[PathBuf; 2]) -> Result<()> {
        for disk in disks {
            let file = std::fs::File::open(disk)?;
            // Only what is written can leave the page cache.
            file.sync_all()?;
            match self {
                ReadFrom::Medium => rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?,
                ReadFrom::Memory => read_all(disk)?,
            }
        }
        Ok(())
    }
}

/// Its name, and how it is called.
type Copier = (&'static str, &'static [&'static str]);

/// What a user would copy a disk with.
const PEERS: &[Copier] = &[
    ("rsync --inplace", &["rsync", "--inplace", "FROM", "TO"]),
    (
        "dd",
        &[
            "dd",
            "if=FROM",
            "of=TO",
            "bs=1M",
            "conv=notrunc",
            "status=none",
        ],
    ),
    ("nbdcopy", &["nbdcopy", "FROM", "TO"]),
];

/// A member whose disk is equal already syncs again and again. Both hosts read here, on one machine and one medium, so it is
/// compared with two threads that read one disk each from its beginning to its end and do nothing else.
fn equal_disks(common: &Common) -> Result<Vec<Row>> {
    let (work, size) = (common.work()?, 2 * common.size());
    let peers = peers(common);
    let mut lab = Lab::new(&work, 2)?;
    let disks = [lab.disk(0), lab.disk(1)];
    fill(&disks[0], size)?;
    std::fs::copy(&disks[0], &disks[1])?;
    lab.create(size)?;
    lab.join(1, size)?;
    let mut figures = ReadFrom::BOTH.map(|from| (from, Vec::new(), Vec::new()));
    let (mut share, mut theirs) = (Vec::new(), vec![Vec::new(); peers.len()]);
    let bar = bar(common.rounds().into(), "sync of equal disks");
    for _ in 0..common.rounds() {
        for (from, ours, reading) in &mut figures {
            from.prepare(&disks)?;
            let wire = loopback_bytes()?;
            ours.push(rate(size, || sync_again(&lab, size))?);
            share.push(100.0 * (loopback_bytes()? - wire) / size as f64);
            from.prepare(&disks)?;
            reading.push(rate(size, || read_at_once(&disks))?);
        }
        for (peer, rates) in peers.iter().zip(&mut theirs) {
            ReadFrom::Medium.prepare(&disks)?;
            rates.push(copy(peer.1, &disks[0], &disks[1], size, true)?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    lab.stop()?;
    Ok(rows_of_equal(figures, share, &peers, theirs))
}

type ByPlace = [(ReadFrom, Vec<f64>, Vec<f64>); 2];

fn rows_of_equal(
    figures: ByPlace,
    share: Vec<f64>,
    peers: &[&Copier],
    theirs: Vec<Vec<f64>>,
) -> Vec<Row> {
    let name = |from: ReadFrom| format!("sync of equal disks, {}", from.name());
    let cold = figures[0].1.clone();
    let against_reading = |(from, ours, reading): (ReadFrom, _, _)| {
        let row = Row::new(name(from), "MB/s", ours).against("reading both at once", reading);
        match from {
            ReadFrom::Medium => row.wanted(Target::RatioAtLeast(0.8)),
            ReadFrom::Memory => row,
        }
    };
    let mut rows: Vec<Row> = figures.into_iter().map(against_reading).collect();
    let wire = Row::new(
        "sync of equal disks: bytes on the wire",
        "% of its size",
        share,
    );
    rows.push(wire.wanted(Target::AtMost(0.1)));
    let peers = peers.iter().zip(theirs).map(|(peer, rates)| {
        Row::new(name(ReadFrom::Medium), "MB/s", cold.clone()).against(peer.0, rates)
    });
    rows.extend(peers);
    rows
}

/// The second host forgets what it has, and is up to date again.
fn sync_again(lab: &Lab, size: u64) -> Result<()> {
    lab.hosts[1].marsadm(&["invalidate", RES])?.ok()?;
    until_synced(lab, size).map(drop)
}

/// A fresh member with nothing on its disk.
fn empty_disk(common: &Common) -> Result<Vec<Row>> {
    let (work, size) = (common.work()?, common.size());
    let peers = peers(common);
    let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); peers.len()]);
    let bar = bar(common.rounds().into(), "sync to an empty disk");
    for _ in 0..common.rounds() {
        let mut lab = Lab::new(&work, 2)?;
        let disks = [lab.disk(0), lab.disk(1)];
        fill(&disks[0], size)?;
        lab.create(size)?;
        ours.push(rate(size, || {
            lab.member(1, size, "join-resource")?;
            until_synced(&lab, size).map(drop)
        })?);
        lab.stop()?;
        for (peer, rates) in peers.iter().zip(&mut theirs) {
            rates.push(copy(peer.1, &disks[0], &disks[1], size, false)?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let row = || Row::new("sync to an empty disk", "MB/s", ours.clone());
    if peers.is_empty() {
        return Ok(vec![row()]);
    }
    let pairs = peers.iter().zip(theirs);
    Ok(pairs
        .map(|(peer, rates)| row().against(peer.0, rates))
        .collect())
}

/// MB/s at which `size` bytes are through when `work` has ended.
fn rate(size: u64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let watch = Stopwatch::start();
    work()?;
    Ok(size as f64 / 1e6 / watch.seconds())
}

/// Until the second host's disk has been synced; the seconds from which on, and the bytes with which, it was under way.
pub fn until_synced(lab: &Lab, size: u64) -> Result<(f64, u64)> {
    let mut control = lab.control(1)?;
    let path = format!("resource-{RES}/syncstatus-{}", lab.hosts[1].name());
    let (watch, mut begun) = (Stopwatch::start(), None);
    until("the sync", Duration::from_millis(5), || {
        let text = value_of(&mut control, &path)?.unwrap_or_default();
        let done = text.parse().unwrap_or(0);
        if done > 0 && begun.is_none() {
            begun = Some((watch.seconds(), done));
        }
        Ok(done == size)
    })?;
    Ok(begun.unwrap_or_default())
}

/// Contents that no one can shorten.
pub fn fill(path: &Path, size: u64) -> Result<()> {
    let random = std::fs::File::open("/dev/urandom")?;
    let mut file = std::fs::File::create(path)?;
    std::io::copy(&mut std::io::Read::take(random, size), &mut file)?;
    file.sync_all()?;
    Ok(())
}

fn read_all(path: &Path) -> Result<()> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    while std::io::Read::read(&mut file, &mut buffer)? > 0 {}
    Ok(())
}

/// Both by a thread of its own each.
fn read_at_once(disks: &[PathBuf; 2]) -> Result<()> {
    std::thread::scope(|threads| {
        let other = threads.spawn(|| read_all(&disks[1]));
        read_all(&disks[0])?;
        other.join().expect("it does nothing that could panic")
    })
}

/// The copiers that are installed.
fn peers(common: &Common) -> Vec<&'static Copier> {
    let wanted = PEERS.iter().filter(|_| common.peers);
    wanted.filter(|peer| is_there(peer)).collect()
}

fn is_there(peer: &Copier) -> bool {
    let run = Command::new(peer.1[0])
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = run.is_ok_and(|status| status.success());
    if !found {
        eprintln!("peer {} is not installed and not measured", peer.0);
    }
    found
}

fn copy(words: &[&str], from: &Path, to: &Path, size: u64, equal: bool) -> Result<f64> {
    if !equal {
        std::fs::File::create(to)?.set_len(size)?;
    } else {
        // rsync takes equal times for equal contents; it shall compare them.
        std::fs::File::options()
            .write(true)
            .open(to)?
            .set_modified(std::time::UNIX_EPOCH)?;
    }
    let fill = |word: &&str| {
        word.replace("FROM", &from.display().to_string())
            .replace("TO", &to.display().to_string())
    };
    let words: Vec<String> = words.iter().map(fill).collect();
    let watch = Stopwatch::start();
    let status = Command::new(&words[0])
        .args(&words[1..])
        .status()
        .with_context(|| format!("run {}", words[0]))?;
    ensure!(status.success(), "{}: {status}", words[0]);
    std::fs::File::open(to)?.sync_all()?;
    Ok(size as f64 / 1e6 / watch.seconds())
}
