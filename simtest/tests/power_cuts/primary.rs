//! One primary, one disk, and a power cut after a random number of changes: of the log, of the disk, of the
//! directory; in work, in rotation, in release and in recovery alike. Many lives in a row.
//!
//! After each recovery the disk must be one of the states the device has gone through, not older than the last one that
//! was promised by FUA or FLUSH (invariants 6 to 8, 10, 13 to 15; lessons L-A1 to L-A3).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node::export::Device;
use node::job::{Bound, ChainEnd, Ended, LoggerJob, LoggerLimits, ReplayJob, Running};
use node::worker::logger::start_logger;
use node::worker::replayer::replay;
use simtest::disk::SimFs;
use simtest::net::SimNet;
use simtest::prng::Prng;
use tree::{ReplayPos, key};

use crate::kit::{self, Life, SIZE, Store, alpha, log, power_is_off, replica, res};

const SEEDS: u64 = 150;
const LIVES: u64 = 5;

/// What the application knows.
struct Model {
    images: Vec<Vec<u8>>,
    promised: usize,
}

impl Model {
    fn change(&mut self, at: usize, len: usize, value: u8) {
        let mut next = self.images.last().expect("never empty").clone();
        next[at..at + len].fill(value);
        self.images.push(next);
    }
}

/// Everything of one seed that survives power cuts.
struct World {
    seed: u64,
    fs: SimFs,
    store: Store,
    chance: Prng,
    began: tokio::time::Instant,
    model: Model,
    recoveries: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let fs = SimFs::new(Prng::new(seed, "files"), 1 << 30);
        fs.make_disk(Path::new("/disk"), SIZE as u64);
        let images = vec![vec![0; SIZE]];
        World {
            seed,
            store: Store::new(fs.clone(), Prng::new(seed, "keys")),
            fs,
            chance: Prng::new(seed, "application"),
            began: tokio::time::Instant::now(),
            model: Model {
                images,
                promised: 0,
            },
            recoveries: 0,
        }
    }

    async fn begin(&self) -> Option<Life> {
        let net = SimNet::new(Prng::new(self.seed, "net")).port(&alpha());
        kit::begin(alpha(), self.seed, self.began, &self.store, net).await
    }

    /// What the main loop does after a restart. `None`: the power went meanwhile.
    async fn recover(&mut self, life: &Life) -> Option<Option<ChainEnd>> {
        let Some(mut pos) = self.store.get::<ReplayPos>(&key::replay(&res(), &alpha())) else {
            return Some(None);
        };
        loop {
            let job = ReplayJob {
                log: pos.log.clone(),
                start: pos.offset,
                dirty_end: pos.offset + pos.dirty,
                replica: replica(life).await?,
                bound: Bound::Follow,
            };
            let site = life.site.clone();
            let first = job.first_progress();
            let mut running =
                Running::spawn(first, |stop, progress| replay(job, site, stop, progress));
            let end = match running.ended().await {
                Ended::Done(Some(end)) => end,
                _ if self.fs.is_off() => return None,
                other => panic!("seed {}: recovery ended: {other}", self.seed),
            };
            let next = log(end.log.seq + 1);
            if life.site.shelf.state(&next).is_none() {
                return Some(Some(end));
            }
            (pos.log, pos.offset, pos.dirty) = (next, 0, 0);
        }
    }

    fn check_recovered(&mut self) {
        let disk = self.fs.read(Path::new("/disk")).expect("the disk is there");
        let allowed = &self.model.images[self.model.promised..];
        if !allowed.contains(&disk) {
            let found = self.model.images.iter().rposition(|image| *image == disk);
            panic!(
                "seed {}: the disk is state {found:?} of {}, promised was {}",
                self.seed,
                self.model.images.len(),
                self.model.promised
            );
        }
        self.model = Model {
            images: vec![disk],
            promised: 0,
        };
        self.recoveries += 1;
    }

    /// Work until the power goes or there is nothing more to do.
    async fn work(&mut self, life: &Life, pred: Option<ChainEnd>) -> Option<()> {
        let mut seq = pred.as_ref().map_or(1, |pred| pred.log.seq + 1);
        let limits = LoggerLimits {
            buffer_bytes_max: self.chance.between(8, 64) << 10,
            writeback_age_max: Duration::from_millis(50),
            ahead: storage::AheadOptions {
                ahead_bytes: 4096 * self.chance.below(3),
                ..Default::default()
            },
            ..LoggerLimits::default()
        };
        let replica = replica(life).await?;
        let job = LoggerJob {
            log: log(seq),
            pred,
            replica,
            size: SIZE as u64,
            limits,
        };
        let logger = start_logger(job, life.site.clone()).await.ok()?;
        let device = logger.device();
        for _ in 0..self.chance.between(1, 60) {
            if self.chance.chance(40) && logger.rotate(log(seq + 1)).is_ok() {
                seq += 1;
            }
            self.one_request(&device).await?;
        }
        if self.chance.chance(300)
            && let Ended::Done(_) = logger.stop().await
        {
            self.model.promised = self.model.images.len() - 1;
            let disk = self.fs.read_durable(Path::new("/disk")).expect("there");
            assert!(
                Some(&disk) == self.model.images.last(),
                "seed {}: released, but not all durable",
                self.seed
            );
        }
        Some(())
    }

    async fn one_request(&mut self, device: &Arc<dyn Device>) -> Option<()> {
        let at = self.chance.below(SIZE as u64 - 1);
        let len = self.chance.between(1, (SIZE as u64 - at).min(6000));
        let (from, count) = (at as usize, len as usize);
        match self.chance.below(100) {
            0..=54 => {
                let (value, fua) = (self.chance.u64() as u8, self.chance.chance(150));
                self.model.change(from, count, value);
                device
                    .write(at, vec![value; count].into(), fua)
                    .wait()
                    .await
                    .ok()?;
                if fua {
                    self.model.promised = self.model.images.len() - 1;
                }
            }
            55..=64 => {
                self.model.change(from, count, 0);
                let trim = self.chance.chance(500);
                device.zero(at, len, false, trim).wait().await.ok()?;
            }
            65..=79 => {
                device.flush().wait().await.ok()?;
                self.model.promised = self.model.images.len() - 1;
            }
            80..=89 => {
                let bytes = device.read(0, SIZE as u32).wait().await.ok()?;
                assert!(
                    Some(&bytes.to_vec()) == self.model.images.last(),
                    "seed {}: a reader sees something else",
                    self.seed
                );
            }
            _ => tokio::time::sleep(Duration::from_millis(self.chance.below(200))).await,
        }
        Some(())
    }

    async fn one_life(&mut self) {
        self.fs.cut_power_after(self.chance.between(1, 400));
        if let Some(life) = self.begin().await {
            if let Some(pred) = self.recover(&life).await {
                if pred.is_some() {
                    self.check_recovered();
                }
                let fs = self.fs.clone();
                tokio::select! {
                    biased;
                    _ = self.work(&life, pred) => {}
                    () = power_is_off(fs) => {}
                }
            }
            life.exec.kill();
        }
        self.fs.power_off();
        // Whatever is still under way meets a dead disk, as it would.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.store = self.store.after_cut();
        self.fs.power_on();
    }
}

async fn check_seed(seed: u64) -> u64 {
    let mut world = World::new(seed);
    for _ in 0..LIVES {
        let life = tokio::time::timeout(Duration::from_secs(3600), world.one_life());
        assert!(life.await.is_ok(), "seed {seed}: a life hangs");
    }
    world.fs.cut_power_after(u64::MAX);
    let life = world.begin().await.expect("the power is on");
    if world
        .recover(&life)
        .await
        .expect("the power is on")
        .is_some()
    {
        world.check_recovered();
    }
    world.recoveries
}

#[test]
fn after_any_power_cut_the_disk_is_a_past_state_with_everything_that_was_promised() {
    let recoveries = kit::for_each_seed(SEEDS, check_seed);
    println!("{recoveries} recoveries");
    assert!(recoveries > 0);
}
