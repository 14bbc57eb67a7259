//! From the log of one host to the shelf and the disk of another.

use std::sync::Arc;
use std::time::Duration;

use node::job::{
    Bound, ChainEnd, Ended, FetchJob, FetchProgress, LoggerLimits, ReplayJob, Running,
};
use node::worker::fetcher::fetch;
use node::worker::replayer::replay;
use node::worker::shelf::Damage;

use crate::kit::{self, Machine, MemNet, alpha, beta, flush, log, soon, write};

const SIZE: usize = 1 << 20;

fn two() -> (Machine, Machine) {
    let net = Arc::new(MemNet::default());
    (
        Machine::new(alpha(), &net, &[0; SIZE]),
        Machine::new(beta(), &net, &[0; SIZE]),
    )
}

async fn fetching(
    at: &Machine,
    site: &node::job::Site,
    seq: u64,
    pred: Option<ChainEnd>,
    afresh: bool,
) -> Running<FetchProgress> {
    let _ = at;
    let job = FetchJob {
        log: log(seq, &alpha()),
        from: alpha(),
        pred,
        afresh,
    };
    let site = site.clone();
    Running::spawn(job.first_progress(), |stop, progress| {
        fetch(job, site, stop, progress)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_reach_the_secondary_s_disk_while_both_go_on() {
    let (a, b) = two();
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let site = b.site().await;
    let mut fetcher = fetching(&b, &site, 1, None, false).await;
    let mut progress = fetcher.progress();
    write(&device, 0, &[1; 4096]).await;
    soon("the first bytes", progress.wait_for(|p| p.durable.len > 0))
        .await
        .expect("it runs");

    let job = ReplayJob {
        log: log(1, &alpha()),
        start: 0,
        dirty_end: 0,
        replica: b.replica().await,
        bound: Bound::Follow,
    };
    let (first, replaying) = (job.first_progress(), site.clone());
    let mut replayer = Running::spawn(first, |stop, progress| {
        replay(job, replaying, stop, progress)
    });
    for nr in 0..500u64 {
        write(&device, nr * 777, &[nr as u8; 1000]).await;
        if nr % 50 == 0 {
            flush(&device).await;
        }
    }
    let end = kit::done(soon("a release", logger.stop()).await);
    assert_eq!(kit::done(soon("the fetch", fetcher.ended()).await), end);
    assert_eq!(kit::done(soon("the replay", replayer.ended()).await), end);
    assert!(a.disk() == b.disk());
    let link = b.version(1);
    assert_eq!((link.len, link.digest), (end.len, end.digest));
    assert_eq!(b.replay_pos().clean(), end.log.at(end.len));
    let same = std::fs::read(a.log_path(&end.log)).expect("log")
        == std::fs::read(b.log_path(&end.log)).expect("copy");
    assert!(same, "the copy is the log, byte by byte");
}

#[tokio::test]
async fn a_fetch_goes_on_where_it_was_stopped_and_nothing_comes_twice() {
    let (a, b) = two();
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    write(&device, 0, &[1; 100_000]).await;
    flush(&device).await;
    let site = b.site().await;
    let mut fetcher = fetching(&b, &site, 1, None, false).await;
    let mut progress = fetcher.progress();
    soon(
        "the first part",
        progress.wait_for(|p| p.durable.len == 64 + 100_000),
    )
    .await
    .expect("it runs");
    fetcher.stop();
    assert_eq!(soon("the stop", fetcher.ended()).await, Ended::Stopped);

    write(&device, 0, &[2; 8]).await;
    let end = kit::done(soon("a release", logger.stop()).await);
    let b = b.crash(false).await;
    let site = b.site().await;
    let mut fetcher = fetching(&b, &site, 1, None, false).await;
    assert_eq!(kit::done(soon("the fetch", fetcher.ended()).await), end);
    let received = fetcher.progress().borrow().received_bytes;
    assert_eq!(received, 72 + 88);
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_afresh_and_takes_its_place() {
    let (a, b) = two();
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    for nr in 0..50u64 {
        write(&device, nr * 512, &[nr as u8; 512]).await;
    }
    let end = kit::done(soon("a release", logger.stop()).await);
    let site = b.site().await;
    let mut fetcher = fetching(&b, &site, 1, None, false).await;
    kit::done(soon("the fetch", fetcher.ended()).await);

    let path = b.log_path(&end.log);
    let good = std::fs::read(&path).expect("the copy");
    let mut bad = good.clone();
    bad[4096 + 20 * 576 + 100] ^= 0x80;
    std::fs::write(&path, &bad).expect("damaged");
    let damage = Damage {
        offset: 20 * 576,
        digest: None,
        error: "found by the test".to_owned(),
    };
    site.shelf.mark_damaged(&end.log, damage);
    let mut again = fetching(&b, &site, 1, None, true).await;
    assert_eq!(
        kit::done(soon("the second fetch", again.ended()).await),
        end
    );
    assert!(std::fs::read(&path).expect("the copy") == good);
    let state = site.shelf.state(&end.log).expect("held");
    assert!(state.complete() && state.durable == end.len);
}

#[tokio::test]
async fn a_log_that_continues_another_history_is_not_taken() {
    let (a, b) = two();
    let logger = a
        .primary(log(2, &alpha()), None, LoggerLimits::default())
        .await;
    let pred = ChainEnd {
        log: log(1, &alpha()),
        len: 100,
        digest: tree::Digest128([7; 16]),
    };
    let site = b.site().await;
    let mut fetcher = fetching(&b, &site, 2, Some(pred), false).await;
    let ended = soon("the refusal", fetcher.ended()).await;
    assert!(matches!(&ended, Ended::Foreign { .. }), "{ended}");
    assert!(site.shelf.list().is_empty());
    drop(logger);
}

#[tokio::test]
async fn a_member_without_the_log_says_so() {
    let (a, b) = two();
    let _ = a.site().await;
    let site = b.site().await;
    let mut fetcher = fetching(&b, &site, 9, None, false).await;
    let ended = soon("the refusal", fetcher.ended()).await;
    assert!(matches!(&ended, Ended::Refused { .. }), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_durable_bytes_leave_the_host() {
    let (a, b) = two();
    let limits = LoggerLimits {
        unflushed_max: Duration::from_secs(3600),
        ..LoggerLimits::default()
    };
    let logger = a.primary(log(1, &alpha()), None, limits).await;
    let device = logger.device();
    let site = b.site().await;
    let fetcher = fetching(&b, &site, 1, None, false).await;
    write(&device, 0, &[1; 4096]).await;
    flush(&device).await;
    let mut progress = fetcher.progress();
    soon(
        "the first record",
        progress.wait_for(|p| p.durable.len == 4160),
    )
    .await
    .expect("it runs");
    write(&device, 0, &[2; 4096]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fetcher.progress().borrow().received_bytes, 4160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_is_written_while_a_flush_lasts_and_nothing_of_it_is_shown() {
    let (a, b) = two();
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let site = b.site().await;
    let fetcher = fetching(&b, &site, 1, None, false).await;
    let mut progress = fetcher.progress();
    write(&device, 0, &[1; 4096]).await;
    flush(&device).await;
    soon("one record", progress.wait_for(|p| p.durable.len == 4160))
        .await
        .expect("it runs");

    let hold = b.faults.hold_flush("log-000000001");
    let path = b.log_path(&log(1, &alpha()));
    for nr in 2..=3u64 {
        write(&device, 0, &[nr as u8; 4096]).await;
        flush(&device).await;
        let written = async {
            while std::fs::metadata(&path).expect("the copy").len() < 4096 + nr * 4160 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("a record in the file", written).await;
    }
    assert_eq!(progress.borrow().durable.len, 4160);
    let state = site.shelf.state(&log(1, &alpha())).expect("held");
    assert_eq!(state.durable, 4160);
    drop(hold);
    soon("all", progress.wait_for(|p| p.durable.len == 3 * 4160))
        .await
        .expect("it runs");
}
