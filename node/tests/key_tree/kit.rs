//! A host that has a key tree and gossip, but no resources.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use node::config::NodeConfig;
use node::gossip_loop::Gossip;
use node::keys::{KeyService, Storage};
use node::ports::{BoxFuture, Chance, Clock, Ports};
use node::real::exec::RealExec;
use storage::{MemMedium, RealFs, Reserve};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use transport::{Channel, ChannelRx, ChannelTx, Class, Incoming, Message, Net, NetError};
use tree::{Host, Path};

/// No wait in a test takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn host(name: &str) -> Host {
    Host::new(name).expect("valid name")
}

pub fn path(text: &str) -> Path {
    Path::new(text).expect("valid path")
}

/// Waits for `work`, but not for ever.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// A clock that can be turned forward: what has passed has passed on both of its faces.
struct TestClock {
    started: tokio::time::Instant,
    ahead_ns: Arc<AtomicU64>,
}

impl Clock for TestClock {
    fn wall_ns(&self) -> u64 {
        1_700_000_000_000_000_000 + self.mono().as_nanos() as u64
    }
    fn mono(&self) -> Duration {
        let ahead = self.ahead_ns.load(Ordering::Relaxed);
        self.started.elapsed() + Duration::from_nanos(ahead)
    }
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}

struct NoChance;

impl Chance for NoChance {
    fn u64(&self) -> u64 {
        4
    }
}

/// Nobody can be called: the tests lay the lines themselves.
struct NoNet;

impl Net for NoNet {
    fn open(&self, to: &Host, _: Class) -> BoxFuture<'static, Result<Channel, NetError>> {
        let peer = to.clone();
        Box::pin(async move { Err(NetError::NoAddress { peer }) })
    }
    fn accept(&self) -> BoxFuture<'static, Option<Incoming>> {
        Box::pin(std::future::pending())
    }
    fn set_peers(&self, _: std::collections::BTreeMap<Host, String>) {}
}

struct MemTx(Host, mpsc::Sender<Message>);
struct MemRx(Host, mpsc::Receiver<Message>);

impl ChannelTx for MemTx {
    fn send(&mut self, message: Message) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move {
            let sent = self.1.send(message).await;
            sent.map_err(|_| NetError::Closed {
                peer: self.0.clone(),
            })
        })
    }
}

impl ChannelRx for MemRx {
    fn recv(&mut self) -> BoxFuture<'_, Result<Message, NetError>> {
        Box::pin(async move {
            let heard = self.1.recv().await;
            heard.ok_or_else(|| NetError::Closed {
                peer: self.0.clone(),
            })
        })
    }
}

