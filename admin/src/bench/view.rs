//! How long an operator waits for `marsadm view all`: of a running daemon, and of a saved tree.
//!
//! The resources of the first host are real. What their other members would report is set beside it, so that the tree is as
//! large as that of a full cluster while one daemon is enough to measure.

use anyhow::{Result, ensure};
use transport::control::Change;

use super::lab::{Lab, Stopwatch, bar, commit};
use super::table::{Row, Target};
use super::{Common, Found};
use crate::demo::cluster::{Host, make_disk};

/// The host which is asked.
const HERE: &str = "host00";

/// Bytes of each disk.
const DISK_BYTES: u64 = 1 << 20;

/// Calls whose mean is one figure.
const CALLS: u32 = 5;

/// All of it.
pub fn view(common: &Common) -> Result<Found> {
    let sizes: &[(usize, usize, f64)] = match common.quick {
        true => &[(5, 3, 50.0)],
        false => &[(30, 10, 50.0), (1000, 2, 1000.0)],
    };
    let mut rows = Vec::new();
    for (resources, hosts, most) in sizes {
        if !common.wants(&format!("{resources} resources")) {
            continue;
        }
        rows.extend(viewed(common, *resources, *hosts, *most)?);
    }
    Ok(Found {
        rows,
        curves: Vec::new(),
    })
}

fn viewed(common: &Common, resources: usize, hosts: usize, most: f64) -> Result<[Row; 2]> {
    let mut lab = Lab::new(&common.work()?, 1)?;
    make_resources(&lab, resources)?;
    add_members(&lab, hosts)?;
    let saved = lab.base.join("saved-tree");
    let dump = lab.hosts[0].mars(&["tree", "dump"])?;
    std::fs::write(&saved, &dump.stdout)?;
    let mut live = Vec::new();
    let mut offline = Vec::new();
    for _ in 0..common.rounds() {
        live.push(millis(&lab.hosts[0], &["view", "all"], resources)?);
        let of_file = format!("--tree-file={}", saved.display());
        let of_here = format!("--host={HERE}");
        let words = [of_file.as_str(), of_here.as_str(), "view", "all"];
        offline.push(millis(&lab.hosts[0], &words, resources)?);
    }
    lab.stop()?;
    let row = |what: &str, figures| {
        let name = format!("marsadm view all, {resources} resources, {hosts} hosts, {what}");
        Row::new(name, "ms", figures).wanted(Target::AtMost(most))
    };
    Ok([row("daemon", live), row("saved tree", offline)])
}

fn make_resources(lab: &Lab, count: usize) -> Result<()> {
    let bar = bar(count as u64, "resources");
    for nr in 0..count {
        let (res, disk) = (format!("r{nr:04}"), lab.base.join(format!("disk-{nr:04}")));
        make_disk(&disk, DISK_BYTES)?;
        let disk = disk.display().to_string();
        lab.hosts[0]
            .marsadm(&["create-resource", &res, &disk])?
            .ok()?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The keys of the first host once more for every other one.
fn add_members(lab: &Lab, hosts: usize) -> Result<()> {
    let dump = lab.hosts[0].mars(&["tree", "dump"])?.stdout;
    let own: Vec<(&str, &str)> = dump.lines().filter_map(key_of_member).collect();
    let mut control = lab.control(0)?;
    for nr in 1..hosts {
        let member = format!("host{nr:02}");
        let changes = own.iter().map(|(path, value)| Change {
            path: path.replace(HERE, &member),
            value: Some((*value).to_owned()),
        });
        // Nobody answers there.
        let address = Change {
            path: format!("ips/ip-{member}"),
            value: Some("127.0.0.1:9".to_owned()),
        };
        let changes: Vec<Change> = changes.chain([address]).collect();
        for some in changes.chunks(1000) {
            commit(&mut control, some.to_vec())?;
        }
    }
    Ok(())
}

/// Path and value, if this line of a saved tree is about the first host as a member of a resource or of the cluster.
fn key_of_member(line: &str) -> Option<(&str, &str)> {
    let mut columns = line.split('\t');
    let (path, value, _, kind) = (
        columns.next()?,
        columns.next()?,
        columns.next()?,
        columns.next()?,
    );
    let name = path.rsplit('/').next()?;
    let is_meant = (path.starts_with("resource-") || path.starts_with("actual-"))
        && path.contains(HERE)
        && !name.starts_with("log-");
    (is_meant && kind == "l" && value != crate::snapshot::TOMBSTONE).then_some((path, value))
}

/// Milliseconds of one call, the start of the program included. It has to print every resource.
fn millis(host: &Host, words: &[&str], resources: usize) -> Result<f64> {
    let clock = Stopwatch::start();
    for _ in 0..CALLS {
        let said = host.marsadm(words)?.ok()?;
        let printed = said.matches("--------- resource ").count();
        ensure!(
            printed == resources,
            "{printed} of {resources} resources printed"
        );
    }
    Ok(clock.millis() / f64::from(CALLS))
}
