//! One logger on one host.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use node::export::{Answer, DeviceError};
use node::job::LoggerLimits;
use tree::key;

use crate::kit::{self, Machine, alpha, flush, log, read, res, soon, write};

const SIZE: usize = 1 << 20;

async fn machine() -> Machine {
    Machine::new(alpha(), &Arc::default(), &[0xaa; SIZE])
}

#[tokio::test]
async fn a_write_is_answered_at_once_and_read_back_before_it_is_anywhere() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let answer = device.write(4096, Bytes::from_static(&[7; 512]), false);
    assert!(matches!(answer, Answer::Now(Ok(()))));
    assert_eq!(
        read(&device, 4000, 1000).await,
        [vec![0xaa; 96], vec![7; 512], vec![0xaa; 392]].concat()
    );
}

#[tokio::test]
async fn a_large_read_shows_zeroes_and_not_what_an_earlier_read_left_in_memory() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let len = 256 << 10;
    assert!(read(&device, 0, len).await == vec![0xaa; len as usize]);
    // Not on the disk yet, so the next read is put together from both.
    soon("zero", device.zero(1000, 100_000, false, false).wait())
        .await
        .expect("zero");
    let mut expected = vec![0xaa; len as usize];
    expected[1000..101_000].fill(0);
    assert!(read(&device, 0, len).await == expected);
}

#[tokio::test]
async fn a_release_leaves_everything_on_the_disk_and_equal_positions_in_the_keys() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    write(&device, 0, &[1; 3000]).await;
    write(&device, 1000, &[2; 3000]).await;
    soon("zero", device.zero(500, 100, false, false).wait())
        .await
        .expect("zero");
    soon("trim", device.trim(3500, 100, true).wait())
        .await
        .expect("trim");
    let end = kit::done(soon("a release", logger.stop()).await);

    let mut expected = vec![0xaa; SIZE];
    expected[0..1000].fill(1);
    expected[1000..4000].fill(2);
    expected[500..600].fill(0);
    expected[3500..3600].fill(0);
    assert!(machine.disk() == expected);
    let pos = machine.replay_pos();
    assert_eq!((pos.clean(), pos.dirty), (end.log.at(end.len), 0));
    let link = machine.version(1);
    assert_eq!((link.len, link.digest), (end.len, end.digest));
    let durable = machine.keys.durable_text(&key::log(&res(), &end.log));
    assert_eq!(durable, Some(end.len.to_string()));
    assert!(matches!(
        device.write(0, Bytes::from_static(&[1]), false),
        Answer::Now(Err(DeviceError::ShuttingDown))
    ));
}

#[tokio::test]
async fn a_flush_covers_what_was_acknowledged_before_and_the_log_shows_it() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    for nr in 0..100u64 {
        write(&device, nr * 512, &[nr as u8; 512]).await;
    }
    flush(&device).await;
    let shelf = machine.stock.shelf.lock().clone().expect("set");
    let durable = || shelf.state(&log(1, &alpha())).expect("there").durable;
    // Who asked for the flush is told first, the shelf right behind.
    soon("the shelf shows it", async {
        while durable() < 100 * (64 + 512) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(durable(), 100 * (64 + 512));
}

#[tokio::test]
async fn writes_nobody_flushes_become_durable_by_themselves() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    write(&logger.device(), 0, &[1; 512]).await;
    let shelf = machine.stock.shelf.lock().clone().expect("set");
    let mut state = shelf.watch(&log(1, &alpha())).expect("there");
    soon("durability", state.wait_for(|state| state.durable == 576))
        .await
        .expect("the log stays");
}

#[tokio::test]
async fn a_full_buffer_makes_writers_wait_and_lets_all_of_them_through_in_the_end() {
    let limits = LoggerLimits {
        buffer_bytes_max: 16 << 10,
        ..LoggerLimits::default()
    };
    let machine = machine().await;
    let logger = machine.primary(log(1, &alpha()), None, limits).await;
    let device = logger.device();
    let mut answers = Vec::new();
    for nr in 0..200u64 {
        answers.push(device.write(nr * 4096, Bytes::from(vec![nr as u8; 4096]), nr % 7 == 0));
    }
    assert!(
        answers
            .iter()
            .any(|answer| matches!(answer, Answer::Later(_)))
    );
    for answer in answers {
        soon("a held write", answer.wait()).await.expect("a write");
    }
    for nr in [0u64, 77, 199] {
        assert_eq!(read(&device, nr * 4096, 4096).await, vec![nr as u8; 4096]);
    }
    kit::done(soon("a release", logger.stop()).await);
    assert!(
        machine.disk()[..200 * 4096]
            .chunks(4096)
            .enumerate()
            .all(|(nr, block)| block == [nr as u8; 4096])
    );
}

