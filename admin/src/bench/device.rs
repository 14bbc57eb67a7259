//! The device at the primary, loaded by fio: against other NBD servers on the same file system, and
//! against what the file system itself can do.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::lab::{Lab, RES, Stopwatch, bar, resident_mib};
use super::peers::Kind;
use super::plot::Curve;
use super::table::{Row, Target};
use super::{Common, Found};
use crate::nbd::NbdClient;

/// When a load ends, and what it is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// After some seconds: operations a second.
    ByTime,
    /// When the whole device is through, with a flush where it says so: MiB a second, that flush included.
    WholeDevice,
    /// When so much is written as its flags say: operations a second.
    ByFlags,
}

/// One fio job and how its result is read.
pub struct Load {
    /// For the table.
    pub name: &'static str,
    flags: &'static [&'static str],
    ends: Ends,
    target: Option<f64>,
}

impl Load {
    /// Unit of its figure; more is better.
    pub fn unit(&self) -> &'static str {
        match self.ends {
            Ends::WholeDevice => "MiB/s",
            Ends::ByTime | Ends::ByFlags => "IOPS",
        }
    }
}

/// One write at a time, each flushed.
pub const FSYNC: Load = Load {
    name: "4k random write, fsync each, depth 1",
    flags: &["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"],
    ends: Ends::ByTime,
    target: Some(1.3),
};

/// Every block once, in a mixed order.
pub const ALL_BLOCKS: Load = Load {
    name: "4k random write, depth 32, all blocks once, flush",
    flags: &["--rw=randwrite", "--bs=4k", "--iodepth=32", "--end_fsync=1"],
    ends: Ends::WholeDevice,
    target: Some(1.0),
};

/// The whole device from its beginning to its end.
pub const SEQUENTIAL_WRITE: Load = Load {
    name: "1M sequential write, flush",
    flags: &["--rw=write", "--bs=1M", "--iodepth=8", "--end_fsync=1"],
    ends: Ends::WholeDevice,
    target: Some(0.5),
};

/// The loads with targets, and the mix.
pub const LOADS: &[Load] = &[
    FSYNC,
    ALL_BLOCKS,
    Load {
        name: "4k random read, depth 32",
        flags: &["--rw=randread", "--bs=4k", "--iodepth=32"],
        ends: Ends::ByTime,
        target: Some(0.9),
    },
    Load {
        name: "1M sequential read",
        flags: &["--rw=read", "--bs=1M", "--iodepth=8"],
        ends: Ends::WholeDevice,
        target: Some(0.9),
    },
    SEQUENTIAL_WRITE,
    Load {
        name: "4k 70/30 mix, depth 32",
        flags: &["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=32"],
        ends: Ends::ByTime,
        target: None,
    },
];

/// One write after the other, too few to fill the write buffer much further.
const SINGLE: Load = Load {
    name: "4k random write, depth 1, 8 MiB",
    flags: &["--rw=randwrite", "--bs=4k", "--iodepth=1", "--io_size=8m"],
    ends: Ends::ByFlags,
    target: None,
};

/// Writes at full speed, a part of the write buffer at a time.
const FILL: Load = Load {
    name: "4k random write, depth 32, 64 MiB",
    flags: &["--rw=randwrite", "--bs=4k", "--iodepth=32", "--io_size=64m"],
    ends: Ends::ByFlags,
    target: None,
};

