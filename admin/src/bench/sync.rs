//! The first copy of a disk: how fast, and what it sends when both disks are equal already.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, RES, Stopwatch, bar, loopback_bytes, until, value_of};
use super::table::{Row, Target};
use super::{Common, Found};

/// Both kinds.
pub fn sync(common: &Common) -> Result<Found> {
    let mut rows = Vec::new();
    if common.wants("equal") {
        rows.extend(copies(common, true)?);
    }
    if common.wants("empty") {
        rows.extend(copies(common, false)?);
    }
    let curves = Vec::new();
    Ok(Found { rows, curves })
}

/// What a user would copy a disk with.
const PEERS: &[(&str, &[&str])] = &[
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

fn copies(common: &Common, equal: bool) -> Result<Vec<Row>> {
    let (work, size) = (common.work()?, common.size());
    let name = if equal {
        "sync of equal disks"
    } else {
        "sync to an empty disk"
    };
    let bar = bar(common.rounds().into(), name);
    let (mut ours, mut share, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    let peers: Vec<_> = PEERS
        .iter()
        .filter(|p| common.peers && is_there(p))
        .collect();
    let mut theirs: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
    for _ in 0..common.rounds() {
        let (rate, wire) = one(&work, size, equal)?;
        ours.push(rate);
        share.push(100.0 * wire / size as f64);
        let source = work.join("cluster/host00-disk");
        reading.push(read_rate(&source, size)?);
        for (peer, rates) in peers.iter().zip(&mut theirs) {
            rates.push(copy(
                peer.1,
                &source,
                &work.join("cluster/host01-disk"),
                size,
                equal,
            )?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut against_reading =
        Row::new(name, "MB/s", ours.clone()).against("reading the disk", reading);
    let mut wire = Row::new(format!("{name}: bytes on the wire"), "% of its size", share);
    if equal {
        against_reading = against_reading.wanted(Target::RatioAtLeast(0.8));
        wire = wire.wanted(Target::AtMost(0.1));
    }
    let mut rows = vec![against_reading, wire];
    for (peer, rates) in peers.iter().zip(theirs) {
        rows.push(Row::new(name, "MB/s", ours.clone()).against(peer.0, rates));
    }
    Ok(rows)
}

/// MB/s and bytes on the loopback interface of one sync.
fn one(work: &Path, size: u64, equal: bool) -> Result<(f64, f64)> {
    let mut lab = Lab::new(work, 2)?;
    fill(&lab.disk(0), size)?;
    if equal {
        std::fs::copy(lab.disk(0), lab.disk(1))?;
        // Else the syncer's flush would write this copy.
        std::fs::File::open(lab.disk(1))?.sync_all()?;
    }
    lab.create(size)?;
    let wire = loopback_bytes()?;
    let watch = Stopwatch::start();
    lab.member(1, size, "join-resource")?;
    until_synced(&lab, size)?;
    let (seconds, wire) = (watch.seconds(), loopback_bytes()? - wire);
    lab.stop()?;
    Ok((size as f64 / 1e6 / seconds, wire))
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

fn read_rate(path: &Path, size: u64) -> Result<f64> {
    let mut file = std::fs::File::open(path)?;
    let watch = Stopwatch::start();
    let mut buffer = vec![0; 1 << 20];
    while std::io::Read::read(&mut file, &mut buffer)? > 0 {}
    Ok(size as f64 / 1e6 / watch.seconds())
}

fn is_there(peer: &(&str, &[&str])) -> bool {
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
