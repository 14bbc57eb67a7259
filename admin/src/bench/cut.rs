//! What a reconnect costs: one host misses some changes of a large tree, and comes back.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use transport::control::{Answer, ControlClient, Request};

use super::lab::{Lab, commit, free_key, loopback_bytes};
use super::plot::Curve;
use super::table::{Row, Target};
use super::tree::{set_keys, wait_for};
use super::{Common, median};

/// A peer that is silent for so long is gone, and has to be talked to from the beginning.
const CONNECTIONS_ARE_GONE: Duration = Duration::from_secs(16);

/// What one reconnect cost.
struct Cost {
    /// All traffic of the interface: handshakes, probes, acknowledgements, heartbeats, both ways.
    wire_kib: f64,
    /// Messages about the key tree, both ways.
    messages_kib: f64,
    /// From the end of the cut until the last change is seen.
    millis: f64,
}

/// Some rounds with one change in a tree of `total` keys.
pub fn rows(common: &Common, lab: &Lab, here: &mut ControlClient, total: u64) -> Result<Vec<Row>> {
    let rounds = 0..common.rounds().min(3);
    let costs = rounds.map(|_| cut(lab, here, total, 1));
    let costs = costs.collect::<Result<Vec<Cost>>>()?;
    let row = |what: &str, unit, figure: fn(&Cost) -> f64| {
        let name = format!("reconnect, 1 of {total} keys changed: {what}");
        Row::new(name, unit, costs.iter().map(figure).collect())
    };
    Ok(vec![
        row("on the wire", "KiB", |cost| cost.wire_kib).wanted(Target::AtMost(16.0)),
        row("messages in it", "KiB", |cost| cost.messages_kib),
        row("until seen", "ms", |cost| cost.millis).wanted(Target::AtMost(50.0)),
    ])
}

/// Bytes of a reconnect against the size of the tree and against the number of changes.
pub fn curves(common: &Common) -> Result<Vec<Curve>> {
    let sizes: &[u64] = match common.quick {
        true => &[1_000, 10_000],
        false => &[1_000, 10_000, 100_000, 1_000_000],
    };
    let lab = Lab::new(&common.work()?, 2)?;
    let (mut here, mut there) = (lab.control(0)?, lab.control(1)?);
    let (mut by_size, mut by_changes) = (Vec::new(), Vec::new());
    let mut total = 0;
    for size in sizes {
        set_keys(&mut here, total..*size)?;
        total = *size;
        wait_for(&mut there, &free_key(total - 1, "value"))?;
        by_size.push((total as f64, typical(common, &lab, &mut here, total, 1)?));
    }
    for changes in [1, 10, 100, 1000] {
        let kib = typical(common, &lab, &mut here, total, changes)?;
        by_changes.push((changes as f64, kib));
    }
    let curve = |name, title: String, x, points| Curve {
        name,
        title,
        x,
        y: "KiB on the wire, handshake included",
        log_x: true,
        points,
    };
    let title = "Reconnect after one change, by size of the tree".to_owned();
    let by_size = curve("reconnect-by-tree-size", title, "keys", by_size);
    let title = format!("Reconnect by number of changes, tree of {total} keys");
    let by_changes = curve("reconnect-by-changes", title, "changed keys", by_changes);
    Ok(vec![by_size, by_changes])
}

/// Median of the bytes on the wire, in KiB.
fn typical(
    common: &Common,
    lab: &Lab,
    here: &mut ControlClient,
    total: u64,
    changes: u64,
) -> Result<f64> {
    let costs = (0..common.rounds().min(3)).map(|_| cut(lab, here, total, changes));
    let kib = costs.map(|cost| Ok(cost?.wire_kib));
    Ok(median(&kib.collect::<Result<Vec<f64>>>()?))
}

/// The second host is frozen until nobody knows it any more, misses `changes` in the middle of the tree, and comes back.
fn cut(lab: &Lab, here: &mut ControlClient, total: u64, changes: u64) -> Result<Cost> {
    let pid = lab.hosts[1].pid().context("the second host runs")?;
    let pid = Pid::from_raw(pid.cast_signed()).context("a process id")?;
    kill_process(pid, Signal::STOP)?;
    std::thread::sleep(CONNECTIONS_ARE_GONE);
    let value = format!("changed at {}", loopback_bytes()?);
    let first = total.saturating_sub(changes) / 2;
    let changed = (first..first + changes).map(|nr| free_key(nr, &value));
    commit(here, changed.collect())?;
    let (wire, messages) = (loopback_bytes()?, message_bytes(here)?);
    kill_process(pid, Signal::CONT)?;
    let mut there = lab.control(1)?;
    let seconds = wait_for(&mut there, &free_key(first + changes - 1, &value))?;
    Ok(Cost {
        wire_kib: (loopback_bytes()? - wire) / 1024.0,
        messages_kib: (message_bytes(here)? - messages) / 1024.0,
        millis: seconds * 1e3,
    })
}

/// Bytes of all messages about the tree that this host has sent and received, without what carries them.
fn message_bytes(client: &mut ControlClient) -> Result<f64> {
    let facts: serde_json::Value = match client.request(&Request::Facts)? {
        Answer::Facts { json } => serde_json::from_str(&json)?,
        other => bail!("a question for facts was answered by {other:?}"),
    };
    let peers = facts["network"]
        .as_object()
        .context("no peers in the facts")?;
    let bytes = |peer: &serde_json::Value| {
        let state = &peer["classes"]["state"];
        let both = ["sent_bytes", "received_bytes"].map(|name| state[name].as_f64());
        both.into_iter().flatten().sum::<f64>()
    };
    Ok(peers.values().map(bytes).sum())
}
