//! Real daemons in one process: real QUIC on loopback, real sled, real files; commands are keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use certs::{ClusterId, JoinToken, PkiDir};
use node::Config;
use node::config::NodeConfig;
use node::daemon::Running;
use node::ports::Keys as _;
use storage::{Layout, SledOptions, SledStore, TreeStore as _};
use transport::join::{JoinOrder, join};
use tree::{Entry, Host, Issue, Path as Key, Stamp, Value};

/// Nothing in these tests takes longer, or it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// One host.
pub struct LabHost {
    pub name: Host,
    pub dir: PathBuf,
    pub address: SocketAddr,
    pub daemon: Option<Running>,
}

/// Several hosts below one temporary directory.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub hosts: Vec<LabHost>,
}

fn free_port() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound")
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests of real daemons live in real time"
)]
fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// Writes first keys into the store of a host that does not run yet, as `offline.rs` does.
fn plant(dir: &Path, me: &Host, keys: &[(String, String)], ns: u64) {
    let layout = Layout::new(dir);
    let (mut store, _) = SledStore::open(&layout.tree(), SledOptions::default()).expect("store");
    let changes: Vec<(Key, Option<Entry>)> = keys
        .iter()
        .zip(1..)
        .map(|((path, value), nr)| {
            let entry = Entry {
                value: Value::text(value).expect("value"),
                stamp: Stamp::new(ns, me),
                issue: Issue {
                    nr,
                    writer: me.clone(),
                },
                lazy: false,
            };
            (Key::new(path).expect("path"), Some(entry))
        })
        .collect();
    store.load().expect("empty");
    store.commit(&changes).expect("stored");
}

impl Lab {
    /// A cluster of hosts with these names; all run.
    pub async fn cluster(names: &[&str]) -> Lab {
        let dir = tempfile::tempdir().expect("a directory");
        let mut lab = Lab {
            dir,
            hosts: Vec::new(),
        };
        for name in names {
            lab.add(name).await;
        }
        lab
    }