#[tokio::test]
async fn rotation_goes_on_in_the_next_log_and_the_chain_is_complete_before_its_first_record() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    write(&device, 0, &[1; 4096]).await;
    logger.rotate(log(2, &alpha())).expect("it is the next one");
    let refused = logger.rotate(log(3, &alpha()));
    assert!(refused.is_err(), "one rotation at a time");
    let mut progress = logger.progress();
    soon(
        "the rotation",
        progress.wait_for(|progress| progress.rotating.is_none()),
    )
    .await
    .expect("it runs");
    write(&device, 4096, &[2; 4096]).await;
    flush(&device).await;
    let end = kit::done(soon("a release", logger.stop()).await);

    assert_eq!(end.log, log(2, &alpha()));
    let (first, second) = (machine.version(1), machine.version(2));
    assert_eq!(second.pred, Some(first.as_pred()));
    let shelf = machine.stock.shelf.lock().clone().expect("set");
    let old = shelf.state(&log(1, &alpha())).expect("kept");
    assert_eq!(
        (old.durable, old.digest, old.finished),
        (first.len, first.digest, true)
    );
    let commits = machine.keys.history.lock().clone();
    let nr_of = |text: String| commits.iter().position(|commit| commit.contains(&text));
    let final_first = nr_of(format!("resource-data/version-000000001-alpha = {first}"));
    let first_second = commits.iter().position(|commit| {
        commit
            .iter()
            .any(|key| key.starts_with("resource-data/version-000000002-alpha"))
    });
    assert!(final_first.is_some() && final_first < first_second);
}

#[tokio::test]
async fn writeback_of_an_idle_device_needs_no_release() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    write(&logger.device(), 8192, &[9; 4096]).await;
    let mut progress = logger.progress();
    let clean = |progress: &node::job::LoggerProgress| {
        progress.replay.offset == 64 + 4096 && progress.replay.dirty == 0
    };
    soon("writeback", progress.wait_for(clean))
        .await
        .expect("it runs");
    assert!(machine.disk()[8192..12288] == [9; 4096]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_overlapping_ranges_read_what_they_wrote_last() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8u64 {
        let device = logger.device();
        writers.spawn(async move {
            for round in 0..200u64 {
                let (at, value) = (
                    writer * 10_000 + round % 13 * 700,
                    (round * 8 + writer) as u8,
                );
                write(&device, at, &[value; 1500]).await;
                if round % 5 == 0 {
                    flush(&device).await;
                }
                assert_eq!(read(&device, at, 1500).await, vec![value; 1500]);
            }
        });
    }
    while let Some(ended) = soon("the writers", writers.join_next()).await {
        ended.expect("a writer failed");
    }
    kit::done(soon("a release", logger.stop()).await);
}

#[tokio::test]
async fn a_dropped_logger_answers_nobody_with_success() {
    let machine = machine().await;
    let limits = LoggerLimits {
        unflushed_max: Duration::from_secs(3600),
        ..LoggerLimits::default()
    };
    let logger = machine.primary(log(1, &alpha()), None, limits).await;
    let device = logger.device();
    let pending = device.write(0, Bytes::from_static(&[1; 512]), true);
    drop(logger);
    // The log may have been faster than the crash; the answer must come in any case, and later ones fail.
    drop(soon("the answer", pending.wait()).await);
    assert!(matches!(device.flush(), Answer::Now(Err(_))));
    assert!(matches!(device.read(0, 512), Answer::Now(Err(_))));
}

/// What one look at `answer` gives.
async fn poll_once<F: Future + Unpin>(answer: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *answer).poll(cx))).await
}

#[tokio::test]
async fn a_helper_writes_the_log_itself_and_the_flush_is_durable_when_it_is_through() {
    let machine = machine().await;
    let logger = machine
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device().for_helper().expect("the logger needs help");
    write(&device, 0, &[1; 512]).await;
    assert!(!device.help(), "nobody waits for anything yet");
    // A helper steps back while the task of the log is busy and while flushes are slow (a loaded machine).
    let mut helped = false;
    for round in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        write(&device, 4096, &[round; 512]).await;
        let Answer::Later(mut flushing) = device.flush() else {
            continue;
        };
        helped = poll_once(&mut flushing).await.is_pending() && device.help();
        if helped {
            assert_eq!(poll_once(&mut flushing).await, Poll::Ready(Ok(())));
            break;
        }
        assert_eq!(flushing.await, Ok(()));
    }
    assert!(helped, "the helper never wrote the log");
    assert!(!device.help(), "everything is written");
    drop(logger);
    assert!(!device.help());
    assert!(matches!(
        device.flush(),
        Answer::Now(Err(DeviceError::ShuttingDown))
    ));
}
