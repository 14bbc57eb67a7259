//! Hosts for tests: a directory each, keys in memory, real files and threads, channels in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::export::Device;
use node::job::{ChainEnd, Ended, LoggerJob, LoggerLimits, Site};
use node::ports::{BoxFuture, Chance, Clock, KeyChange, Keys, KeysError, Lane, Ports, blocking};
use node::real::exec::RealExec;
use node::worker::bypass::Bypass;
use node::worker::logger::{LoggerHandle, start_logger};
use node::worker::replica::Replica;
use node::worker::shelf::Shelf;
use node::worker::source::{Stock, SyncSource, serve};
use parking_lot::Mutex;
use storage::{BlockFile, Extent, FreeSpace, Fs, OpenHow, RealFs};
use tempfile::TempDir;
use tokio::sync::mpsc;
use transport::{Channel, ChannelRx, ChannelTx, Class, Incoming, Message, Net, NetError};
use tree::{Host, LogName, ReplayPos, Resource, Stamp, VersionLink, key};

/// No wait in a test takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn alpha() -> Host {
    Host::new("alpha").expect("a good name")
}

pub fn beta() -> Host {
    Host::new("beta").expect("a good name")
}

pub fn res() -> Resource {
    Resource::new("data").expect("a good name")
}

pub fn log(seq: u64, creator: &Host) -> LogName {
    LogName {
        seq,
        creator: creator.clone(),
    }
}

/// Waits for `work`, but not for ever.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} takes longer than {PATIENCE:?}"),
    }
}

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn wall_ns(&self) -> u64 {
        1_700_000_000_000_000_000 + self.mono().as_nanos() as u64
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
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

/// Keys which tell apart what would survive a crash and what might not.
#[derive(Default)]
pub struct MemKeys {
    durable: Mutex<BTreeMap<String, String>>,
    visible: Mutex<BTreeMap<String, String>>,
    /// Every durable commit, for tests of order.
    pub history: Mutex<Vec<Vec<String>>>,
}

impl MemKeys {
    /// As after a crash: lazy values are gone when `keep_lazy` is not set.
    fn after_crash(&self, keep_lazy: bool) -> MemKeys {
        let kept = match keep_lazy {
            true => self.visible.lock().clone(),
            false => self.durable.lock().clone(),
        };
        MemKeys {
            durable: Mutex::new(kept.clone()),
            visible: Mutex::new(kept),
            history: Mutex::default(),
        }
    }

    pub fn text(&self, path: &tree::Path) -> Option<String> {
        self.visible.lock().get(path.as_str()).cloned()
    }

    pub fn durable_text(&self, path: &tree::Path) -> Option<String> {
        self.durable.lock().get(path.as_str()).cloned()
    }
}

fn set(map: &Mutex<BTreeMap<String, String>>, changes: &[KeyChange]) {
    let mut map = map.lock();
    for (path, value) in changes {
        match value {
            Some(value) => map.insert(path.to_string(), value.clone()),
            None => map.remove(path.as_str()),
        };
    }
}

impl Keys for MemKeys {
    fn commit(&self, changes: Vec<KeyChange>) -> BoxFuture<'static, Result<Stamp, KeysError>> {
        set(&self.durable, &changes);
        set(&self.visible, &changes);
        let names = changes
            .iter()
            .map(|(path, value)| format!("{path} = {}", value.clone().unwrap_or_default()));
        self.history.lock().push(names.collect());
        let stamp = Stamp {
            ns: 1,
            writer: alpha(),
        };
        Box::pin(async { Ok(stamp) })
    }
    fn commit_lazy(&self, changes: Vec<KeyChange>) {
        set(&self.visible, &changes);
    }
}

/// Channels in memory between hosts which have registered.
#[derive(Default)]
pub struct MemNet {
    doors: Mutex<BTreeMap<Host, mpsc::UnboundedSender<Incoming>>>,
}

struct MemPort {
    here: Host,
    net: Arc<MemNet>,
    visitors: tokio::sync::Mutex<mpsc::UnboundedReceiver<Incoming>>,
}

