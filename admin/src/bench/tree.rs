//! The key tree: how soon others see a key, what many keys cost, what a daemon at rest costs.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use transport::control::{Answer, Change, ControlClient, Request};

use super::lab::{
    Lab, Stopwatch, bar, commit, cpu_seconds, free_key, loopback_bytes, resident_mib, until,
    value_of,
};
use super::plot::Curve;
use super::table::{Row, Target, quantile};
use super::{Common, Found, cut, median};
use crate::demo::cluster::make_disk;

/// Keys one commit carries when many are set.
const KEYS_PER_COMMIT: u64 = 1000;

/// All of it.
pub fn tree(common: &Common) -> Result<Found> {
    let (mut rows, mut curves) = (Vec::new(), Vec::new());
    let sizes: &[usize] = if common.quick { &[3] } else { &[3, 10, 30] };
    if common.wants("seen") {
        let mut points = Vec::new();
        for count in sizes {
            let [p50, p99] = seen(common, *count)?;
            points.push((*count as f64, median(&p50.ours)));
            rows.extend([p50, p99]);
        }
        curves.push(seen_by_hosts(points));
    }
    if common.wants("many") {
        rows.extend(many(common)?);
    }
    if common.wants("rest") {
        for count in sizes {
            rows.extend(rest(common, *count)?);
        }
    }
    if common.plot.is_some() && common.wants("reconnect") {
        curves.extend(cut::curves(common)?);
    }
    Ok(Found { rows, curves })
}

fn seen_by_hosts(points: Vec<(f64, f64)>) -> Curve {
    Curve {
        name: "seen-by-hosts",
        title: "Key set on the first host until seen on the last, all on the same two cores".into(),
        x: "hosts",
        y: "ms, median",
        log_x: true,
        points,
    }
}

