//! A secondary that loses its power again and again while it fetches, replays and syncs from a primary that goes on.
//!
//! Whenever its keys say that the replica is consistent, local replay up to the dirty end must lead to exactly the state
//! the primary's device had at that position (invariants 13, 16, 17, 33, 34, 36). In the end both disks are equal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node::export::Device;
use node::job::{Bound, Ended, FetchJob, LoggerJob, LoggerLimits, ReplayJob, Running, SyncJob};
use node::ports::Keys;
use node::worker::fetcher::fetch;
use node::worker::logger::{LoggerHandle, start_logger};
use node::worker::replayer::replay;
use node::worker::shelf::Shelf;
use node::worker::source::{Stock, SyncSource, serve};
use node::worker::syncer::sync;
use simtest::disk::SimFs;
use simtest::net::SimNet;
use simtest::prng::Prng;
use tree::{LogPos, ReplayPos, Resource, key};

use crate::kit::{self, Life, SIZE, Store, alpha, beta, log, power_is_off, replica, res};

const SEEDS: u64 = 100;
const LIVES: u64 = 8;

/// The primary: never without power, always writing.
struct Source {
    _life: Life,
    logger: LoggerHandle,
    device: Arc<dyn Device>,
    chance: Prng,
    /// The device after each record, by the end of the record in the log.
    images: Vec<(u64, Vec<u8>)>,
}

struct SourceStock {
    shelf: Arc<Shelf>,
    source: Arc<dyn SyncSource>,
}

impl Stock for SourceStock {
    fn shelf(&self, _: &Resource) -> Option<Arc<Shelf>> {
        Some(self.shelf.clone())
    }
    fn sync_source(&self, _: &Resource) -> Option<Arc<dyn SyncSource>> {
        Some(self.source.clone())
    }
}

impl Source {
    async fn begin(seed: u64, began: tokio::time::Instant, net: &SimNet) -> Source {
        let fs = SimFs::new(Prng::new(seed, "files of alpha"), 1 << 30);
        fs.make_disk(Path::new("/disk"), SIZE as u64);
        let store = Store::new(fs, Prng::new(seed, "keys of alpha"));
        let port = net.port(&alpha());
        let life = kit::begin(alpha(), seed, began, &store, port.clone()).await;
        let life = life.expect("alpha has power");
        let replica = replica(&life).await.expect("alpha has power");
        let limits = LoggerLimits {
            buffer_bytes_max: 20 << 10,
            ahead: storage::AheadOptions {
                ahead_bytes: 0,
                ..Default::default()
            },
            ..LoggerLimits::default()
        };
        let job = LoggerJob {
            log: log(1),
            pred: None,
            replica,
            size: SIZE as u64,
            limits,
        };
        let logger = start_logger(job, life.site.clone())
            .await
            .expect("alpha has power");
        let (shelf, source) = (life.site.shelf.clone(), logger.sync_source());
        let stock: Arc<dyn Stock> = Arc::new(SourceStock { shelf, source });
        let ports = life.site.ports.clone();
        tokio::spawn(async move {
            while let Some(incoming) = port.accept().await {
                tokio::spawn(serve(incoming, stock.clone(), ports.clone()));
            }
        });
        let (device, chance) = (logger.device(), Prng::new(seed, "application"));
        let images = vec![(0, vec![0; SIZE])];
        Source {
            _life: life,
            logger,
            device,
            chance,
            images,
        }
    }

    async fn write_some(&mut self) {
        for _ in 0..self.chance.between(1, 4) {
            let at = self.chance.below(SIZE as u64 - 1);
            let len = self.chance.between(1, (SIZE as u64 - at).min(6000));
            let (end, mut image) = self.images.last().expect("never empty").clone();
            let (range, record) = (
                at as usize..(at + len) as usize,
                64 + len.next_multiple_of(8),
            );
            if self.chance.chance(150) {
                image[range].fill(0);
                // What was asked for happens, even when nobody waits for the answer.
                self.images.push((end + 64, image));
                self.device
                    .zero(at, len, false, true)
                    .wait()
                    .await
                    .expect("alpha has power");
            } else {
                let value = self.chance.u64() as u8;
                image[range].fill(value);
                let bytes = vec![value; len as usize].into();
                self.images.push((end + record, image));
                self.device
                    .write(at, bytes, false)
                    .wait()
                    .await
                    .expect("alpha has power");
            }
        }
        tokio::time::sleep(Duration::from_millis(self.chance.below(120))).await;
    }