/// Queued messages of one direction; small, so that back-pressure is part of every test.
const QUEUE: usize = 4;

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

/// Both ends of a channel between `a` and `b`.
pub fn channel(a: &Host, b: &Host) -> (Channel, Channel) {
    let (to_b, at_b) = mpsc::channel(QUEUE);
    let (to_a, at_a) = mpsc::channel(QUEUE);
    let end_a = Channel {
        tx: Box::new(MemTx(b.clone(), to_b)),
        rx: Box::new(MemRx(b.clone(), at_a)),
    };
    let end_b = Channel {
        tx: Box::new(MemTx(a.clone(), to_a)),
        rx: Box::new(MemRx(a.clone(), at_b)),
    };
    (end_a, end_b)
}

impl Net for MemPort {
    fn open(&self, to: &Host, class: Class) -> BoxFuture<'static, Result<Channel, NetError>> {
        let (mine, theirs) = channel(&self.here, to);
        let incoming = Incoming {
            from: self.here.clone(),
            class,
            channel: theirs,
        };
        let door = self.net.doors.lock().get(to).cloned();
        let entered = door.is_some_and(|door| door.send(incoming).is_ok());
        let peer = to.clone();
        Box::pin(async move {
            match entered {
                true => Ok(mine),
                false => Err(NetError::NoAddress { peer }),
            }
        })
    }
    fn accept(&self) -> BoxFuture<'static, Option<Incoming>> {
        let mut visitors = self.visitors.try_lock().expect("one accept at a time");
        let next = visitors.try_recv().ok();
        Box::pin(async move { next })
    }
    fn set_peers(&self, _: BTreeMap<Host, String>) {}
}

/// What a test host offers its peers; filled as it goes.
#[derive(Default)]
pub struct TestStock {
    pub shelf: Mutex<Option<Arc<Shelf>>>,
    pub source: Mutex<Option<Arc<dyn SyncSource>>>,
}

impl Stock for TestStock {
    fn shelf(&self, _: &Resource) -> Option<Arc<Shelf>> {
        self.shelf.lock().clone()
    }
    fn sync_source(&self, _: &Resource) -> Option<Arc<dyn SyncSource>> {
        self.source.lock().clone()
    }
}

/// One host; its directory survives its crashes.
pub struct Machine {
    pub here: Host,
    dir: Arc<TempDir>,
    pub ports: Ports,
    pub keys: Arc<MemKeys>,
    pub stock: Arc<TestStock>,
    pub faults: Arc<Faults>,
    net: Arc<MemNet>,
}

