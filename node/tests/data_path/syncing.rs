//! First copy and repair of a disk, with replay going on at the same time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use node::job::{
    Bound, Ended, FetchJob, LoggerLimits, ReplayJob, Running, Site, SyncJob, SyncProgress,
};
use node::ports::BoxFuture;
use node::worker::fetcher::fetch;
use node::worker::replayer::replay;
use node::worker::replica::Replica;
use node::worker::source::{BlockDigest, SyncSource};
use node::worker::syncer::sync;
use tokio::sync::Notify;
use tree::{LogPos, ReplayPos, key};

use crate::kit::{self, Machine, MemNet, alpha, beta, flush, log, res, soon, write};

const MIB: usize = 1 << 20;

fn two(ours: &[u8], theirs: &[u8]) -> (Machine, Machine) {
    let net = Arc::new(MemNet::default());
    (
        Machine::new(alpha(), &net, ours),
        Machine::new(beta(), &net, theirs),
    )
}

fn syncing(site: &Site, replica: &Arc<Replica>, start: u64) -> Running<SyncProgress> {
    let job = SyncJob {
        from: alpha(),
        start,
        size: replica.size(),
        replica: replica.clone(),
    };
    let site = site.clone();
    Running::spawn(job.first_progress(), |stop, progress| {
        sync(job, site, stop, progress)
    })
}

/// Follows log 1 of alpha and applies it.
fn following(site: &Site, replica: &Arc<Replica>) -> (Running<node::job::FetchProgress>, FetchJob) {
    let job = FetchJob {
        log: log(1, &alpha()),
        from: alpha(),
        pred: None,
        afresh: false,
    };
    let (kept, site, _) = (job.clone(), site.clone(), replica);
    (
        Running::spawn(job.first_progress(), |stop, progress| {
            fetch(job, site, stop, progress)
        }),
        kept,
    )
}

