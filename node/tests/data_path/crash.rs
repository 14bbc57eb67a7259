//! Random work, a crash at a random moment, recovery, comparison with a model; several lives in a row.

use std::sync::Arc;
use std::time::Duration;

use node::job::{Bound, ChainEnd, LoggerLimits, ReplayJob, Running};
use node::worker::replayer::replay;
use proptest::prelude::*;

use crate::kit::{self, Machine, alpha, log, soon};

const SIZE: usize = 64 << 10;

#[derive(Clone, Debug)]
enum Op {
    Write {
        at: usize,
        len: usize,
        value: u8,
        fua: bool,
    },
    Zero {
        at: usize,
        len: usize,
        trim: bool,
    },
    Flush,
    Rotate,
    Pause(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let range = (0..SIZE - 1).prop_flat_map(|at| (Just(at), 1..(SIZE - at).min(9000)));
    prop_oneof![
        10 => (range.clone(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|((at, len), value, fua)| Op::Write { at, len, value, fua }),
        2 => (range, any::<bool>()).prop_map(|((at, len), trim)| Op::Zero { at, len, trim }),
        2 => Just(Op::Flush),
        1 => Just(Op::Rotate),
        2 => (0..150u64).prop_map(Op::Pause),
    ]
}

/// What the application knows: every image the device went through, and which one is the oldest it may come back with.
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

    fn promise(&mut self) {
        self.promised = self.images.len() - 1;
    }
}

/// One life of a primary: works through `ops`, then is killed.
async fn live(machine: &Machine, pred: Option<ChainEnd>, ops: &[Op], model: &mut Model) {
    let mut seq = pred.as_ref().map_or(1, |pred| pred.log.seq + 1);
    let limits = LoggerLimits {
        buffer_bytes_max: 40 << 10,
        writeback_age_max: Duration::from_millis(50),
        ..LoggerLimits::default()
    };
    let logger = machine.primary(log(seq, &alpha()), pred, limits).await;
    let device = logger.device();
    for op in ops {
        match *op {
            Op::Write {
                at,
                len,
                value,
                fua,
            } => {
                model.change(at, len, value);
                let bytes = vec![value; len].into();
                soon("a write", device.write(at as u64, bytes, fua).wait())
                    .await
                    .expect("a write");
                if fua {
                    model.promise();
                }
            }
            Op::Zero { at, len, trim } => {
                model.change(at, len, 0);
                let zero = device.zero(at as u64, len as u64, false, trim);
                soon("a zero", zero.wait()).await.expect("a zero");
            }
            Op::Flush => {
                kit::flush(&device).await;
                model.promise();
            }
            Op::Rotate => {
                if logger.rotate(log(seq + 1, &alpha())).is_ok() {
                    seq += 1;
                }
            }
            Op::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        let now = model.images.last().expect("never empty");
        assert!(
            kit::read(&device, 0, SIZE as u32).await == *now,
            "a reader sees what was acknowledged"
        );
    }
}

/// What the main loop does after a restart: replay what there is, log by log.
async fn recover(machine: &Machine) -> Option<ChainEnd> {
    let site = machine.site().await;
    let mut pos = machine.replay_pos();
    loop {
        let job = ReplayJob {
            log: pos.log.clone(),
            start: pos.offset,
            dirty_end: pos.offset + pos.dirty,
            replica: machine.replica().await,
            bound: Bound::Follow,
        };
        let replaying = site.clone();
        let mut running = Running::spawn(job.first_progress(), |stop, progress| {
            replay(job, replaying, stop, progress)
        });
        let end = kit::done(soon("recovery", running.ended()).await);
        let next = log(end.log.seq + 1, &alpha());
        match site.shelf.state(&next) {
            Some(_) => (pos.log, pos.offset, pos.dirty) = (next, 0, 0),
            None => return Some(end),
        }
    }
}

async fn check_lives(lives: Vec<(Vec<Op>, bool)>) {
    let mut machine = Machine::new(alpha(), &Arc::default(), &[0; SIZE]);
    let mut model = Model {
        images: vec![vec![0; SIZE]],
        promised: 0,
    };
    let mut pred = None;
    for (ops, keep_lazy) in lives {
        live(&machine, pred, &ops, &mut model).await;
        *machine.stock.source.lock() = None;
        machine = machine.crash(keep_lazy).await;
        pred = recover(&machine).await;
        let disk = machine.disk();
        let found = model.images.iter().rposition(|image| *image == disk);
        let found = found.expect("the disk is one of the states the device went through");
        let same_as_promised = model.images[model.promised..].contains(&disk);
        assert!(
            same_as_promised,
            "came back as {found}, but {} was promised",
            model.promised
        );
        model = Model {
            images: vec![disk],
            promised: 0,
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_the_disk_is_a_past_state_with_everything_that_was_promised(
        lives in prop::collection::vec((prop::collection::vec(op(), 1..30), any::<bool>()), 1..4)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(check_lives(lives));
    }
}