impl Machine {
    /// A new host in `net`, with a disk of `disk_bytes` random-looking bytes.
    pub fn new(here: Host, net: &Arc<MemNet>, disk: &[u8]) -> Machine {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("disk"), disk).expect("a disk");
        Machine::on(here, Arc::new(dir), net.clone(), Arc::default())
    }

    fn on(here: Host, dir: Arc<TempDir>, net: Arc<MemNet>, keys: Arc<MemKeys>) -> Machine {
        let (door, mut visitors) = mpsc::unbounded_channel::<Incoming>();
        net.doors.lock().insert(here.clone(), door);
        let stock = Arc::new(TestStock::default());
        let faults = Arc::new(Faults::default());
        let (_, nobody) = mpsc::unbounded_channel();
        let ports = Ports {
            clock: Arc::new(TestClock(tokio::time::Instant::now())),
            chance: Arc::new(NoChance),
            exec: Arc::new(RealExec::new()),
            fs: Arc::new(FaultyFs(faults.clone())),
            net: Arc::new(MemPort {
                here: here.clone(),
                net: net.clone(),
                visitors: tokio::sync::Mutex::new(nobody),
            }),
        };
        let (served, serving_ports) = (stock.clone(), ports.clone());
        tokio::spawn(async move {
            while let Some(incoming) = visitors.recv().await {
                tokio::spawn(serve(incoming, served.clone(), serving_ports.clone()));
            }
        });
        Machine {
            here,
            dir,
            ports,
            keys,
            stock,
            faults,
            net,
        }
    }

    /// What a `kill -9` leaves: files as they are, keys as they were stored.
    pub async fn crash(self, keep_lazy: bool) -> Machine {
        // Threads of a killed process do not go on; here the calls in flight must have ended.
        for lane in [
            Lane::Log(res()),
            Lane::Disk(res()),
            Lane::Fetch(res()),
            Lane::FetchFlush(res()),
            Lane::Misc,
        ] {
            soon("a lane", blocking(&*self.ports.exec, &lane, || ())).await;
        }
        let keys = Arc::new(self.keys.after_crash(keep_lazy));
        Machine::on(self.here, self.dir, self.net, keys)
    }

    pub fn disk_path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    pub fn disk(&self) -> Vec<u8> {
        std::fs::read(self.disk_path()).expect("the disk is there")
    }

    pub fn log_path(&self, log: &LogName) -> PathBuf {
        self.dir.path().join("resource-data").join(log.to_string())
    }

    /// Opens the shelf, with the version links as they are stored.
    pub async fn site(&self) -> Site {
        let links = self.keys.visible.lock().clone();
        let known = links
            .iter()
            .filter(|(path, _)| path.contains("/version-"))
            .filter_map(|(_, link)| Some(ChainEnd::of(&link.parse::<VersionLink>().ok()?)));
        let shelf = Shelf::open(
            self.here.clone(),
            "test-cluster".into(),
            res(),
            self.dir.path().join("resource-data"),
            self.ports.clone(),
            known.collect(),
        );
        let shelf = shelf.await.expect("the directory is good");
        *self.stock.shelf.lock() = Some(shelf.clone());
        Site {
            here: self.here.clone(),
            cluster: "test-cluster".into(),
            res: res(),
            ports: self.ports.clone(),
            keys: self.keys.clone(),
            shelf,
            copying: Default::default(),
        }
    }

    pub async fn replica(&self) -> Arc<Replica> {
        let size = std::fs::metadata(self.disk_path())
            .expect("the disk is there")
            .len();
        // An earlier owner may just be going.
        for _ in 0..100 {
            match Replica::attach(res(), &self.disk_path(), size, self.ports.clone()).await {
                Ok(replica) => return replica,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("the disk stays in use");
    }

    /// Becomes primary with `log`.
    pub async fn primary(
        &self,
        log: LogName,
        pred: Option<ChainEnd>,
        limits: LoggerLimits,
    ) -> LoggerHandle {
        let replica = self.replica().await;
        let size = replica.size();
        let job = LoggerJob {
            log,
            pred,
            replica,
            size,
            limits,
        };
        let logger = start_logger(job, self.site().await)
            .await
            .expect("it starts");
        *self.stock.source.lock() = Some(logger.sync_source());
        logger
    }

    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(TestClock(tokio::time::Instant::now()))
    }

    pub async fn bypass(&self) -> Arc<Bypass> {
        *self.stock.source.lock() = None;
        Bypass::new(self.replica().await)
    }

    pub fn replay_pos(&self) -> ReplayPos {
        let text = self.keys.text(&key::replay(&res(), &self.here));
        text.expect("a replay position")
            .parse()
            .expect("a good one")
    }

    pub fn version(&self, seq: u64) -> VersionLink {
        let text = self.keys.text(&key::version(&res(), seq, &self.here));
        text.expect("a version link").parse().expect("a good one")
    }
}

pub async fn write(device: &Arc<dyn Device>, at: u64, bytes: &[u8]) {
    let answer = device.write(at, Bytes::copy_from_slice(bytes), false);
    soon("a write", answer.wait()).await.expect("a write");
}

pub async fn flush(device: &Arc<dyn Device>) {
    soon("a flush", device.flush().wait())
        .await
        .expect("a flush");
}

