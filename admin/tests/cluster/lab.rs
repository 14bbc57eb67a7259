//! A cluster in a temporary directory, and what the tests ask of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use admin::demo::cluster::{Host, free_udp_port, make_disk};
use admin::nbd::NbdClient;

use crate::proxy::Proxies;
use crate::space::SmallFs;
use crate::writer::answered;

/// The resource of all tests.
pub const RES: &str = "data";
/// Longest wait for anything to settle on a loaded machine.
pub const SETTLE: Duration = Duration::from_secs(90);

/// Longer than the pause between two reports of a logger.
const REPORTS_REST: Duration = Duration::from_millis(2_500);

/// Some hosts, their disks, and the runtime for clients.
pub struct Lab {
    // Before the directory, so that the daemons end before their files go.
    pub hosts: Vec<Host>,
    pub proxies: Option<Proxies>,
    pub runtime: tokio::runtime::Runtime,
    pub size: u64,
    small: Option<SmallFs>,
    dir: tempfile::TempDir,
}

impl Lab {
    /// A running cluster of `names`, talking to each other directly.
    pub fn new(names: &[&str], size: u64) -> Lab {
        Lab::build(tempfile::tempdir().expect("directory"), names, size, false)
    }

    /// A running cluster whose first host has its state directory on a file system of `mib` MiB, and this
    /// configuration. `None` where nothing can be mounted.
    pub fn cramped(names: &[&str], size: u64, mib: u64, config: &str) -> Option<Lab> {
        let dir = tempfile::tempdir().expect("directory");
        let first = dir.path().join(names[0]);
        let small = SmallFs::mount(&first, mib)?;
        std::fs::write(first.join("mars.toml"), config).expect("configuration");
        let mut lab = Lab::build(dir, names, size, false);
        lab.small = Some(small);
        Some(lab)
    }

    /// A running cluster whose hosts reach each other only through proxies that can cut and delay.
    pub fn behind_proxies(names: &[&str], size: u64) -> Lab {
        Lab::build(tempfile::tempdir().expect("directory"), names, size, true)
    }

    fn build(dir: tempfile::TempDir, names: &[&str], size: u64, proxied: bool) -> Lab {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let mars = Path::new(env!("CARGO_BIN_EXE_mars"));
        let mut hosts: Vec<Host> = names
            .iter()
            .map(|n| Host::new(mars, dir.path(), n).expect("host"))
            .collect();
        let proxies = proxied.then(|| {
            let ports: Vec<u16> = names
                .iter()
                .map(|_| free_udp_port().expect("port"))
                .collect();
            hosts = std::mem::take(&mut hosts)
                .into_iter()
                .zip(&ports)
                .map(|(h, p)| h.advertised_at(&format!("127.0.0.1:{p}")))
                .collect();
            let listens = hosts
                .iter()
                .map(|h| h.listen().parse().expect("address"))
                .collect();
            Proxies::start(&runtime, &ports, listens)
        });
        let mut lab = Lab {
            hosts,
            proxies,
            runtime,
            size,
            small: None,
            dir,
        };
        lab.hosts[0].create_cluster().expect("create-cluster");
        lab.hosts[0].start().expect("first daemon");
        for i in 1..names.len() {
            let (first, rest) = lab.hosts.split_at_mut(1);
            rest[i - 1].join_cluster(&first[0]).expect("join-cluster");
            rest[i - 1].start().expect("daemon");
        }
        lab
    }

    /// Path of the disk of host `i`.
    pub fn disk(&self, i: usize) -> PathBuf {
        self.dir
            .path()
            .join(format!("{}-disk", self.hosts[i].name()))
    }

    /// Creates the resource on host 0 and joins it on all others.
    pub fn replicate_everywhere(&self) {
        self.create_resource();
        for i in 1..self.hosts.len() {
            self.join_resource(i);
        }
        for i in 0..self.hosts.len() {
            self.wait_up_to_date(i);
        }
    }

    /// `create-resource` on host 0.
    pub fn create_resource(&self) {
        make_disk(&self.disk(0), self.size).expect("disk");
        self.ok(
            0,
            &["create-resource", RES, &self.disk(0).display().to_string()],
        );
    }

    /// `join-resource` on host `i`.
    pub fn join_resource(&self, i: usize) {
        make_disk(&self.disk(i), self.size).expect("disk");
        self.ok(
            i,
            &["join-resource", RES, &self.disk(i).display().to_string()],
        );
    }

