//! Logs and disks that refuse: what is promised still holds, what cannot be promised is not.

use std::io::ErrorKind;

use std::sync::Arc;
use std::time::Duration;

use node::job::{Ended, LoggerLimits};

use crate::kit::{self, Machine, alpha, flush, log, read, soon, write};

const SIZE: usize = 1 << 20;

async fn machine() -> Machine {
    Machine::new(alpha(), &Arc::default(), &[0xaa; SIZE])
}

/// Without zeros ahead, which would meet the fault as well, and durable only when asked.
fn limits() -> LoggerLimits {
    LoggerLimits {
        unflushed_max: Duration::from_secs(3600),
        ahead: storage::AheadOptions {
            ahead_bytes: 0,
            ..storage::AheadOptions::default()
        },
        ..LoggerLimits::default()
    }
}

async fn check_log_failure(inject: impl FnOnce(&Machine)) {
    let machine = machine().await;
    let logger = machine.primary(log(1, &alpha()), None, limits()).await;
    let device = logger.device();
    write(&device, 0, &[1; 512]).await;
    flush(&device).await;
    inject(&machine);
    write(&device, 4096, &[2; 512]).await;
    let flushing = tokio::spawn(device.flush().wait());
    let mut progress = logger.progress();
    soon("the error", progress.wait_for(|p| p.log_error.is_some()))
        .await
        .expect("it runs");
    write(&device, 8192, &[3; 512]).await;
    assert_eq!(read(&device, 4096, 512).await, [2; 512]);
    assert!(!flushing.is_finished(), "nothing can be promised");

    let (ended, rest) = soon("the release", logger.release(true)).await;
    assert!(matches!(ended, Ended::LogFailed(_)), "{ended}");
    assert!(
        machine.disk()[0..512] == [1; 512],
        "what the log has is on the disk"
    );
    assert!(
        machine.disk()[4096..4608] == [0xaa; 512],
        "nothing reaches the disk that is not in the log"
    );
    assert_eq!(machine.replay_pos().offset, 576);
    assert!(!flushing.is_finished());

    drop(device);
    let bypass = machine.bypass().await;
    bypass
        .absorb(rest.expect("left over"), &*machine.clock())
        .await
        .expect("a good disk");
    soon("the flush", flushing)
        .await
        .expect("no panic")
        .expect("durable");
    let machine = machine.crash(true).await;
    assert!(machine.disk()[4096..4608] == [2; 512], "the flush was true");
    assert!(machine.disk()[8192..8704] == [3; 512]);
    let state = machine
        .site()
        .await
        .shelf
        .state(&log(1, &alpha()))
        .expect("kept");
    assert!(state.durable >= 576, "what was durable is still there");
}

#[tokio::test]
async fn what_a_failing_log_could_not_take_is_handed_on() {
    check_log_failure(|machine| {
        *machine.faults.flush.lock() = Some(("/log-".to_owned(), ErrorKind::Other));
    })
    .await;
}

#[tokio::test]
async fn what_a_full_log_could_not_take_is_handed_on() {
    check_log_failure(|machine| {
        *machine.faults.write.lock() = Some(("/log-".to_owned(), ErrorKind::StorageFull));
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_refuses_is_tried_again_and_nothing_is_lost_meanwhile() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let mut progress = logger.progress();
    *machine.faults.write.lock() = Some(("/disk".to_owned(), ErrorKind::Other));
    write(&device, 4096, &[2; 512]).await;
    flush(&device).await;
    soon("the error", progress.wait_for(|p| p.disk_error.is_some()))
        .await
        .expect("it runs");
    assert_eq!(read(&device, 4096, 512).await, [2; 512]);
    assert_eq!(
        progress.borrow().replay.offset,
        0,
        "the position does not pass what is not written"
    );

    *machine.faults.write.lock() = None;
    soon("writeback", progress.wait_for(|p| p.replay.offset == 576))
        .await
        .expect("it runs");
    assert!(progress.borrow().disk_error.is_none());
    assert!(machine.disk()[4096..4608] == [2; 512]);
    kit::done(soon("the release", logger.stop()).await);
}

#[tokio::test]
async fn a_position_is_not_stored_without_a_flush_of_the_disk() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let mut progress = logger.progress();
    *machine.faults.flush.lock() = Some(("/disk".to_owned(), ErrorKind::Other));
    write(&device, 4096, &[2; 512]).await;
    soon("the error", progress.wait_for(|p| p.disk_error.is_some()))
        .await
        .expect("it runs");
    assert_eq!(machine.replay_pos().offset, 0);
    let ended = soon("the release", logger.stop()).await;
    assert!(matches!(ended, Ended::DiskFailed(_)), "{ended}");
    assert_eq!(machine.replay_pos().offset, 0);
}

#[tokio::test]
async fn a_release_gives_up_on_a_disk_that_keeps_refusing() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    *machine.faults.write.lock() = Some(("/disk".to_owned(), ErrorKind::Other));
    write(&logger.device(), 4096, &[2; 512]).await;
    let ended = soon("the release", logger.stop()).await;
    assert!(matches!(ended, Ended::DiskFailed(_)), "{ended}");
    let state = machine
        .site()
        .await
        .shelf
        .state(&log(1, &alpha()))
        .expect("kept");
    assert!(
        state.durable > 576 && state.finished,
        "the log has it all, replay will bring it"
    );
}