pub async fn read(device: &Arc<dyn Device>, at: u64, len: u32) -> Vec<u8> {
    let answer = device.read(at, len);
    soon("a read", answer.wait())
        .await
        .expect("a read")
        .to_vec()
}

/// The end of a log that a worker is done with.
pub fn done(ended: Ended) -> ChainEnd {
    match ended {
        Ended::Done(Some(end)) => end,
        other => panic!("not done but {other}"),
    }
}

/// Which calls on which files fail from now on.
#[derive(Default)]
pub struct Faults {
    /// Writes to files whose path contains this fail.
    pub write: Mutex<Option<(String, ErrorKind)>>,
    /// Flushes of files whose path contains this fail.
    pub flush: Mutex<Option<(String, ErrorKind)>>,
    /// Flushes of files whose path contains this last until the other end is dropped.
    pub slow_flush: Mutex<Option<(String, std::sync::mpsc::Receiver<()>)>>,
}

impl Faults {
    /// The next flush of a file whose path contains `part` lasts until what is returned is dropped.
    pub fn hold_flush(&self, part: &str) -> std::sync::mpsc::Sender<()> {
        let (hold, held) = std::sync::mpsc::channel();
        *self.slow_flush.lock() = Some((part.to_owned(), held));
        hold
    }

    fn wait_for_flush(&self, path: &str) {
        let held = self
            .slow_flush
            .lock()
            .take_if(|(part, _)| path.contains(&**part));
        if let Some((_, held)) = held {
            // Only ever an error: nothing is sent.
            let _ = held.recv();
        }
    }
}

/// The real file system, except for [`Faults`].
pub struct FaultyFs(pub Arc<Faults>);

struct FaultyFile {
    inner: Box<dyn BlockFile>,
    path: String,
    faults: Arc<Faults>,
}

fn fails(rule: &Mutex<Option<(String, ErrorKind)>>, path: &str) -> io::Result<()> {
    match &*rule.lock() {
        Some((part, kind)) if path.contains(part) => Err((*kind).into()),
        _ => Ok(()),
    }
}

impl Fs for FaultyFs {
    fn open(&self, path: &FilePath, how: OpenHow) -> io::Result<Box<dyn BlockFile>> {
        let inner = RealFs.open(path, how)?;
        let (path, faults) = (path.display().to_string(), self.0.clone());
        Ok(Box::new(FaultyFile {
            inner,
            path,
            faults,
        }))
    }
    fn create_dir(&self, dir: &FilePath) -> io::Result<()> {
        RealFs.create_dir(dir)
    }
    fn list(&self, dir: &FilePath) -> io::Result<Vec<String>> {
        RealFs.list(dir)
    }
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn remove(&self, path: &FilePath) -> io::Result<()> {
        RealFs.remove(path)
    }
    fn sync_dir(&self, dir: &FilePath) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }
    fn len_of(&self, path: &FilePath) -> io::Result<Option<u64>> {
        RealFs.len_of(path)
    }
    fn free_space(&self, path: &FilePath) -> io::Result<FreeSpace> {
        RealFs.free_space(path)
    }
}

impl BlockFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(buf, at)
    }
    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], at: u64) -> io::Result<()> {
        fails(&self.faults.write, &self.path)?;
        self.inner.write_vectored_at(bufs, at)
    }
    fn flush(&self) -> io::Result<()> {
        self.faults.wait_for_flush(&self.path);
        fails(&self.faults.flush, &self.path)?;
        self.inner.flush()
    }
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn set_size(&self, len: u64) -> io::Result<()> {
        self.inner.set_size(len)
    }
    fn zero_range(&self, at: u64, len: u64) -> io::Result<()> {
        fails(&self.faults.write, &self.path)?;
        self.inner.zero_range(at, len)
    }
    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        fails(&self.faults.write, &self.path)?;
        self.inner.punch_hole(at, len)
    }
    fn map(&self, at: u64, len: u64) -> io::Result<Vec<Extent>> {
        self.inner.map(at, len)
    }
}