    /// Runs `marsadm` on host `i`; it must succeed.
    pub fn ok(&self, i: usize, args: &[&str]) -> String {
        match self.hosts[i]
            .marsadm(args)
            .and_then(admin::demo::cluster::Ran::ok)
        {
            Ok(out) => out,
            Err(e) => panic!(
                "{} marsadm {args:?}: {e:#}\n{}",
                self.hosts[i].name(),
                self.logs()
            ),
        }
    }

    /// Runs `marsadm` on host `i`; it must be refused. Returns what it said.
    pub fn refused(&self, i: usize, args: &[&str]) -> String {
        let ran = self.hosts[i].marsadm(args).expect("run marsadm");
        assert_ne!(
            ran.code,
            Some(0),
            "marsadm {args:?} succeeded: {}{}",
            ran.stdout,
            ran.stderr
        );
        ran.stdout + &ran.stderr
    }

    /// Waits until host `i` says that its replica is up to date.
    pub fn wait_up_to_date(&self, i: usize) {
        self.wait_view(i, "diskstate", |s| s == "UpToDate");
    }

    /// Waits until `holds` of what `view-MACRO` prints on host `i`.
    pub fn wait_view(&self, i: usize, macro_name: &str, holds: impl Fn(&str) -> bool) -> String {
        match self.hosts[i].wait_view(macro_name, RES, SETTLE, holds) {
            Ok(text) => text,
            Err(e) => panic!("{e:#}\n{}", self.logs()),
        }
    }

    /// Waits until `holds`, at most [`SETTLE`].
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = now();
        while !holds() {
            assert!(
                started.elapsed() < SETTLE,
                "not within {SETTLE:?}: {what}\n{}",
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Opens the device on host `i`, waiting until it is there.
    pub fn device(&self, i: usize) -> NbdClient {
        let started = now();
        loop {
            let socket = self.hosts[i].nbd_socket();
            let connecting = async { answered(NbdClient::connect(&socket, RES)).await };
            match self.runtime.block_on(connecting) {
                Ok(device) => return device,
                Err(e) => assert!(
                    started.elapsed() < SETTLE,
                    "no device: {e}\n{}",
                    self.logs()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until host `i` has replayed everything that the primary `p` has in its log now.
    pub fn wait_replayed(&self, p: usize, i: usize) {
        let (primary, secondary) = (self.hosts[p].name(), self.hosts[i].name());
        let goal = self.settled_end(p);
        self.wait(&format!("{secondary} replays what {primary} has"), || {
            self.replay_pos(i)
                .is_some_and(|have| (have.log.seq, have.offset) >= goal && have.dirty == 0)
        });
    }

    /// End of what host `p` has written, once its reports (one every two seconds) have come to rest.
    fn settled_end(&self, p: usize) -> (u64, u64) {
        let end = || self.replay_pos(p).map(|r| (r.log.seq, r.offset + r.dirty));
        let (mut last, mut since) = (end(), now());
        self.wait("the primary's reports come to rest", || {
            let seen = end();
            if seen != last {
                (last, since) = (seen, now());
            }
            since.elapsed() > REPORTS_REST
        });
        last.expect("the primary reports its position")
    }

    /// How far host `i` says its disk has come.
    pub fn replay_pos(&self, i: usize) -> Option<tree::ReplayPos> {
        let key = format!("resource-{RES}/replay-{}", self.hosts[i].name());
        self.hosts[i]
            .key(&key)
            .expect("read key")
            .and_then(|v| v.parse().ok())
    }

    /// Stops all daemons cleanly; afterwards all disks must hold exactly `want`.
    pub fn stop_and_compare(&mut self, want: &[u8]) {
        for host in &mut self.hosts {
            host.stop().expect("clean stop");
        }
        for i in 0..self.hosts.len() {
            let have = std::fs::read(self.disk(i)).expect("read disk");
            assert_eq!(
                have.len(),
                want.len(),
                "size of the disk of {}",
                self.hosts[i].name()
            );
            if let Some(at) = have.iter().zip(want).position(|(a, b)| a != b) {
                panic!(
                    "disk of {} differs at byte {at}\n{}",
                    self.hosts[i].name(),
                    self.logs()
                );
            }
        }
    }

    /// The last log lines of all daemons, for failure messages.
    pub fn logs(&self) -> String {
        let tails = self
            .hosts
            .iter()
            .map(|h| format!("--- {}\n{}", h.name(), h.log_tail()));
        tails.collect::<Vec<_>>().join("\n")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests with real processes wait in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}
