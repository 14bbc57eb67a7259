//! The device at the primary, loaded by fio: against other NBD servers on the same file system, and
//! with unreachable secondaries against without.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::peers::Kind;
use super::{Common, Row};
use crate::demo::cluster::{Host, make_disk};

const RESOURCE: &str = "bench";

/// One fio job and how its result is read.
struct Load {
    name: &'static str,
    flags: &'static [&'static str],
    /// By time (operations a second) or over the whole device with a flush at the end (MiB a second).
    whole_device: bool,
    target: Option<f64>,
}

const LOADS: &[Load] = &[
    Load {
        name: "4k random write, fsync each, depth 1",
        flags: &["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"],
        whole_device: false,
        target: Some(1.3),
    },
    Load {
        name: "4k random write, depth 32, all blocks once, flush",
        flags: &["--rw=randwrite", "--bs=4k", "--iodepth=32", "--end_fsync=1"],
        whole_device: true,
        target: Some(1.0),
    },
    Load {
        name: "4k random read, depth 32",
        flags: &["--rw=randread", "--bs=4k", "--iodepth=32"],
        whole_device: false,
        target: Some(0.9),
    },
    Load {
        name: "1M sequential read",
        flags: &["--rw=read", "--bs=1M", "--iodepth=8"],
        whole_device: true,
        target: Some(0.9),
    },
    Load {
        name: "1M sequential write, flush",
        flags: &["--rw=write", "--bs=1M", "--iodepth=8", "--end_fsync=1"],
        whole_device: true,
        target: Some(0.5),
    },
    Load {
        name: "4k 70/30 mix, depth 32",
        flags: &["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=32"],
        whole_device: false,
        target: None,
    },
];

/// Our device against the peers that are installed.
pub fn device(common: &Common) -> Result<Vec<Row>> {
    let work = common.work()?;
    let peers: Vec<Kind> = if common.peers {
        installed()
    } else {
        Vec::new()
    };
    let mut rows = Vec::new();
    for load in LOADS {
        let mut ours = Vec::new();
        let mut theirs: Vec<Vec<f64>> = peers.iter().map(|_| Vec::new()).collect();
        let bar = rounds_bar(common, load);
        for _ in 0..common.rounds() {
            ours.push(measure_ours(common, &work, load, 0)?);
            for (kind, figures) in peers.iter().zip(&mut theirs) {
                let peer = kind.start(&work, common.size())?;
                figures.push(fio(common, &work, load, &peer.uri())?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        rows.extend(rows_of(load, &ours, &peers, theirs));
    }
    remove_work(common, &work)?;
    Ok(rows)
}

/// With two configured but unreachable secondaries, against none: the ratio must stay near 1.
pub fn alone(common: &Common) -> Result<Vec<Row>> {
    let work = common.work()?;
    let mut rows = Vec::new();
    for load in LOADS {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..common.rounds() {
            with.push(measure_ours(common, &work, load, 2)?);
            without.push(measure_ours(common, &work, load, 0)?);
        }
        rows.push(Row {
            what: format!("{} (two secondaries unreachable)", load.name),
            unit: unit(load),
            ours: with,
            peer: Some("no secondaries".into()),
            theirs: without,
            target: Some(0.95),
        });
    }
    remove_work(common, &work)?;
    Ok(rows)
}

fn remove_work(common: &Common, work: &Path) -> Result<()> {
    if common.work.is_none() {
        std::fs::remove_dir_all(work).with_context(|| format!("remove {}", work.display()))?;
    }
    Ok(())
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

fn rounds_bar(common: &Common, load: &Load) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(u64::from(common.rounds()));
    bar.set_message(load.name);
    bar
}

fn unit(load: &Load) -> &'static str {
    if load.whole_device { "MiB/s" } else { "IOPS" }
}

fn rows_of(load: &Load, ours: &[f64], peers: &[Kind], theirs: Vec<Vec<f64>>) -> Vec<Row> {
    let row = |peer: Option<String>, theirs: Vec<f64>, target| Row {
        what: load.name.to_owned(),
        unit: unit(load),
        ours: ours.to_vec(),
        peer,
        theirs,
        target,
    };
    if peers.is_empty() {
        return vec![row(None, Vec::new(), None)];
    }
    let pairs = peers.iter().zip(theirs);
    pairs
        .map(|(kind, figures)| {
            let target = load.target.filter(|_| *kind == Kind::Nbdkit);
            row(Some(kind.name().to_owned()), figures, target)
        })
        .collect()
}

/// One fresh cluster with one resource, one run of fio.
fn measure_ours(common: &Common, work: &Path, load: &Load, unreachable: usize) -> Result<f64> {
    let base = work.join("cluster");
    if base.exists() {
        std::fs::remove_dir_all(&base)?;
    }
    let mars = std::env::current_exe()?;
    let mut first = Host::new(&mars, &base, "alpha")?;
    first.create_cluster()?;
    first.start()?;
    let disk = |name: &str| -> Result<String> {
        let path = base.join(format!("{name}-disk"));
        make_disk(&path, common.size())?;
        Ok(path.display().to_string())
    };
    first
        .marsadm(&["create-resource", RESOURCE, &disk("alpha")?])?
        .ok()?;
    for name in ["beta", "gamma"].iter().take(unreachable) {
        let mut host = Host::new(&mars, &base, name)?;
        host.join_cluster(&first)?;
        host.start()?;
        host.marsadm(&["join-resource", RESOURCE, &disk(name)?])?
            .ok()?;
        host.wait_view("diskstate", RESOURCE, Duration::from_secs(120), |s| {
            s == "UpToDate"
        })?;
        host.kill()?;
    }
    let uri = format!(
        "nbd+unix:///{RESOURCE}?socket={}",
        first.nbd_socket().display()
    );
    wait_for_device(&first)?;
    let figure = fio(common, work, load, &uri)?;
    first.stop()?;
    Ok(figure)
}

fn wait_for_device(host: &Host) -> Result<()> {
    host.wait_view("is-primary", RESOURCE, Duration::from_secs(60), |s| {
        s == "1"
    })
    .map(drop)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn fio(common: &Common, work: &Path, load: &Load, uri: &str) -> Result<f64> {
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
    if !load.whole_device {
        command.args(["--time_based=1", &runtime]);
    }
    let started = Instant::now();
    let out = command
        .output()
        .context("run fio; install the package fio")?;
    let elapsed = started.elapsed().as_secs_f64();
    ensure!(
        out.status.success(),
        "fio: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    if load.whole_device {
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