/// One host; its directory and its medium survive restarts.
pub struct Machine {
    pub keys: Arc<KeyService>,
    gossip: Arc<Gossip>,
    here: Host,
    dir: Arc<TempDir>,
    medium: MemMedium,
    ahead_ns: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Machine {
    pub async fn new(name: &str) -> Machine {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Machine::on(host(name), dir, MemMedium::default(), Arc::default()).await
    }

    async fn on(
        here: Host,
        dir: Arc<TempDir>,
        medium: MemMedium,
        ahead_ns: Arc<AtomicU64>,
    ) -> Machine {
        let ports = Ports {
            clock: Arc::new(TestClock {
                started: tokio::time::Instant::now(),
                ahead_ns: ahead_ns.clone(),
            }),
            chance: Arc::new(NoChance),
            exec: Arc::new(RealExec::new()),
            fs: Arc::new(RealFs),
            net: Arc::new(NoNet),
        };
        let config = NodeConfig {
            exchange: Duration::from_millis(50),
            ..NodeConfig::default()
        };
        let future = node::keys::Future {
            max_ns: config.max_future_ns,
            forget: false,
        };
        let stored = Storage {
            store: Box::new(medium.store()),
            reserve: Arc::new(Reserve::new(ports.fs.clone(), dir.path())),
            lease: dir.path().join("lease"),
            horizons: dir.path().join("horizons"),
        };
        let opened = KeyService::open(&here, &ports, future, stored).await;
        let (keys, writer) = opened.expect("what is stored is sound");
        let mut tasks = JoinSet::new();
        tasks.spawn(writer);
        let gossip = Gossip::new(
            keys.clone(),
            ports,
            "test-cluster".into(),
            Arc::new(config),
            Arc::new(Notify::new()),
        );
        Machine {
            keys,
            gossip,
            here,
            dir,
            medium,
            ahead_ns,
            _tasks: tasks,
        }
    }

    /// An orderly stop and a new start.
    pub async fn restart(self) -> Machine {
        soon("storing everything", self.keys.settle())
            .await
            .expect("stored");
        Machine::on(self.here, self.dir, self.medium, self.ahead_ns).await
    }

    /// A restart after which the database had to be moved aside.
    pub async fn lose_store(self) -> Machine {
        soon("storing everything", self.keys.settle())
            .await
            .expect("stored");
        self.medium.lose("the database was damaged");
        Machine::on(self.here, self.dir, self.medium, self.ahead_ns).await
    }

    /// Sets or deletes a key.
    pub async fn set(&self, key: &str, value: Option<&str>) {
        let change = (path(key), value.map(str::to_owned));
        let commit = self.keys.commit_at(vec![change], None);
        soon("a commit", commit).await.expect("stored");
    }

    /// Sets many keys below `userspace/many/` by one commit, more than are kept to be pushed.
    pub async fn set_many(&self, count: usize) {
        let change = |nr| {
            let key = format!("userspace/many/{nr:06}");
            (path(&key), Some("x".to_owned()))
        };
        let commit = self.keys.commit_at((0..count).map(change).collect(), None);
        soon("a large commit", commit).await.expect("stored");
    }

    /// Up to which number it has seen everything that `writer` has issued.
    pub fn horizon(&self, writer: &Machine) -> u64 {
        self.keys.summary().0.horizon(&writer.here)
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.keys.read().text(key).map(str::to_owned)
    }

    /// Waits until a key holds that.
    pub async fn until(&self, key: &str, value: Option<&str>) {
        let mut changes = self.keys.watch();
        let holds = async {
            while self.text(key).as_deref() != value {
                changes.changed().await.expect("the service runs");
            }
        };
        soon(&format!("{key} = {value:?} at {}", self.here), holds).await;
    }

    /// Entries below a prefix, deletions included.
    pub fn entries_of(&self, prefix: &str) -> usize {
        self.keys.read().range(prefix).count()
    }

    pub fn digest(&self) -> [u8; 16] {
        self.keys.read().digest()
    }

    /// Time goes by.
    pub fn pass(&self, time: Duration) {
        self.ahead_ns
            .fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Learns who the members are; their silence begins.
    pub fn learn_members(&self, members: &[&str]) {
        let members = members.iter().map(|name| host(name)).collect();
        self.gossip.collect(&members);
    }

    /// Forgets what it may, and stores that.
    pub async fn collect(&self, members: &[&str]) {
        self.learn_members(members);
        // The writer works in order: what was asked before this is done after it.
        self.set("userspace/done", Some("1")).await;
        soon("storing everything", self.keys.settle())
            .await
            .expect("stored");
    }
}

/// A line between two hosts; cut when dropped.
pub struct Line {
    sessions: JoinSet<()>,
}

pub fn connect(a: &Machine, b: &Machine) -> Line {
    let (to_b, at_b) = mpsc::channel(4);
    let (to_a, at_a) = mpsc::channel(4);
    let end_a = Channel {
        tx: Box::new(MemTx(b.here.clone(), to_b)),
        rx: Box::new(MemRx(b.here.clone(), at_a)),
    };
    let end_b = Channel {
        tx: Box::new(MemTx(a.here.clone(), to_a)),
        rx: Box::new(MemRx(a.here.clone(), at_b)),
    };
    let mut sessions = JoinSet::new();
    sessions.spawn(a.gossip.clone().answer(b.here.clone(), end_a));
    sessions.spawn(b.gossip.clone().answer(a.here.clone(), end_b));
    Line { sessions }
}

impl Line {
    /// Both sides have hung up.
    pub async fn ended(mut self) {
        while self.sessions.join_next().await.is_some() {}
    }
}
