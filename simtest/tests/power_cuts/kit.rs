//! What the tests of both roles share: keys that lose what is lazy, and one host's beginning after a power cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node::job::{ChainEnd, Site};
use node::ports::{BoxFuture, Chance, KeyChange, Keys, KeysError, Ports};
use node::worker::replica::Replica;
use node::worker::shelf::Shelf;
use parking_lot::Mutex;
use simtest::clock::SimClock;
use simtest::disk::SimFs;
use simtest::exec::SimExec;
use simtest::prng::Prng;
use transport::Net;
use tree::{Host, LogName, Resource, Stamp, VersionLink};

/// Bytes of every disk.
pub const SIZE: usize = 32 << 10;

pub fn alpha() -> Host {
    Host::new("alpha").expect("a good name")
}

pub fn beta() -> Host {
    Host::new("beta").expect("a good name")
}

pub fn res() -> Resource {
    Resource::new("data").expect("a good name")
}

pub fn log(seq: u64) -> LogName {
    LogName::new(seq, &alpha())
}

pub struct Dice(pub Prng);

impl Chance for Dice {
    fn u64(&self) -> u64 {
        self.0.u64()
    }
}

/// Keys on the same power supply: a commit takes its time and is durable when it returns; what is lazy may be lost.
#[derive(Clone)]
pub struct Store {
    durable: Arc<Mutex<BTreeMap<String, String>>>,
    visible: Arc<Mutex<BTreeMap<String, String>>>,
    fs: SimFs,
    chance: Prng,
}

impl Store {
    pub fn new(fs: SimFs, chance: Prng) -> Store {
        let (durable, visible) = (Arc::default(), Arc::default());
        Store {
            durable,
            visible,
            fs,
            chance,
        }
    }

    pub fn after_cut(&self) -> Store {
        let kept = match self.chance.chance(500) {
            true => self.visible.lock().clone(),
            false => self.durable.lock().clone(),
        };
        let next = Store::new(self.fs.clone(), self.chance.clone());
        *next.durable.lock() = kept.clone();
        *next.visible.lock() = kept;
        next
    }

    pub fn get<T: std::str::FromStr>(&self, path: &tree::Path) -> Option<T> {
        self.visible.lock().get(path.as_str())?.parse().ok()
    }
}

fn set(map: &Mutex<BTreeMap<String, String>>, changes: &[KeyChange]) {
    for (path, value) in changes {
        let value = value.clone().expect("workers delete no keys");
        map.lock().insert(path.to_string(), value);
    }
}

impl Keys for Store {
    fn commit(&self, changes: Vec<KeyChange>) -> BoxFuture<'static, Result<Stamp, KeysError>> {
        let this = self.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(this.chance.between(100, 5000))).await;
            if this.fs.is_off() {
                return Err(KeysError::Store("the power is gone".to_owned()));
            }
            set(&this.durable, &changes);
            set(&this.visible, &changes);
            Ok(Stamp {
                ns: 1,
                writer: alpha(),
            })
        })
    }
    fn commit_lazy(&self, changes: Vec<KeyChange>) {
        if !self.fs.is_off() {
            set(&self.visible, &changes);
        }
    }
}

/// One time between two power cuts.
pub struct Life {
    pub site: Site,
    pub exec: SimExec,
}

/// Opens the shelf of `here`. `None`: the power went meanwhile.
pub async fn begin(
    here: Host,
    seed: u64,
    began: tokio::time::Instant,
    store: &Store,
    net: Arc<dyn Net>,
) -> Option<Life> {
    let peers = [alpha(), beta()].map(|peer| (peer.clone(), peer.to_string()));
    net.set_peers(BTreeMap::from(peers));
    let exec = SimExec::new(Prng::new(seed, "calls"));
    let ports = Ports {
        clock: Arc::new(SimClock::new(began)),
        chance: Arc::new(Dice(Prng::new(seed, "workers"))),
        exec: Arc::new(exec.clone()),
        fs: Arc::new(store.fs.clone()),
        net,
    };
    let links = store.visible.lock().clone();
    let known = links
        .iter()
        .filter(|(path, _)| path.contains("/version-"))
        .filter_map(|(_, link)| Some(ChainEnd::of(&link.parse::<VersionLink>().ok()?)))
        .collect();
    let cluster: Arc<str> = "sim".into();
    let dir = "/mars/resource-data".into();
    let shelf = Shelf::open(
        here.clone(),
        cluster.clone(),
        res(),
        dir,
        ports.clone(),
        known,
    )
    .await;
    let shelf = shelf.ok()?;
    for (log, state) in shelf.list() {
        assert!(
            state.damaged.is_none(),
            "seed {seed}: {log}: {:?}",
            state.damaged
        );
    }
    let keys = Arc::new(store.clone());
    let site = Site {
        here,
        cluster,
        res: res(),
        ports,
        keys,
        shelf,
        copying: Default::default(),
    };
    Some(Life { site, exec })
}

/// Attaches the disk. `None`: the power went meanwhile.
pub async fn replica(life: &Life) -> Option<Arc<Replica>> {
    let ports = life.site.ports.clone();
    Replica::attach(res(), Path::new("/disk"), SIZE as u64, ports)
        .await
        .ok()
}

/// A request may hang for ever on a host without power.
pub async fn power_is_off(fs: SimFs) {
    while !fs.is_off() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
}

/// Runs `check` for the seeds which the environment asks for, each in a runtime of its own; the sum of what it returns.
pub fn for_each_seed<F: Future<Output = u64>>(usually: u64, check: impl Fn(u64) -> F) -> u64 {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(usually),
    };
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.expect("a runtime").block_on(check(seed))
    };
    seeds.map(run).sum()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
