//! One running host, put together from its ports.
//!
//! The daemon starts one with real ports, the simulation starts several in one thread with simulated
//! ones; dropping it is a crash. It keeps the key service, the gossip, a main loop for every
//! resource this host is a member of, and answers the bulk channels of its peers.

mod dispatch;
mod host_loop;
pub mod throughput;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use storage::{Layout, Reserve};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use transport::Class;
use tree::{Host, LogName, Resource};

use crate::config::NodeConfig;
use crate::export::Exports;
use crate::facts::Facts;
use crate::gossip_loop::Gossip;
use crate::job::Copying;
use crate::keys::{Future, KeyService, OpenError, Storage};
use crate::main_loop::Desk;
use crate::plan::ResourcePlan;
use crate::ports::{Keys, Ports, within};
use crate::watch;
use crate::worker::shelf::Shelf;
use crate::worker::source::{self, Served, Stock, SyncSource};
use throughput::Throughput;

/// An orderly stop takes at most so long: everything acknowledged has to reach the disks.
const STOP_MAX: Duration = Duration::from_secs(120);

/// What a host consists of before it runs.
pub struct Parts {
    /// Its name.
    pub here: Host,
    /// Id of its cluster (key `uuid`).
    pub cluster: String,
    /// Where its files are.
    pub layout: Layout,
    /// Time, chance, blocking calls, files, network.
    pub ports: Ports,
    /// Where the entries of the key tree are kept.
    pub store: Box<dyn storage::TreeStore>,
    /// The devices applications can open; empty.
    pub exports: Arc<Exports>,
    /// Limits and intervals.
    pub config: NodeConfig,
}

/// A running host. Dropping it ends everything at once, as a crash would.
pub struct Node {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
}

/// What the parts of a running host share.
pub struct Hub {
    pub(crate) here: Host,
    pub(crate) cluster: Arc<str>,
    pub(crate) layout: Layout,
    pub(crate) ports: Ports,
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) keys: Arc<KeyService>,
    pub(crate) gossip: Arc<Gossip>,
    pub(crate) exports: Arc<Exports>,
    /// Facts about the host, for all main loops.
    pub(crate) facts: watch::Sender<Facts>,
    /// Rung when a sign of life is wanted at once.
    pub(crate) poked: Arc<Notify>,
    /// Space for the key tree when nothing else is left.
    pub(crate) reserve: Arc<Reserve>,
    units: Mutex<BTreeMap<Resource, Unit>>,
    /// Resources that sync to this host now.
    syncing: Arc<Mutex<BTreeSet<Resource>>>,
    served: Arc<Served>,
    copying: Arc<Copying>,
    throughput: Mutex<Throughput>,
}

/// One resource with its main loop.
struct Unit {
    shelf: Arc<Shelf>,
    desk: Arc<Desk>,
    bell: Arc<Notify>,
}

impl Node {
    /// Loads the key tree and starts everything.
    ///
    /// # Errors
    /// [`OpenError`] when the key tree cannot be loaded.
    pub async fn start(parts: Parts) -> Result<Node, OpenError> {
        let fs = parts.ports.fs.clone();
        let reserve = Arc::new(Reserve::new(fs, parts.layout.dir()));
        let storage = Storage {
            store: parts.store,
            reserve: reserve.clone(),
            lease: parts.layout.clock_lease(),
            horizons: parts.layout.horizons(),
        };
        let future = Future {
            max_ns: parts.config.max_future_ns,
            forget: parts.config.forget_future,
        };
        let (keys, writer) = KeyService::open(&parts.here, &parts.ports, future, storage).await?;
        let config = Arc::new(parts.config);
        let cluster: Arc<str> = parts.cluster.into();
        let poked = Arc::new(Notify::new());
        let gossip = Gossip::new(
            keys.clone(),
            parts.ports.clone(),
            cluster.clone(),
            config.clone(),
            poked.clone(),
        );
        let hub = Arc::new(Hub {
            here: parts.here,
            cluster,
            layout: parts.layout,
            ports: parts.ports,
            config,
            keys,
            gossip,
            exports: parts.exports,
            facts: watch::Sender::default(),
            poked,
            reserve,
            units: Mutex::default(),
            syncing: Arc::default(),
            served: Arc::default(),
            copying: Arc::default(),
            throughput: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(writer);
        tasks.spawn(host_loop::heartbeat(hub.clone()));
        tasks.spawn(host_loop::run(hub.clone()));
        tasks.spawn(dispatch::run(hub.clone()));
        tasks.spawn(answer_peers(hub.clone()));
        Ok(Node { hub, tasks })
    }

    /// What the parts of this host share.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The key tree.
    pub fn keys(&self) -> &Arc<KeyService> {
        &self.hub.keys
    }

    /// The devices applications can open.
    pub fn exports(&self) -> &Arc<Exports> {
        &self.hub.exports
    }

    /// From now on no device is opened any more, and every worker comes to its end.
    pub fn begin_stop(&self) {
        self.hub.facts.send_modify(|facts| facts.stopping = true);
        self.hub.ring_all();
    }

    /// Ends in order: clients are sent away, everything acknowledged is brought to the disks, logs are
    /// sealed, keys are stored. Gives up after a bounded time, which is then like a crash.
    pub async fn stop(self) {
        let clock = self.hub.ports.clock.clone();
        self.begin_stop();
        let drained = within(&*clock, STOP_MAX, self.hub.all_idle()).await;
        if drained.is_none() {
            tracing::error!("not everything could be brought to the disks in time");
        }
        let alive = tree::key::of_host(tree::Key::Alive, &self.hub.here);
        let stored = self.hub.keys.commit(vec![(alive, Some("0".to_owned()))]);
        let last = async {
            stored.await?;
            self.hub.keys.settle().await
        };
        match within(&*clock, STOP_MAX, last).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(%error, "last keys not stored"),
            None => tracing::error!("last keys not stored in time"),
        }
        drop(self.tasks);
    }
}

impl Hub {
    /// This host.
    pub fn here(&self) -> &Host {
        &self.here
    }