/// One key set on the first host, until the last one reports it.
fn seen(common: &Common, count: usize) -> Result<[Row; 2]> {
    let lab = Lab::new(&common.work()?, count)?;
    let (mut here, mut there) = (lab.control(0)?, lab.control(count - 1)?);
    let watch = Request::Watch {
        prefix: "userspace/bench/".to_owned(),
        after_generation: 0,
    };
    let samples = if common.quick { 50 } else { 200 };
    let mut seen = there.request(&watch)?;
    let mut rounds = Vec::new();
    let bar = bar(common.rounds().into(), "set → seen");
    for round in 0..u64::from(common.rounds()) {
        let mut millis = Vec::new();
        for nr in 0..samples {
            std::thread::sleep(Duration::from_millis(5));
            let value = format!("{round}-{nr}");
            let clock = Stopwatch::start();
            commit(&mut here, vec![free_key(1, &value)])?;
            while !shows(&seen, &value)? {
                seen = there.next_answer()?;
            }
            millis.push(clock.millis());
        }
        rounds.push(millis);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let at = |q: f64| rounds.iter().map(|round| quantile(round, q)).collect();
    let row = |what: &str, figures, most| {
        let row = Row::new(
            format!("key set → seen, {count} hosts, {what}"),
            "ms",
            figures,
        );
        if count == 3 {
            row.wanted(Target::AtMost(most))
        } else {
            row
        }
    };
    Ok([row("p50", at(0.5), 5.0), row("p99", at(0.99), 25.0)])
}

fn shows(answer: &Answer, value: &str) -> Result<bool> {
    match answer {
        Answer::Changed { entries, .. } => Ok(entries
            .iter()
            .any(|entry| entry.value.as_deref() == Some(value))),
        other => bail!("a watch was answered by {other:?}"),
    }
}

/// A tree of many keys: setting them, seeing one change after a cut, starting with them.
fn many(common: &Common) -> Result<Vec<Row>> {
    let total: u64 = if common.quick { 20_000 } else { 1_000_000 };
    let bulk = total.min(100_000);
    let mut lab = Lab::new(&common.work()?, 2)?;
    let mut here = lab.control(0)?;
    let mut there = lab.control(1)?;
    let clock = Stopwatch::start();
    set_keys(&mut here, 0..bulk)?;
    wait_for(&mut there, &free_key(bulk - 1, "value"))?;
    let bulk_seconds = clock.seconds();
    set_keys(&mut here, bulk..total)?;
    wait_for(&mut there, &free_key(total - 1, "value"))?;
    let mut rows = vec![Row::new(
        format!("{bulk} keys set, until seen on the other host"),
        "s",
        vec![bulk_seconds],
    )];
    rows.extend(cut::rows(common, &lab, &mut here, total)?);
    drop((here, there));
    rows.extend(starts(common, &mut lab, total)?);
    Ok(rows)
}

/// Sets free keys, many with each commit.
pub(super) fn set_keys(client: &mut ControlClient, range: std::ops::Range<u64>) -> Result<()> {
    let bar = bar(range.end - range.start, "keys");
    for from in range.clone().step_by(KEYS_PER_COMMIT as usize) {
        let until = (from + KEYS_PER_COMMIT).min(range.end);
        commit(
            client,
            (from..until).map(|nr| free_key(nr, "value")).collect(),
        )?;
        bar.inc(KEYS_PER_COMMIT);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Seconds until a change is seen.
pub(super) fn wait_for(client: &mut ControlClient, change: &Change) -> Result<f64> {
    until(&change.path, Duration::from_millis(1), || {
        Ok(value_of(client, &change.path)? == change.value)
    })
}

fn starts(common: &Common, lab: &mut Lab, total: u64) -> Result<Vec<Row>> {
    lab.hosts[1].stop()?;
    let (mut seconds, mut mib) = (Vec::new(), Vec::new());
    for _ in 0..common.rounds().min(3) {
        lab.hosts[0].stop()?;
        let clock = Stopwatch::start();
        lab.hosts[0].start()?;
        let mut control = lab.control(0)?;
        wait_for(&mut control, &free_key(total - 1, "value"))?;
        seconds.push(clock.seconds());
        mib.push(resident_mib(lab.hosts[0].pid().context("it runs")?)?);
    }
    Ok(vec![
        Row::new(format!("start with {total} keys"), "s", seconds).wanted(Target::AtMost(3.0)),
        Row::new(format!("start with {total} keys: memory"), "MiB", mib)
            .wanted(Target::AtMost(1024.0)),
    ])
}

/// Daemons with 30 resources that nobody writes to.
fn rest(common: &Common, count: usize) -> Result<Vec<Row>> {
    let mut lab = Lab::new(&common.work()?, count)?;
    let resources = if common.quick { 5 } else { 30 };
    for nr in 0..resources {
        let res = format!("r{nr:02}");
        for (host, verb) in [(0, "create-resource"), (1, "join-resource")] {
            let disk = lab.base.join(format!("{res}-{host}"));
            make_disk(&disk, 1 << 20)?;
            lab.hosts[host]
                .marsadm(&[verb, &res, &disk.display().to_string()])?
                .ok()?;
        }
    }
    std::thread::sleep(Duration::from_secs(15));
    let pid = lab.hosts[0].pid().context("it runs")?;
    let (mut cpu, mut mib, mut wire) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..common.rounds().min(3) {
        let (clock, before, bytes) = (Stopwatch::start(), cpu_seconds(pid)?, loopback_bytes()?);
        std::thread::sleep(Duration::from_secs(10));
        cpu.push(100.0 * (cpu_seconds(pid)? - before) / clock.seconds());
        wire.push((loopback_bytes()? - bytes) / clock.seconds());
        mib.push(resident_mib(pid)?);
    }
    lab.stop()?;
    let name = |what: &str| format!("at rest, {count} hosts, {resources} resources: {what}");
    let mut rows = vec![
        Row::new(name("processor"), "% of a core", cpu),
        Row::new(name("memory"), "MiB", mib),
        Row::new(name("traffic of all hosts"), "bytes/s", wire),
    ];
    if count == 3 {
        rows[0].target = Some(Target::AtMost(1.0));
        rows[1].target = Some(Target::AtMost(64.0));
    }
    Ok(rows)
}