    fn image_at(&self, offset: u64) -> &[u8] {
        let found = self.images.iter().find(|(end, _)| *end == offset);
        &found.expect("positions are record boundaries").1
    }
}

/// The secondary, across its power cuts.
struct Target {
    seed: u64,
    fs: SimFs,
    store: Store,
    chance: Prng,
    net: SimNet,
    began: tokio::time::Instant,
    consistent: u64,
}

impl Target {
    fn new(seed: u64, began: tokio::time::Instant, net: &SimNet) -> Target {
        let fs = SimFs::new(Prng::new(seed, "files of beta"), 1 << 30);
        fs.make_disk(Path::new("/disk"), SIZE as u64);
        let store = Store::new(fs.clone(), Prng::new(seed, "keys of beta"));
        let (chance, net) = (Prng::new(seed, "power of beta"), net.clone());
        Target {
            seed,
            fs,
            store,
            chance,
            net,
            began,
            consistent: 0,
        }
    }

    fn replay_pos(&self) -> ReplayPos {
        let stored = self.store.get(&key::replay(&res(), &beta()));
        stored.unwrap_or(ReplayPos {
            log: log(1),
            offset: 0,
            dirty: 0,
        })
    }

    fn synced(&self) -> u64 {
        self.store
            .get(&key::syncstatus(&res(), &beta()))
            .unwrap_or(0)
    }

    /// What `view` calls consistent.
    fn is_consistent(&self) -> bool {
        let point: Option<ReplayPos> = self.store.get(&key::syncpos(&res(), &beta()));
        let reached = |point: &LogPos| self.replay_pos().clean() >= *point;
        self.synced() == SIZE as u64 && point.is_some_and(|point| reached(&point.clean()))
    }

    async fn begin(&self) -> Option<Life> {
        kit::begin(
            beta(),
            self.seed,
            self.began,
            &self.store,
            self.net.port(&beta()),
        )
        .await
    }

    /// Replays what may be on the disk already, and nothing else.
    async fn check_after_cut(&mut self, life: &Life, source: &Source) -> Option<()> {
        if !self.is_consistent() {
            return Some(());
        }
        let pos = self.replay_pos();
        let job = ReplayJob {
            log: pos.log.clone(),
            start: pos.offset,
            dirty_end: pos.offset + pos.dirty,
            replica: replica(life).await?,
            bound: Bound::UpTo(pos.offset + pos.dirty),
        };
        let site = life.site.clone();
        let mut running = Running::spawn(job.first_progress(), |stop, progress| {
            replay(job, site, stop, progress)
        });
        match running.ended().await {
            Ended::Reached(at) => {
                assert_eq!(at.offset, pos.dirty_end().offset, "seed {}", self.seed)
            }
            _ if self.fs.is_off() => return None,
            other => panic!("seed {}: local replay ended: {other}", self.seed),
        }
        let disk = self.fs.read(Path::new("/disk")).expect("the disk is there");
        let expected = source.image_at(pos.offset + pos.dirty);
        assert!(
            disk == expected,
            "seed {}: at {pos} the disk is no state of the device",
            self.seed
        );
        self.consistent += 1;
        Some(())
    }