    /// The key tree.
    pub fn keys(&self) -> &Arc<KeyService> {
        &self.keys
    }

    /// Id of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The gossip with the peers.
    pub fn gossip(&self) -> &Arc<Gossip> {
        &self.gossip
    }

    /// Facts about the host.
    pub fn facts(&self) -> Facts {
        self.facts.borrow().clone()
    }

    /// Does what a command asks for besides its keys: code 1 wakes this host, 2 tells the peers, 3 and
    /// above ask them for everything new and for a sign of life.
    pub fn trigger(&self, code: u32) {
        if code == 0 {
            return;
        }
        self.poked.notify_one();
        if code >= 2 {
            self.gossip.urge();
        }
    }

    /// The last decision for every resource.
    pub fn plans(&self) -> BTreeMap<Resource, ResourcePlan> {
        let units = self.units.lock();
        units
            .iter()
            .filter_map(|(res, unit)| Some((res.clone(), unit.desk.plan.lock().clone()?)))
            .collect()
    }

    /// Acknowledged bytes of all resources which are not yet on the underlying disks, as of their last rounds.
    pub fn buffered_bytes(&self) -> u64 {
        let units = self.units.lock();
        units
            .values()
            .map(|unit| unit.desk.buffered_bytes.load(Relaxed))
            .sum()
    }

    /// How fast they get there, KiB per second, as of the last rounds.
    pub fn writeback_kib(&self) -> u64 {
        let units = self.units.lock();
        units
            .values()
            .map(|unit| unit.desk.writeback_kib.load(Relaxed))
            .sum()
    }

    /// How much this host sends, receives and reads for others.
    pub fn throughput(&self) -> Throughput {
        *self.throughput.lock()
    }

    /// Questions of other hosts' syncers which are being answered now.
    pub fn serving(&self) -> u64 {
        self.served.flying.load(Relaxed)
    }

    /// What the syncers of this host have under way: questions, and pieces for underlying disks.
    pub fn copying(&self) -> (u64, u64) {
        let Copying { reading, writing } = &*self.copying;
        (reading.load(Relaxed), writing.load(Relaxed))
    }

    /// Counters and connections of all peers met since the start.
    pub fn network(&self) -> BTreeMap<Host, transport::counters::PeerStats> {
        self.ports.net.stats()
    }

    /// What this host may send of logs and syncs, bytes per second; `None` while one of them is not limited.
    pub fn rate_limit(&self) -> Option<u64> {
        let limits = traffic::limits(&self.keys.read(), &self.here, &self.config);
        limits.into_iter().map(|(_, rate)| rate).sum()
    }

    /// Durable length of the local copy of a log; `None` when it is not held here.
    pub fn local_log(&self, res: &Resource, log: &LogName) -> Option<u64> {
        let shelf = self.shelf(res)?;
        Some(shelf.state(log)?.durable)
    }

    fn ring_all(&self) {
        for unit in self.units.lock().values() {
            unit.bell.notify_one();
        }
    }

    /// Ends when all main loops have let go of everything.
    async fn all_idle(&self) {
        let idle: Vec<watch::Receiver<bool>> = {
            let units = self.units.lock();
            units
                .values()
                .map(|unit| unit.desk.idle.subscribe())
                .collect()
        };
        for mut one in idle {
            // A desk lives as long as its unit, which the hub holds.
            let _ = one.wait_for(|idle| *idle).await;
        }
    }
}

impl Stock for Hub {
    fn shelf(&self, res: &Resource) -> Option<Arc<Shelf>> {
        self.units.lock().get(res).map(|unit| unit.shelf.clone())
    }

    fn sync_source(&self, res: &Resource) -> Option<Arc<dyn SyncSource>> {
        let units = self.units.lock();
        let grip = units.get(res)?.desk.grip.lock();
        grip.as_ref().map(|grip| grip.source.clone())
    }

    fn served(&self) -> Option<Arc<Served>> {
        Some(self.served.clone())
    }
}

/// Takes the channels peers open. Ends when the network is shut down.
async fn answer_peers(hub: Arc<Hub>) {
    let mut tasks = JoinSet::new();
    while let Some(incoming) = hub.ports.net.accept().await {
        while tasks.try_join_next().is_some() {}
        match incoming.class {
            Class::State => {
                let gossip = hub.gossip.clone();
                tasks.spawn(gossip.answer(incoming.from, incoming.channel));
            }
            Class::Log | Class::Sync => {
                let stock: Arc<dyn Stock> = hub.clone();
                tasks.spawn(source::serve(incoming, stock, hub.ports.clone()));
            }
        }
    }
}