    async fn add(&mut self, name: &str) {
        let host = Host::new(name).expect("name");
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).expect("directory");
        let address = free_port();
        let pki = PkiDir::of(&dir);
        if self.hosts.is_empty() {
            let cluster = ClusterId::of(name, now_s(), 0).expect("id");
            let uuid = cluster.to_string();
            pki.create_cluster(name, cluster, now_s()).expect("cluster");
            let keys = [
                ("uuid".to_owned(), uuid),
                (format!("ips/ip-{name}"), address.to_string()),
            ];
            plant(&dir, &host, &keys, now_s() * 1_000_000_000);
        } else {
            self.join(&pki, &host, &dir, address).await;
        }
        self.hosts.push(LabHost {
            name: host,
            dir,
            address,
            daemon: None,
        });
        let nr = self.hosts.len() - 1;
        self.start(nr).await;
    }

    async fn join(&self, pki: &PkiDir, host: &Host, dir: &Path, address: SocketAddr) {
        let first = self.hosts[0].daemon.as_ref().expect("runs");
        let token = first
            .desk()
            .token(Duration::from_secs(600), 1)
            .await
            .expect("token");
        let token = JoinToken::from_text(&token).expect("own token");
        let key = pki.host_key().expect("key");
        let order = JoinOrder {
            token: &token,
            ask_at: None,
            host: host.as_str(),
            address: &address.to_string(),
            key: &key,
            now_s: now_s(),
        };
        let admitted = join(&order).await.expect("admitted");
        pki.install_joined(&admitted.authority, &admitted.cert)
            .expect("installed");
        let keys: Vec<(String, String)> = admitted
            .addresses
            .iter()
            .map(|(host, address)| (format!("ips/ip-{host}"), address.clone()))
            .collect();
        plant(dir, host, &keys, 1_000_000_000);
    }

    /// Starts the daemon of one host.
    pub async fn start(&mut self, nr: usize) {
        let host = &mut self.hosts[nr];
        let config = Config {
            dir: host.dir.clone(),
            host: None,
            listen: host.address,
            advertise: None,
            nbd_listen: None,
            nbd_tls: false,
            node: NodeConfig {
                free_bytes: [0; 4],
                leave_grace: Duration::from_secs(1),
                ..NodeConfig::default()
            },
        };
        // After a crash inside this process its sockets and locks go away a moment later.
        for _ in 0..50 {
            match Running::start(&config).await {
                Ok(daemon) => {
                    host.daemon = Some(daemon);
                    return;
                }
                Err(error) => eprintln!("not yet: {error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} does not start", host.name);
    }

    /// What `leave-cluster` deletes in the end.
    pub async fn leave(&self, nr: usize) {
        let path = format!("ips/ip-{}", self.hosts[nr].name);
        self.set(nr, &[(&path, "")]).await;
    }

    /// A host that has left joins again, with a new token. Its daemon must not run.
    pub async fn join_again(&mut self, nr: usize) {
        let host = &self.hosts[nr];
        let (name, dir, address) = (host.name.clone(), host.dir.clone(), host.address);
        std::fs::remove_dir_all(dir.join("tree")).expect("gone");
        // The key of the host stays: for a while its name is kept for it.
        for part in ["cluster", "ca.key", "ca.crt", "host.crt"] {
            std::fs::remove_file(dir.join("pki").join(part)).expect("gone");
        }
        self.join(&PkiDir::of(&dir), &name, &dir, address).await;
        self.start(nr).await;
    }

    /// Ends the daemon of one host like a crash: nothing is brought to an end.
    pub fn crash(&mut self, nr: usize) {
        drop(self.hosts[nr].daemon.take());
    }

    /// Stops the daemon of one host in order.
    pub async fn stop(&mut self, nr: usize) {
        let daemon = self.hosts[nr].daemon.take().expect("runs");
        daemon.stop().await;
    }

    /// The daemon of one host.
    pub fn daemon(&self, nr: usize) -> &Running {
        self.hosts[nr].daemon.as_ref().expect("runs")
    }

    /// The live value of a key as one host sees it.
    pub fn get(&self, nr: usize, path: &str) -> Option<String> {
        self.daemon(nr)
            .node()
            .keys()
            .read()
            .text(path)
            .map(str::to_owned)
    }

    /// Sets keys at one host; an empty value deletes.
    pub async fn set(&self, nr: usize, keys: &[(&str, &str)]) {
        let changes = keys
            .iter()
            .map(|(path, value)| {
                let value = (!value.is_empty()).then(|| (*value).to_owned());
                (Key::new(path).expect("path"), value)
            })
            .collect();
        let keys = self.daemon(nr).node().keys();
        keys.commit(changes).await.expect("stored");
    }

    /// Waits until `holds`; shows what every host thinks when it does not come true.
    pub async fn until(&self, what: &str, holds: impl Fn(&Lab) -> bool) {
        let begin = tokio::time::Instant::now();
        while !holds(self) {
            if begin.elapsed() > LIMIT {
                self.show();
                panic!("never came true: {what}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        eprintln!("{:>8.1?}  {what}", begin.elapsed());
    }

    /// What every host thinks.
    pub fn show(&self) {
        for host in &self.hosts {
            let Some(daemon) = &host.daemon else { continue };
            eprintln!("==== {}", host.name);
            for (path, entry) in daemon.node().keys().read().iter() {
                eprintln!("  {path} = {:?}", entry.value);
            }
            for (res, plan) in daemon.node().hub().plans() {
                eprintln!("  {res}: {plan:#?}");
            }
        }
    }

    /// A file that serves as underlying disk.
    pub fn disk(&self, nr: usize, bytes: u64) -> PathBuf {
        let path = self.dir.path().join(format!("disk-{nr}"));
        if !path.exists() {
            let file = std::fs::File::create(&path).expect("disk");
            file.set_len(bytes).expect("size");
        }
        path
    }

    /// What `marsadm create-resource` writes.
    pub async fn create(&self, nr: usize, res: &str, bytes: u64) {
        let h = self.hosts[nr].name.clone();
        let disk = self.disk(nr, bytes).display().to_string();
        let zero = "0".repeat(32);
        let p = |rest: &str| format!("resource-{res}/{rest}");
        let keys = [
            (p("size"), bytes.to_string()),
            (p(&format!("data-{h}")), disk),
            (p(&format!("device-{h}")), res.to_owned()),
            (p(&format!("todo-{h}/connect")), "1".to_owned()),
            (p(&format!("todo-{h}/sync")), "1".to_owned()),
            (p(&format!("todo-{h}/allow-replay")), "1".to_owned()),
            (p("primary"), h.to_string()),
            (p(&format!("syncstatus-{h}")), bytes.to_string()),
            (p(&format!("replay-{h}")), format!("log-000000001-{h},0,0")),
            (p(&format!("log-000000001-{h}")), "0".to_owned()),
            (
                p(&format!("version-000000000-{h}")),
                format!("{zero},log-000000000-{h},0:"),
            ),
            (
                p(&format!("version-000000001-{h}")),
                format!("{zero},log-000000001-{h},0:{zero},log-000000000-{h},0"),
            ),
            (p("maxnr"), "1".to_owned()),
        ];
        let keys: Vec<(&str, &str)> = keys.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        self.set(nr, &keys).await;
        self.set(nr, &[(&p(&format!("todo-{h}/attach")), "1")])
            .await;
    }

    /// What `marsadm join-resource` writes.
    pub async fn join_resource(&self, nr: usize, primary: usize, res: &str, bytes: u64) {
        let (h, d) = (
            self.hosts[nr].name.clone(),
            self.hosts[primary].name.clone(),
        );
        let p = |rest: &str| format!("resource-{res}/{rest}");
        self.until("the resource is known", |lab| {
            lab.get(nr, &p(&format!("replay-{d}"))).is_some()
        })
        .await;
        let disk = self.disk(nr, bytes).display().to_string();
        self.set(
            nr,
            &[
                (&p(&format!("data-{h}")), &disk),
                (&p(&format!("device-{h}")), res),
                (&p(&format!("todo-{h}/connect")), "1"),
                (&p(&format!("todo-{h}/sync")), "1"),
                (&p(&format!("todo-{h}/allow-replay")), "1"),
            ],
        )
        .await;
        self.begin_at(nr, primary, res).await;
        self.set(nr, &[(&p(&format!("todo-{h}/attach")), "1")])
            .await;
    }

    /// The common end of join-resource and invalidate: an empty replica at the primary's present log.
    pub async fn begin_at(&self, nr: usize, primary: usize, res: &str) {
        let (h, d) = (
            self.hosts[nr].name.clone(),
            self.hosts[primary].name.clone(),
        );
        let p = |rest: &str| format!("resource-{res}/{rest}");
        let replay = self.get(nr, &p(&format!("replay-{d}"))).expect("known");
        let log = replay.split(',').next().expect("a log").to_owned();
        let seq = &log[4..13];
        let version = self
            .get(nr, &p(&format!("version-{seq}-{d}")))
            .unwrap_or_default();
        self.set(
            nr,
            &[
                (&p(&format!("replay-{h}")), &format!("{log},0,0")),
                (&p(&format!("version-{seq}-{h}")), &version),
                (&p(&format!("syncstatus-{h}")), "0"),
            ],
        )
        .await;
    }

    /// Writes `data` at `offset` through the device of a primary and flushes.
    pub async fn write(&self, nr: usize, res: &str, offset: u64, data: Vec<u8>) {
        let device = self
            .daemon(nr)
            .node()
            .exports()
            .look(res)
            .expect("device is there");
        device
            .write(offset, Bytes::from(data), false)
            .wait()
            .await
            .expect("written");
        device.flush().wait().await.expect("flushed");
    }

    /// Has the disk of a host these bytes at `offset`?
    pub fn disk_has(&self, nr: usize, offset: u64, data: &[u8]) -> bool {
        use std::os::unix::fs::FileExt as _;
        let path = self.dir.path().join(format!("disk-{nr}"));
        let file = std::fs::File::open(path).expect("disk");
        let mut found = vec![0; data.len()];
        file.read_exact_at(&mut found, offset).is_ok() && found == data
    }
}

impl Lab {
    /// A resource that is primary at host 0 and synced at all others, with something written.
    pub async fn resource(names: &[&str], res: &str, bytes: u64) -> Lab {
        let lab = Lab::cluster(names).await;
        lab.create(0, res, bytes).await;
        lab.until_primary(0, res).await;
        lab.write(0, res, 0, vec![1; 4096]).await;
        for nr in 1..names.len() {
            lab.join_resource(nr, 0, res, bytes).await;
        }
        for nr in 1..names.len() {
            lab.until_equal(nr, res, 0, &[1; 4096]).await;
        }
        lab
    }

    /// Waits until the device is open for applications.
    pub async fn until_primary(&self, nr: usize, res: &str) {
        let what = format!("{} is primary", self.hosts[nr].name);
        self.until(&what, |lab| {
            lab.daemon(nr)
                .node()
                .exports()
                .names()
                .contains(&res.to_owned())
        })
        .await;
    }

    /// Waits until a replica is synced and holds `data` at `offset`.
    pub async fn until_equal(&self, nr: usize, res: &str, offset: u64, data: &[u8]) {
        let name = self.hosts[nr].name.clone();
        let size = self.get(nr, &format!("resource-{res}/size"));
        let status = format!("resource-{res}/syncstatus-{name}");
        self.until(
            &format!("{name} has {} bytes at {offset}", data.len()),
            |lab| lab.get(nr, &status) == size && lab.disk_has(nr, offset, data),
        )
        .await;
    }

    /// What `marsadm primary` does at the new primary.
    pub async fn hand_over(&self, from: usize, to: usize, res: &str) {
        let (a, b) = (self.hosts[from].name.clone(), self.hosts[to].name.clone());
        let p = |rest: &str| format!("resource-{res}/{rest}");
        self.until("both replicas are equal", |lab| {
            lab.are_equal(to, &a, &b, res)
        })
        .await;
        self.set(to, &[(&p("primary"), "(none)")]).await;
        self.until("the old primary has stepped down", |lab| {
            lab.get(to, &p(&format!("actual-{a}/is-primary")))
                .as_deref()
                == Some("0")
        })
        .await;
        self.until("both replicas are equal again", |lab| {
            lab.are_equal(to, &a, &b, res)
        })
        .await;
        self.set(to, &[(&p("primary"), b.as_str())]).await;
        self.until_primary(to, res).await;
    }

    /// Do two hosts say the same about replay and their newest log, as seen from `nr`?
    fn are_equal(&self, nr: usize, a: &Host, b: &Host, res: &str) -> bool {
        let replay = |h: &Host| self.get(nr, &format!("resource-{res}/replay-{h}"));
        let (of_a, of_b) = (replay(a), replay(b));
        let Some(log) = of_a.as_ref().and_then(|text| text.get(4..13)) else {
            return false;
        };
        let version = |h: &Host| self.get(nr, &format!("resource-{res}/version-{log}-{h}"));
        of_a == of_b && version(a).is_some() && version(a) == version(b)
    }
}

impl Lab {
    /// `pause-fetch` and `primary --force`.
    pub async fn force(&self, nr: usize, res: &str) {
        let h = self.hosts[nr].name.clone();
        let p = |rest: &str| format!("resource-{res}/{rest}");
        self.set(nr, &[(&p(&format!("todo-{h}/connect")), "0")])
            .await;
        self.until("not fetching", |lab| {
            lab.get(nr, &p(&format!("actual-{h}/is-copying")))
                .as_deref()
                == Some("0")
        })
        .await;
        self.set(nr, &[(&p("primary"), h.as_str())]).await;
        self.until_primary(nr, res).await;
        self.set(nr, &[(&p(&format!("todo-{h}/connect")), "1")])
            .await;
    }

    /// `invalidate`.
    pub async fn invalidate(&self, nr: usize, primary: usize, res: &str) {
        let h = self.hosts[nr].name.clone();
        let p = |rest: &str| format!("resource-{res}/{rest}");
        let switches = ["attach", "sync", "connect", "allow-replay"];
        for switch in switches {
            self.set(nr, &[(&p(&format!("todo-{h}/{switch}")), "0")])
                .await;
        }
        self.until("everything is off", |lab| {
            [
                "is-attached",
                "is-syncing",
                "is-copying",
                "is-replaying",
                "is-primary",
            ]
            .iter()
            .all(|lamp| lab.get(nr, &p(&format!("actual-{h}/{lamp}"))).as_deref() == Some("0"))
        })
        .await;
        let tree = self.daemon(nr).node().keys().read();
        let own = format!("-{h}");
        let gone: Vec<String> = tree
            .texts(&p(""))
            .map(|(path, _)| path.to_string())
            .filter(|path| path.ends_with(&own))
            .filter(|path| {
                let name = path.rsplit('/').next().unwrap_or_default();
                ["version-", "log-", "replay-"]
                    .iter()
                    .any(|kind| name.starts_with(kind))
            })
            .collect();
        self.set(nr, &[(&p(&format!("syncstatus-{h}")), "0")]).await;
        for path in gone {
            self.set(nr, &[(&path, "")]).await;
        }
        self.begin_at(nr, primary, res).await;
        for switch in ["attach", "connect", "allow-replay", "sync"] {
            self.set(nr, &[(&p(&format!("todo-{h}/{switch}")), "1")])
                .await;
        }
    }

    /// Is the split brain message of a host shown at another one?
    pub fn sees_split_brain(&self, nr: usize, of: usize, res: &str) -> bool {
        let h = &self.hosts[of].name;
        let path = format!("resource-{res}/actual-{h}/msg-err-splitbrain-detected");
        self.get(nr, &path).is_some_and(|text| text != "OK")
    }
}
