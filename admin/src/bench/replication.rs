//! Secondaries: what unreachable ones cost the writer, how fast logs are shipped and replayed, how late one write is.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;

use super::device::{ALL_BLOCKS, FSYNC, LOADS, SEQUENTIAL_WRITE, fio};
use super::files;
use super::lab::{Lab, PATIENCE, RES, Stopwatch, bar, until};
use super::plot::Curve;
use super::streams::Kind;
use super::table::{Row, Target, median, quantile};
use super::{Common, Found};
use crate::nbd::NbdClient;

/// Samples of the delay of one write, per round.
const DELAY_SAMPLES: u64 = 100;

/// Pause between two of them, so that the line is idle.
const DELAY_PAUSE: Duration = Duration::from_millis(30);

/// Everything about secondaries.
pub fn replication(common: &Common) -> Result<Found> {
    let mut found = Found::default();
    found.rows.extend(unreachable(common)?);
    if common.wants("shipping") {
        found.rows.extend(shipping(common)?);
    }
    if common.wants("delay") {
        found.rows.extend(delay(common)?);
    }
    if common.plot.is_some() && common.wants("curves") {
        found.curves.extend(per_secondary(common)?);
    }
    Ok(found)
}

/// With two configured but unreachable secondaries, against none: the ratio must stay near 1. How near two can be that differ
/// in nothing is measured along with it.
fn unreachable(common: &Common) -> Result<Vec<Row>> {
    let work = common.work()?;
    let mut rows = Vec::new();
    for load in LOADS {
        let what = format!("{} (two secondaries unreachable)", load.name);
        if !common.wants(&what) {
            continue;
        }
        let mut labs = [
            primary(&work.join("unreachable"), common.size(), 2)?,
            primary(&work.join("alone"), common.size(), 0)?,
            primary(&work.join("equal"), common.size(), 0)?,
        ];
        let bar = bar(common.rounds().into(), load.name);
        let mut figures = [const { Vec::new() }; 3];
        for round in 0..common.rounds() as usize {
            // Who comes first changes, so that nobody always finds what a certain other has left in the caches.
            for nr in order(round) {
                for lab in &labs {
                    lab.settle()?;
                }
                figures[nr].push(fio(common, &work, load, &labs[nr].uri(0))?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        for lab in &mut labs {
            lab.stop()?;
        }
        let [with, without, equal] = figures;
        let row = Row::new(what, load.unit(), with).against("no secondaries", without.clone());
        rows.push(row.wanted(Target::RatioAtLeast(0.95)));
        let what = format!("{} (none as well, for comparison)", load.name);
        rows.push(Row::new(what, load.unit(), equal).against("no secondaries", without));
    }
    Ok(rows)
}

/// All six orders of three, one after the other.
fn order(round: usize) -> [usize; 3] {
    let first = round % 3;
    let step = 1 + round / 3 % 2;
    [first, (first + step) % 3, (first + 2 * step) % 3]
}

/// A primary whose `unreachable` secondaries were members, and are dead.
fn primary(work: &Path, size: u64, unreachable: usize) -> Result<Lab> {
    let mut lab = Lab::new(work, 1 + unreachable)?;
    lab.create(size)?;
    for nr in 1..=unreachable {
        lab.join(nr, size)?;
    }
    // Only now: a member that joins waits for the others, also for one that has just died.
    for host in &mut lab.hosts[1..] {
        host.kill()?;
    }
    Ok(lab)
}

/// Lets the secondary miss `size` bytes; what it had before, and the contents of the last block.
fn miss(common: &Common, lab: &Lab, size: u64, round: u8) -> Result<(u64, [u8; 4096])> {
    lab.hosts[1].marsadm(&["pause-fetch", RES])?.ok()?;
    let before = lab.log_bytes(1);
    fio(common, &lab.base, &SEQUENTIAL_WRITE, &lab.uri(0))?;
    let mark = [round.wrapping_add(1); 4096];
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let device = NbdClient::connect(&lab.hosts[0].nbd_socket(), RES).await?;
        device.write(size - 4096, &mark, true).await?;
        device.close().await
    })?;
    // What the primary and the load have left to do shall not be measured.
    wait_for_mark(lab, 0, size, &mark)?;
    rustix::fs::sync();
    Ok((before, mark))
}

/// Lets the secondary miss `size` bytes, then come back; seconds from the command on until its disk has the last write.
fn catch_up(common: &Common, lab: &Lab, size: u64, round: u8) -> Result<f64> {
    let (_, mark) = miss(common, lab, size, round)?;
    let watch = Stopwatch::start();
    lab.hosts[1].marsadm(&["resume-fetch", RES])?.ok()?;
    wait_for_mark(lab, 1, size, &mark)?;
    Ok(watch.seconds())
}

fn wait_for_mark(lab: &Lab, host: usize, size: u64, mark: &[u8]) -> Result<()> {
    let disk = std::fs::File::open(lab.disk(host))?;
    until("the last write", Duration::from_millis(2), || {
        is_there(&disk, size - mark.len() as u64, mark)
    })?;
    Ok(())
}

/// How much of what the secondary lacked arrived, and how fast.
pub struct Arrived {
    /// Bytes that are in its logs now.
    pub bytes: u64,
    /// Seconds since the command.
    pub seconds: f64,
    /// Bytes per second from the moment on at which the first of them were there.
    pub running: f64,
}

/// Lets the secondary miss `size` bytes, then come back for at most `limit`.
pub fn ship_within(
    common: &Common,
    lab: &Lab,
    size: u64,
    round: u8,
    limit: Duration,
) -> Result<Arrived> {
    let (before, _) = miss(common, lab, size, round)?;
    let watch = Stopwatch::start();
    lab.hosts[1].marsadm(&["resume-fetch", RES])?.ok()?;
    let mut first = None;
    loop {
        let (bytes, seconds) = (lab.log_bytes(1).saturating_sub(before), watch.seconds());
        let (begun_at, begun_with) = match first {
            None if bytes == 0 => (seconds, 0),
            None => *first.insert((seconds, bytes)),
            Some(begun) => begun,
        };
        if bytes >= size || seconds >= limit.as_secs_f64() {
            let running = (bytes - begun_with) as f64 / (seconds - begun_at).max(1e-3);
            return Ok(Arrived {
                bytes: bytes.min(size),
                seconds,
                running,
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn shipping(common: &Common) -> Result<Vec<Row>> {
    let (work, size) = (common.work()?, common.size());
    let (mut fetched, mut replayed) = (Vec::new(), Vec::new());
    let mut bare: Vec<Vec<f64>> = vec![Vec::new(); Kind::ALL.len()];
    let (mut plain, mut disk, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    let mut lab = Lab::new(&work, 2)?;
    lab.create(size)?;
    lab.join(1, size)?;
    let bar = bar(common.rounds().into(), "log shipping");
    let megabytes = |seconds: f64| size as f64 / 1e6 / seconds;
    for round in 0..common.rounds() {
        let mark = 2 * round as u8;
        lab.hosts[1].marsadm(&["pause-replay", RES])?.ok()?;
        let arrived = ship_within(common, &lab, size, mark, PATIENCE)?;
        fetched.push(arrived.running / 1e6);
        lab.hosts[1].marsadm(&["resume-replay", RES])?.ok()?;
        wait_for_mark(&lab, 1, size, &[mark.wrapping_add(1); 4096])?;
        for (kind, rates) in Kind::ALL.iter().zip(&mut bare) {
            rates.push(kind.rate(size)?);
        }
        plain.push(files::ship(&work, size)?);
        replayed.push(megabytes(catch_up(common, &lab, size, mark + 1)?));
        disk.push(files::write(&work, size, 1)?);
        twice.push(files::write(&work, size, 2)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    lab.stop()?;
    let slower: Vec<f64> = std::iter::zip(&disk, &bare[0])
        .map(|(disk, line)| disk.min(*line))
        .collect();
    let catch_up = || Row::new("catch-up: fetch and replay", "MB/s", replayed.clone());
    let mut rows = vec![
        catch_up()
            .against("slower of disk and line", slower)
            .wanted(Target::RatioAtLeast(0.8)),
        catch_up().against("a file written and flushed", disk),
        // The log and the replica.
        catch_up().against("two files at the same time", twice),
    ];
    let targets = [Some(0.8), Some(0.5), None, None];
    let peers = Kind::ALL.iter().map(|kind| kind.name()).zip(bare);
    let peers = peers.chain([("the same without us", plain)]);
    for ((name, rates), target) in peers.zip(targets) {
        let mut row =
            Row::new("log shipping, loopback", "MB/s", fetched.clone()).against(name, rates);
        row.target = target.map(Target::RatioAtLeast);
        rows.push(row);
    }
    Ok(rows)
}

/// One write at a time, until the disk of the secondary has it.
fn delay(common: &Common) -> Result<Vec<Row>> {
    let (work, size) = (common.work()?, 64 << 20);
    let mut lab = Lab::new(&work, 2)?;
    lab.create(size)?;
    lab.join(1, size)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let device = runtime.block_on(NbdClient::connect(&lab.hosts[0].nbd_socket(), RES))?;
    let disk = std::fs::File::open(lab.disk(1))?;
    let mut rounds = Vec::new();
    for round in 0..common.rounds() {
        let mut samples = Vec::new();
        for nr in 0..DELAY_SAMPLES {
            std::thread::sleep(DELAY_PAUSE);
            let at = (nr * 97 % (size / 4096)) * 4096;
            let mark = Bytes::from(vec![(nr as u8) ^ (round as u8) | 1; 4096]);
            runtime.block_on(device.zero(at, 4096))?;
            runtime.block_on(device.flush())?;
            until("zeros", Duration::from_micros(200), || {
                is_there(&disk, at, &[0; 4096])
            })?;
            runtime.block_on(device.write(at, &mark, true))?;
            let late = until("the write", Duration::from_micros(200), || {
                is_there(&disk, at, &mark)
            })?;
            samples.push(late * 1e3);
        }
        rounds.push(samples);
    }
    runtime.block_on(device.close())?;
    lab.stop()?;
    let at = |q: f64| rounds.iter().map(|r| quantile(r, q)).collect();
    Ok(vec![
        Row::new(
            "write acknowledged → on the secondary's disk, p50",
            "ms",
            at(0.5),
        ),
        Row::new(
            "write acknowledged → on the secondary's disk, p99",
            "ms",
            at(0.99),
        )
        .wanted(Target::AtMost(100.0)),
    ])
}

fn is_there(disk: &std::fs::File, at: u64, want: &[u8]) -> Result<bool> {
    let mut seen = vec![0; want.len()];
    disk.read_exact_at(&mut seen, at)?;
    Ok(seen == want)
}

/// What each further live secondary, on the same cores and disk, costs the writer.
fn per_secondary(common: &Common) -> Result<Vec<Curve>> {
    let work = common.work()?;
    let size = 64 << 20;
    let (mut latencies, mut rates) = (Vec::new(), Vec::new());
    let common = &Common {
        bytes: Some(size),
        ..common.clone()
    };
    for count in 0..=4 {
        let mut lab = Lab::new(&work, count + 1)?;
        lab.create(size)?;
        for nr in 1..=count {
            lab.join(nr, size)?;
        }
        let rounds = 0..common.rounds().min(3);
        let median_of = |load| {
            let figures = rounds.clone().map(|_| {
                lab.settle()?;
                fio(common, &work, load, &lab.uri(0))
            });
            Ok::<f64, anyhow::Error>(median(&figures.collect::<Result<Vec<f64>>>()?))
        };
        latencies.push((count as f64, 1e6 / median_of(&FSYNC)?));
        rates.push((count as f64, median_of(&ALL_BLOCKS)?));
        lab.stop()?;
    }
    let curve = |name, title: &str, y, points| Curve {
        name,
        title: title.to_owned(),
        x: "live secondaries on the same two cores and disk",
        y,
        log_x: false,
        points,
    };
    let latency = "4 KiB write + flush, depth 1, by secondaries";
    let rate = "64 MiB of 4 KiB random writes, depth 32, flush, by secondaries";
    Ok(vec![
        curve("write-latency-by-secondaries", latency, "µs", latencies),
        curve("write-rate-by-secondaries", rate, "MiB/s", rates),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::order;

    #[test]
    fn six_rounds_have_all_orders() {
        let orders: BTreeSet<[usize; 3]> = (0..6).map(order).collect();
        assert_eq!(orders.len(), 6);
        for mut order in orders {
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
        }
    }
}
