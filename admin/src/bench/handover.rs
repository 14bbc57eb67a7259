//! How long the device is away: at a planned handover, and after a kill of the daemon.

use std::time::Duration;

use anyhow::Result;

use super::lab::{Lab, RES, Stopwatch, bar, until};
use super::table::{Row, Target};
use super::{Common, Found};
use crate::demo::cluster::Host;
use crate::nbd::NbdClient;

const SIZE: u64 = 64 << 20;

/// Planned, without lag: from the command until the device answers on the other host.
pub fn handover(common: &Common) -> Result<Found> {
    let mut lab = Lab::new(&common.work()?, 2)?;
    lab.create(SIZE)?;
    lab.join(1, SIZE)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut millis = Vec::new();
    let bar = bar(u64::from(common.rounds()), "handover");
    for round in 0..2 * common.rounds() as usize {
        let (old, new) = (round % 2, (round + 1) % 2);
        runtime.block_on(write_some(&lab.hosts[old]))?;
        std::thread::sleep(Duration::from_secs(1));
        let watch = Stopwatch::start();
        lab.hosts[new].marsadm(&["primary", RES])?.ok()?;
        until("the device", Duration::from_millis(2), || {
            Ok(runtime.block_on(answers(&lab.hosts[new])))
        })?;
        millis.push(watch.millis());
        bar.inc(1);
    }
    bar.finish_and_clear();
    lab.stop()?;
    let row = Row::new("planned handover without lag", "ms", millis).wanted(Target::AtMost(1000.0));
    Ok(Found {
        rows: vec![row],
        curves: Vec::new(),
    })
}

/// From the start of the killed daemon until the device answers, with writes to be replayed.
pub fn restart(common: &Common) -> Result<Found> {
    let mut lab = Lab::new(&common.work()?, 1)?;
    lab.create(SIZE)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut millis = Vec::new();
    for _ in 0..common.rounds() {
        runtime.block_on(write_some(&lab.hosts[0]))?;
        lab.hosts[0].kill()?;
        let watch = Stopwatch::start();
        lab.hosts[0].start()?;
        until("the device", Duration::from_millis(2), || {
            Ok(runtime.block_on(answers(&lab.hosts[0])))
        })?;
        millis.push(watch.millis());
    }
    lab.stop()?;
    let row = Row::new("restart after a kill, 16 MiB to replay", "ms", millis);
    Ok(Found {
        rows: vec![row],
        curves: Vec::new(),
    })
}

async fn write_some(host: &Host) -> Result<()> {
    let device = NbdClient::connect(&host.nbd_socket(), RES).await?;
    for nr in 0..16 {
        device
            .write(nr << 20, &vec![nr as u8; 1 << 20], false)
            .await?;
    }
    device.flush().await?;
    device.close().await?;
    Ok(())
}

async fn answers(host: &Host) -> bool {
    match NbdClient::connect(&host.nbd_socket(), RES).await {
        Ok(device) => device.read(0, 4096).await.is_ok(),
        Err(_) => false,
    }
}