    /// Fetches, replays and syncs, as the main loop would; each is started again when it ends early.
    async fn follow(&self, life: &Life, until: u64) -> Option<()> {
        let replica = replica(life).await?;
        let (mut fetching, mut replaying, mut syncing) = (None, None, None);
        loop {
            let site = life.site.clone();
            fetching.get_or_insert_with(|| {
                let job = FetchJob {
                    log: log(1),
                    from: alpha(),
                    pred: None,
                    afresh: false,
                };
                let site = site.clone();
                Running::spawn(job.first_progress(), |stop, progress| {
                    fetch(job, site, stop, progress)
                })
            });
            if replaying.is_none() && life.site.shelf.state(&log(1)).is_some() {
                let pos = self.replay_pos();
                let dirty_end = pos.offset + pos.dirty;
                let (replica, bound, start) = (replica.clone(), Bound::Follow, pos.offset);
                let job = ReplayJob {
                    log: pos.log,
                    start,
                    dirty_end,
                    replica,
                    bound,
                };
                let site = site.clone();
                replaying = Some(Running::spawn(job.first_progress(), |stop, progress| {
                    replay(job, site, stop, progress)
                }));
            }
            if syncing.is_none() && self.synced() < SIZE as u64 {
                let job = SyncJob {
                    from: alpha(),
                    start: self.synced(),
                    size: SIZE as u64,
                    replica: replica.clone(),
                };
                let site = site.clone();
                syncing = Some(Running::spawn(job.first_progress(), |stop, progress| {
                    sync(job, site, stop, progress)
                }));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            fetching = fetching.filter(|running| !running.is_finished());
            replaying = replaying.filter(|running| !running.is_finished());
            syncing = syncing.filter(|running| !running.is_finished());
            if self.fs.is_off() {
                return None;
            }
            if self.is_consistent() && self.replay_pos().offset >= until {
                return Some(());
            }
        }
    }

    async fn one_life(&mut self, source: &mut Source) {
        self.fs.cut_power_after(self.chance.between(1, 120));
        if let Some(life) = self.begin().await {
            if self.check_after_cut(&life, source).await.is_some() {
                let pause = Duration::from_millis(self.chance.between(1, 4000));
                let fs = self.fs.clone();
                let writing = async {
                    loop {
                        source.write_some().await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = self.follow(&life, u64::MAX) => {}
                    () = writing => {}
                    () = power_is_off(fs) => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            life.exec.kill();
        }
        self.fs.power_off();
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.store = self.store.after_cut();
        self.fs.power_on();
    }
}

async fn check_seed(seed: u64) -> u64 {
    let began = tokio::time::Instant::now();
    let net = SimNet::new(Prng::new(seed, "net"));
    let mut source = Source::begin(seed, began, &net).await;
    let mut target = Target::new(seed, began, &net);
    // Contents from an earlier use of the disk; a member that joins begins at the log of the primary.
    let garbage: Vec<u8> = (0..SIZE).map(|nr| (nr / 4096 % 3) as u8).collect();
    let old = target.fs.clone();
    storage::Disk::open(&old, Path::new("/disk"), None)
        .and_then(|disk| {
            disk.write(&[garbage.into()], 0)?;
            disk.flush()
        })
        .expect("beta has power");
    let start = (
        key::replay(&res(), &beta()),
        Some(format!("{},0,0", log(1))),
    );
    target
        .store
        .commit(vec![start])
        .await
        .expect("beta has power");
    for _ in 0..LIVES {
        let life = tokio::time::timeout(Duration::from_secs(3600), target.one_life(&mut source));
        assert!(life.await.is_ok(), "seed {seed}: a life hangs");
    }
    target.fs.cut_power_after(u64::MAX);
    source.device.flush().wait().await.expect("alpha has power");
    let (end, image) = source.images.last().expect("never empty").clone();
    let life = target.begin().await.expect("beta has power");
    target
        .check_after_cut(&life, &source)
        .await
        .expect("beta has power");
    let caught_up = tokio::time::timeout(Duration::from_secs(3600), target.follow(&life, end));
    assert!(
        caught_up.await.is_ok(),
        "seed {seed}: never catches up, is at {}",
        target.replay_pos()
    );
    assert!(
        target.fs.read(Path::new("/disk")).as_ref() == Some(&image),
        "seed {seed}: the disks differ"
    );
    drop(source.logger);
    target.consistent
}

#[test]
fn a_consistent_replica_is_a_state_of_the_device_after_any_power_cut() {
    let checks = kit::for_each_seed(SEEDS, check_seed);
    println!("{checks} replicas compared after a cut");
    assert!(checks > 0);
}