/// Our device against the peers that are installed.
pub fn device(common: &Common) -> Result<Found> {
    let work = common.work()?;
    let peers: Vec<Kind> = if common.peers {
        installed()
    } else {
        Vec::new()
    };
    let mut found = Found::default();
    for load in LOADS.iter().filter(|load| common.wants(load.name)) {
        let mut ours = Vec::new();
        let mut theirs: Vec<Vec<f64>> = peers.iter().map(|_| Vec::new()).collect();
        let mut limit = Vec::new();
        let bar = bar(common.rounds().into(), load.name);
        for _ in 0..common.rounds() {
            ours.push(measure_ours(common, &work, load)?);
            for (kind, figures) in peers.iter().zip(&mut theirs) {
                let peer = kind.start(&work, common.size())?;
                figures.push(fio(common, &work, load, &peer.uri())?);
            }
            if load.name == FSYNC.name {
                limit.push(flushes_per_second(common, &work)?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if !limit.is_empty() {
            let row = Row::new(load.name, load.unit(), ours.clone());
            found
                .rows
                .push(row.against("the file system itself", limit));
        }
        found.rows.extend(rows_of(load, &ours, &peers, theirs));
    }
    if common.plot.is_some() && common.wants("curves") {
        found.curves.extend(overlay_fill(common, &work)?);
        found.curves.push(memory_by_size(common, &work)?);
        found.curves.push(memory_by_connections(common, &work)?);
    }
    Ok(found)
}

/// What is physically possible: 4 KiB and a head of 64 bytes, one behind the other into zeros written before, each with
/// its `fdatasync`, by one thread that does nothing else.
fn flushes_per_second(common: &Common, work: &Path) -> Result<f64> {
    let path = work.join("plain");
    let file = std::fs::File::create(&path)?;
    let zeros = vec![0; 1 << 20];
    for mib in 0..64 {
        file.write_all_at(&zeros, mib << 20)?;
    }
    file.sync_all()?;
    let record = [7; 4096 + 64];
    let (watch, mut count) = (Stopwatch::start(), 0u64);
    while watch.seconds() < f64::from(common.seconds()) / 2.0 {
        let places = (64 << 20) / record.len() as u64;
        file.write_all_at(&record, count % places * record.len() as u64)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / watch.seconds();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Rate, latency and memory while the write buffer fills.
fn overlay_fill(common: &Common, work: &Path) -> Result<Vec<Curve>> {
    let common = &Common {
        bytes: Some(1 << 30),
        ..common.clone()
    };
    let mut lab = Lab::new(work, 1)?;
    lab.create(common.size())?;
    let pid = lab.hosts[0].pid().context("the daemon runs")?;
    let (mut rates, mut latencies) = (Vec::new(), Vec::new());
    let mut memory = vec![(0.0, resident_mib(pid)?)];
    for step in 1..=7 {
        let mib = f64::from(step) * 64.0;
        rates.push((mib, fio(common, work, &FILL, &lab.uri(0))?));
        memory.push((mib, resident_mib(pid)?));
    }
    lab.settle()?;
    for step in 0..7 {
        // Those single writes count, too.
        let mib = f64::from(step) * (64.0 + 8.0);
        let single = fio(common, work, &SINGLE, &lab.uri(0))?;
        latencies.push((mib, 1e6 / single));
        fio(common, work, &FILL, &lab.uri(0))?;
    }
    lab.stop()?;
    Ok(vec![
        Curve {
            name: "write-rate-by-overlay",
            title: "4 KiB random writes, depth 32, while the write buffer fills".into(),
            x: "MiB written",
            y: "writes per second",
            log_x: false,
            points: rates,
        },
        Curve {
            name: "write-latency-by-overlay",
            title: "4 KiB random writes, depth 1, while the write buffer fills".into(),
            x: "MiB written before",
            y: "µs",
            log_x: false,
            points: latencies,
        },
        Curve {
            name: "memory-by-backlog",
            title: "Memory of the daemon by what was written since the last writeback".into(),
            x: "MiB written",
            y: "MiB",
            log_x: false,
            points: memory,
        },
    ])
}

fn memory_by_size(_common: &Common, work: &Path) -> Result<Curve> {
    let mut points = Vec::new();
    for gib in [1u64, 16, 256, 4096] {
        let mut lab = Lab::new(work, 1)?;
        lab.create(gib << 30)?;
        let pid = lab.hosts[0].pid().context("the daemon runs")?;
        points.push((gib as f64, resident_mib(pid)?));
        lab.stop()?;
    }
    Ok(Curve {
        name: "memory-by-device-size",
        title: "Memory of the daemon by size of the device".into(),
        x: "GiB",
        y: "MiB",
        log_x: true,
        points,
    })
}

fn memory_by_connections(_common: &Common, work: &Path) -> Result<Curve> {
    let mut lab = Lab::new(work, 1)?;
    lab.create(1 << 30)?;
    let pid = lab.hosts[0].pid().context("the daemon runs")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut points, mut open) = (Vec::new(), Vec::new());
    for count in [1usize, 4, 16, 64, 256] {
        while open.len() < count {
            let socket = lab.hosts[0].nbd_socket();
            let client = runtime.block_on(NbdClient::connect(&socket, RES))?;
            runtime.block_on(client.read(0, 65536))?;
            open.push(client);
        }
        points.push((count as f64, resident_mib(pid)?));
    }
    drop(open);
    lab.stop()?;
    Ok(Curve {
        name: "memory-by-connections",
        title: "Memory of the daemon by open NBD connections".into(),
        x: "connections",
        y: "MiB",
        log_x: true,
        points,
    })
}

fn installed() -> Vec<Kind> {
    let mut found = Vec::new();
    for kind in [Kind::Nbdkit, Kind::QemuNbd] {
        if kind.is_installed() {
            found.push(kind);
        } else {
            eprintln!("peer {} is not installed and not measured", kind.name());
        }
    }
    found
}

fn rows_of(load: &Load, ours: &[f64], peers: &[Kind], theirs: Vec<Vec<f64>>) -> Vec<Row> {
    let row = || Row::new(load.name, load.unit(), ours.to_vec());
    if peers.is_empty() {
        return vec![row()];
    }
    let pairs = peers.iter().zip(theirs);
    pairs
        .map(|(kind, figures)| {
            let mut row = row().against(kind.name(), figures);
            if *kind == Kind::Nbdkit {
                row.target = load.target.map(Target::RatioAtLeast);
            }
            row
        })
        .collect()
}

/// One fresh cluster with one resource, one run of fio.
fn measure_ours(common: &Common, work: &Path, load: &Load) -> Result<f64> {
    let mut lab = Lab::new(work, 1)?;
    lab.create(common.size())?;
    let figure = fio(common, work, load, &lab.uri(0))?;
    lab.hosts[0].stop()?;
    Ok(figure)
}

/// One run of fio on a device; its figure.
pub fn fio(common: &Common, work: &Path, load: &Load, uri: &str) -> Result<f64> {
    let size = format!("--size={}", common.size());
    let runtime = format!("--runtime={}", common.seconds());
    let mut command = Command::new("fio");
    command.args([
        "--name=job",
        "--ioengine=nbd",
        "--output-format=json",
        "--randrepeat=0",
        "--refill_buffers=0",
    ]);
    command
        .arg(format!("--uri={uri}"))
        .arg(format!("--aux-path={}", work.display()))
        .arg(size);
    command.args(load.flags);
    if load.ends == Ends::ByTime {
        command.args(["--time_based=1", &runtime]);
    }
    // What was written before must not be written during the measurement.
    rustix::fs::syncfs(std::fs::File::open(work)?)?;
    let watch = Stopwatch::start();
    let out = command
        .output()
        .context("run fio; install the package fio")?;
    let elapsed = watch.seconds();
    ensure!(
        out.status.success(),
        "fio: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    if load.ends == Ends::WholeDevice {
        return Ok(common.size() as f64 / f64::from(1 << 20) / elapsed);
    }
    operations_per_second(&out.stdout)
}

fn operations_per_second(json: &[u8]) -> Result<f64> {
    let text = String::from_utf8_lossy(json);
    let start = text.find('{').context("fio printed no JSON")?;
    let report: serde_json::Value =
        serde_json::from_str(&text[start..]).context("what fio printed")?;
    let job = &report["jobs"][0];
    let rates = ["read", "write"].map(|way| job[way]["iops"].as_f64().unwrap_or(0.0));
    let sum = rates[0] + rates[1];
    if sum <= 0.0 {
        bail!("fio did nothing: {job}");
    }
    Ok(sum)
}
