//! One replayer on one log.

use std::sync::Arc;

use node::job::{Bound, Ended, LoggerLimits, ReplayJob, Running};
use node::worker::replayer::replay;

use crate::kit::{self, Machine, alpha, flush, log, res, soon, write};
use tree::key;

const SIZE: usize = 1 << 20;

/// A finished log 1 of alpha with `count` blocks of 512 bytes, and a disk on which nothing of it is.
async fn log_and_blank_disk(count: u64) -> Machine {
    let machine = Machine::new(alpha(), &Arc::default(), &[0; SIZE]);
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    for nr in 0..count {
        write(&device, nr * 512, &[nr as u8 + 1; 512]).await;
    }
    flush(&device).await;
    kit::done(soon("a release", logger.stop()).await);
    *machine.stock.source.lock() = None;
    drop(device);
    std::fs::write(machine.disk_path(), [0; SIZE]).expect("blank");
    machine
}

async fn run(machine: &Machine, start: u64, bound: Bound) -> Ended {
    let job = ReplayJob {
        log: log(1, &alpha()),
        start,
        dirty_end: start,
        replica: machine.replica().await,
        bound,
    };
    let site = machine.site().await;
    let mut running = Running::spawn(job.first_progress(), |stop, progress| {
        replay(job, site, stop, progress)
    });
    soon("replay", running.ended()).await
}

#[tokio::test]
async fn a_finished_log_is_applied_to_its_end_and_the_position_is_stored_durably() {
    let machine = log_and_blank_disk(100).await;
    let end = kit::done(run(&machine, 0, Bound::Follow).await);
    let disk = machine.disk();
    assert!((0..100).all(|nr| disk[nr * 512..][..512] == [nr as u8 + 1; 512]));
    let stored = machine.keys.durable_text(&key::replay(&res(), &alpha()));
    assert_eq!(stored, Some(format!("log-000000001-alpha,{},0", end.len)));
}

#[tokio::test]
async fn a_bound_is_not_passed_and_the_record_across_it_is_not_applied() {
    let machine = log_and_blank_disk(10).await;
    let ended = run(&machine, 0, Bound::UpTo(3 * 576 + 100)).await;
    assert_eq!(ended, Ended::Reached(log(1, &alpha()).at(3 * 576)));
    let disk = machine.disk();
    assert!(disk[2 * 512..3 * 512] == [3; 512]);
    assert!(disk[3 * 512..4 * 512] == [0; 512]);
}

#[tokio::test]
async fn nothing_behind_a_damaged_record_is_applied_and_its_place_is_named() {
    let machine = log_and_blank_disk(10).await;
    let path = machine.log_path(&log(1, &alpha()));
    let mut bytes = std::fs::read(&path).expect("the log");
    bytes[4096 + 5 * 576 + 70] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let ended = run(&machine, 0, Bound::Follow).await;
    assert!(
        matches!(&ended, Ended::Damaged { at, .. } if *at == log(1, &alpha()).at(5 * 576)),
        "{ended}"
    );
    let disk = machine.disk();
    assert!(disk[4 * 512..5 * 512] == [5; 512]);
    assert!(disk[5 * 512..6 * 512] == [0; 512]);
    assert_eq!(
        machine.replay_pos().to_string(),
        format!("log-000000001-alpha,{},0", 5 * 576)
    );
}

#[tokio::test]
async fn what_may_be_on_the_disk_is_claimed_before_it_is_written() {
    let machine = log_and_blank_disk(10).await;
    kit::done(run(&machine, 576, Bound::Follow).await);
    let commits = machine.keys.history.lock().concat();
    let end = 10 * 576 + 88;
    let claim = format!(
        "resource-data/replay-alpha = log-000000001-alpha,576,{}",
        end - 576
    );
    assert!(commits.contains(&claim), "{commits:?}");
}