fn replaying(site: &Site, replica: &Arc<Replica>) -> Running<node::job::ReplayProgress> {
    let job = ReplayJob {
        log: log(1, &alpha()),
        start: 0,
        dirty_end: 0,
        replica: replica.clone(),
        bound: Bound::Follow,
    };
    let site = site.clone();
    Running::spawn(job.first_progress(), |stop, progress| {
        replay(job, site, stop, progress)
    })
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    (0..bytes)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_disks_are_found_equal_without_copying_a_byte() {
    let disk = noise(9 * MIB + 12345, 7);
    let (a, b) = two(&disk, &disk);
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let (site, replica) = (b.site().await, b.replica().await);
    let mut syncer = syncing(&site, &replica, 0);
    assert_eq!(soon("the sync", syncer.ended()).await, Ended::Done(None));
    let progress = syncer.progress().borrow().clone();
    assert_eq!(
        (progress.equal_bytes, progress.copied_bytes),
        (disk.len() as u64, 0)
    );
    let stored = b.keys.durable_text(&key::syncstatus(&res(), &beta()));
    assert_eq!(stored, Some(disk.len().to_string()));
    drop(logger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_blocks_that_differ_travel_and_the_consistency_point_is_stored_first() {
    let disk = noise(5 * MIB, 7);
    let mut other = disk.clone();
    other[3 * MIB + 5000] ^= 1;
    other[4 * MIB..4 * MIB + 8192].fill(0);
    let (a, b) = two(&disk, &other);
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    write(&logger.device(), 0, &[9; 4096]).await;
    let (site, replica) = (b.site().await, b.replica().await);
    let mut syncer = syncing(&site, &replica, 0);
    assert_eq!(soon("the sync", syncer.ended()).await, Ended::Done(None));
    assert_eq!(syncer.progress().borrow().copied_bytes, 4 * 4096);
    let mut expected = disk;
    expected[..4096].fill(9);
    assert!(b.disk() == expected);

    let point = b
        .keys
        .durable_text(&key::syncpos(&res(), &beta()))
        .expect("stored");
    let point: ReplayPos = point.parse().expect("a position");
    assert_eq!(point.clean(), log(1, &alpha()).at(4096 + 64));
    let commits = b.keys.history.lock().concat();
    let nr_of = |key: &str| commits.iter().position(|commit| commit.starts_with(key));
    assert!(nr_of("resource-data/syncpos-beta") < nr_of("resource-data/syncstatus-beta"));
    drop(logger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_under_load_with_replay_at_the_same_time_ends_with_equal_disks() {
    let (a, b) = two(&noise(24 * MIB, 3), &noise(24 * MIB, 4));
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let device = logger.device();
    let (site, replica) = (b.site().await, b.replica().await);
    let (mut fetcher, _) = following(&site, &replica);
    let mut progress = fetcher.progress();
    write(&device, 77, &[1; 100]).await;
    soon("the first record", progress.wait_for(|p| p.durable.len > 0))
        .await
        .expect("it runs");
    let mut replayer = replaying(&site, &replica);
    let mut syncer = syncing(&site, &replica, 0);
    let mut nr = 0u64;
    while !syncer.is_finished() {
        // Hot blocks, in all chunks, of odd sizes: sync and replay meet again and again.
        let at = nr % 24 * MIB as u64 + nr % 5 * 3000;
        write(&device, at, &[nr as u8; 5000]).await;
        nr += 1;
        if nr.is_multiple_of(16) {
            flush(&device).await;
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(soon("the sync", syncer.ended()).await, Ended::Done(None));
    let end = kit::done(soon("a release", logger.stop()).await);
    assert_eq!(kit::done(soon("the fetch", fetcher.ended()).await), end);
    assert_eq!(kit::done(soon("the replay", replayer.ended()).await), end);
    assert!(nr > 50, "there was load: {nr} writes");
    assert!(a.disk() == b.disk());
    let point: ReplayPos = b
        .keys
        .text(&key::syncpos(&res(), &beta()))
        .expect("stored")
        .parse()
        .expect("good");
    assert!(point.clean() <= end.log.at(end.len));
}

/// A source that keeps the contents of a single block back until it is told to go on.
struct SlowSource {
    inner: Arc<dyn SyncSource>,
    has_read: AtomicBool,
    is_held: Notify,
    go_on: Arc<Notify>,
}

impl SyncSource for SlowSource {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn newest(&self) -> LogPos {
        self.inner.newest()
    }
    fn read(&self, at: u64, len: u32) -> BoxFuture<'static, Result<Bytes, String>> {
        self.has_read.store(len == 4096, Ordering::SeqCst);
        self.inner.read(at, len)
    }
    fn digests(
        &self,
        at: u64,
        len: u64,
        block: u32,
    ) -> BoxFuture<'static, Result<Vec<BlockDigest>, String>> {
        self.inner.digests(at, len, block)
    }
    fn settle(&self) -> BoxFuture<'static, Result<LogPos, String>> {
        let settled = self.inner.settle();
        if !self.has_read.swap(false, Ordering::SeqCst) {
            return settled;
        }
        self.is_held.notify_one();
        let go_on = self.go_on.clone();
        Box::pin(async move {
            go_on.notified().await;
            settled.await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_arrives_late_does_not_undo_what_replay_has_brought_meanwhile() {
    let (a, b) = two(&[1; MIB], &[0; MIB]);
    std::fs::write(b.disk_path(), [vec![0; 4096], vec![1; MIB - 4096]].concat()).expect("a disk");
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let source = Arc::new(SlowSource {
        inner: logger.sync_source(),
        has_read: AtomicBool::new(false),
        is_held: Notify::new(),
        go_on: Arc::default(),
    });
    *a.stock.source.lock() = Some(source.clone());
    let (site, replica) = (b.site().await, b.replica().await);
    let (mut fetcher, _) = following(&site, &replica);
    let mut fetched = fetcher.progress();
    write(&logger.device(), MIB as u64 - 512, &[1; 512]).await;
    soon("the first record", fetched.wait_for(|p| p.durable.len > 0))
        .await
        .expect("it runs");
    let mut replayer = replaying(&site, &replica);
    let mut syncer = syncing(&site, &replica, 0);
    soon("the question", source.is_held.notified()).await;
    assert_eq!(site.copying.reading.load(Relaxed), 1);

    // The source has read the block; now the middle of it changes, and replay is faster than the answer.
    write(&logger.device(), 1000, &[7; 500]).await;
    let mut replayed = replayer.progress();
    soon(
        "replay",
        replayed.wait_for(|p| p.applied.offset == 576 + 568),
    )
    .await
    .expect("it runs");
    source.go_on.notify_one();
    assert_eq!(soon("the sync", syncer.ended()).await, Ended::Done(None));
    assert_eq!(site.copying.reading.load(Relaxed), 0);
    assert_eq!(site.copying.writing.load(Relaxed), 0);
    let mut expected = vec![1; MIB];
    expected[1000..1500].fill(7);
    assert!(b.disk() == expected);
    let end = kit::done(soon("a release", logger.stop()).await);
    assert_eq!(kit::done(soon("the fetch", fetcher.ended()).await), end);
    assert_eq!(kit::done(soon("the replay", replayer.ended()).await), end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_sync_goes_on_where_it_was() {
    let (a, b) = two(&noise(40 * MIB, 3), &[0; 40 * MIB]);
    let logger = a
        .primary(log(1, &alpha()), None, LoggerLimits::default())
        .await;
    let (site, replica) = (b.site().await, b.replica().await);
    let mut syncer = syncing(&site, &replica, 0);
    let mut progress = syncer.progress();
    soon("some progress", progress.wait_for(|p| p.synced > 0))
        .await
        .expect("it runs");
    syncer.stop();
    let ended = soon("the stop", syncer.ended()).await;
    if ended == Ended::Stopped {
        let stored = b
            .keys
            .text(&key::syncstatus(&res(), &beta()))
            .expect("stored");
        let start: u64 = stored.parse().expect("a number");
        assert!(start > 0 && b.disk()[..start as usize] == a.disk()[..start as usize]);
        let mut second = syncing(&site, &replica, start);
        assert_eq!(soon("the rest", second.ended()).await, Ended::Done(None));
        let (first, second) = (
            syncer.progress().borrow().clone(),
            second.progress().borrow().clone(),
        );
        assert!(first.copied_bytes + second.copied_bytes <= 2 * 40 * MIB as u64);
    }
    assert!(b.disk() == a.disk());
    drop(logger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_primary_refuses_to_be_a_source() {
    let (a, b) = two(&[0; MIB], &[0; MIB]);
    let _ = a.site().await;
    let (site, replica) = (b.site().await, b.replica().await);
    let mut syncer = syncing(&site, &replica, 0);
    let ended = soon("the refusal", syncer.ended()).await;
    assert!(matches!(&ended, Ended::Lost { .. }), "{ended}");
    tokio::time::sleep(Duration::from_millis(10)).await;
}
