//! One random world: a cluster, an application, and trouble drawn from the seed; then everything is healed,
//! operators repair what only operators may repair, and every promise has to hold.

mod by_hand;
mod far;
mod links;
mod repair;
mod trouble;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::app::App;
use crate::host::SimHost;
use crate::promises::{self, Watch};
use crate::world::{self, World};

/// Resource of every random world.
const RES: &str = "data";
/// Nothing happens for at most so long between two events.
const PAUSE_MAX_MS: u64 = 12_000;
/// The same in long worlds, where much more happens.
const PAUSE_BRIEF_MAX_MS: u64 = 600;
/// One world in so many is long.
const LONG_WORLD_EVERY: u64 = 8;

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Digest of its trace.
    pub digest: String,
    /// Promises that were broken; none when all is well.
    pub broken: Vec<String>,
    /// The last lines of the trace, when something was broken.
    pub tail: Vec<String>,
    /// Virtual time it took.
    pub time: Duration,
    /// Faults, commands and other events, by kind.
    pub counts: BTreeMap<String, u64>,
}

/// How big and how wild a world is; drawn from its seed.
#[derive(Clone, Debug)]
struct Shape {
    names: Vec<String>,
    size: u64,
    events: u64,
    /// Nothing happens for at most so long between two events.
    pause_max_ms: u64,
    /// Kinds of trouble and how likely each is.
    mix: Vec<(trouble::Kind, u64)>,
}

/// Runs the world of one seed.
pub fn run(seed: u64, show: bool) -> Outcome {
    world::run(seed, show, |mut w| async move {
        let told = tell(&mut w).await;
        let mut broken = w.broken();
        if let Err(error) = told {
            broken.push(error);
        }
        Outcome {
            seed,
            digest: w.trace.digest(),
            tail: if broken.is_empty() {
                Vec::new()
            } else {
                w.trace.tail(60)
            },
            broken,
            time: w.now(),
            counts: w.counts(),
        }
    })
}

/// What becomes of a seed in which the product panics.
pub fn panicked(seed: u64, panic: &(dyn std::any::Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Outcome {
        seed,
        digest: String::new(),
        broken: vec![format!("panic: {}", text.unwrap_or_default())],
        tail: Vec::new(),
        time: Duration::ZERO,
        counts: BTreeMap::new(),
    }
}

async fn tell(w: &mut World) -> Result<(), String> {
    let shape = draw(w);
    w.note("", &format!("{shape:?}"));
    let app = begin(w, &shape).await?;
    let mut watch = Watch::default();
    for _ in 0..shape.events {
        rest_and_look(w, &shape, &mut watch).await?;
        let kind = trouble::pick(&w.chance, &shape.mix);
        w.count(&format!("{kind:?}"));
        trouble::cause(w, &shape, kind).await;
    }
    repair::heal(w, &shape).await?;
    match repair::until_up_to_date(w, &app, &shape, &mut watch).await? {
        true => repair::compare(w, &app, &shape).await,
        false => promises::trees::must_converge(w).await,
    }
}

fn draw(w: &World) -> Shape {
    let hosts = match w.chance.below(10) {
        0..=3 => 2,
        4..=8 => 3,
        _ => 4,
    };
    let names = ["alpha", "beta", "gamma", "delta"][..hosts]
        .iter()
        .map(|n| (*n).to_owned());
    let calm = w.chance.chance(300);
    let long = w.chance.below(LONG_WORLD_EVERY) == 0;
    let kinds = if long {
        trouble::Kind::BRIEF
    } else {
        trouble::Kind::ALL
    };
    let mix = kinds.iter().map(|kind| {
        let weight = if w.chance.chance(if calm { 250 } else { 550 }) {
            w.chance.between(1, 10)
        } else {
            0
        };
        (*kind, weight)
    });
    Shape {
        names: names.collect(),
        size: w.chance.between(3, 9) << 15,
        events: match long {
            true => w.chance.between(200, 400),
            false => w.chance.between(8, 30),
        },
        pause_max_ms: if long {
            PAUSE_BRIEF_MAX_MS
        } else {
            PAUSE_MAX_MS
        },
        mix: mix.collect(),
    }
}

/// A cluster with one resource, all members up to date or on the way, and an application that writes.
async fn begin(w: &mut World, shape: &Shape) -> Result<App, String> {
    let rotate = w.chance.between(1, 16) << 14;
    let keep = Duration::from_secs(w.chance.between(1, 30));
    let (buffer, age) = (
        w.chance.between(1, 32) << 15,
        Duration::from_millis(w.chance.between(100, 10_000)),
    );
    let apart = Duration::from_millis(w.chance.between(4, 100));
    w.configure(move |config| {
        config.rounds_apart = apart;
        config.rotate_bytes = rotate;
        config.keep_logs = keep;
        config.logger.buffer_bytes_max = buffer;
        config.logger.writeback_age_max = age;
    });
    let names: Vec<&str> = shape.names.iter().map(String::as_str).collect();
    w.net.allow_silent_crashes();
    w.cluster(&names).await.map_err(|e| e.to_string())?;
    let app = w.app(RES, shape.size);
    for name in &names {
        w.host(name)
            .fs
            .make_disk(&SimHost::disk_path(RES), shape.size);
    }
    let disk = SimHost::disk_path(RES);
    let disk = disk.display();
    w.try_must(names[0], &format!("marsadm create-resource {RES} {disk}"))
        .await?;
    app.hurry();
    app.work();
    for name in &names[1..] {
        w.run_for(Duration::from_millis(w.chance.below(5_000)))
            .await;
        w.try_must(name, &format!("marsadm join-resource {RES} {disk}"))
            .await?;
    }
    Ok(app)
}

/// Time passes; everything that must hold at every step is looked at now and then.
async fn rest_and_look(w: &mut World, shape: &Shape, watch: &mut Watch) -> Result<(), String> {
    let deadline = w.now() + Duration::from_millis(w.chance.below(shape.pause_max_ms));
    while w.now() < deadline {
        watch.look(w)?;
        w.note_past_log();
        w.run_for(Duration::from_millis(w.chance.between(50, 2_000)))
            .await;
        if let Some(first) = w.broken().first() {
            return Err(first.clone());
        }
    }
    Ok(())
}
