//! `mars node`: one host with its real ports, from start to orderly stop.
//!
//! Order of a start: lock the state directory, read certificates, open the network, load the key
//! tree, start the node, open the sockets, tell everybody. A stop goes the other way: clients are
//! sent away, everything acknowledged reaches the disks, logs are sealed, keys are stored.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certs::pki_dir::Member;
use certs::{Identity, PkiDir};
use storage::{Fs, Layout, Opened, RealFs, Reserve, SledOptions, SledStore, StoreError};
use tokio::sync::Notify;
use transport::join::JoinDesk;
use transport::quic::{NetConfig, QuicNet};
use tree::{Host, key};

use crate::config::{Config, NodeConfig};
use crate::control::Daemon;
use crate::export::{Exports, Listening, NbdServer, NbdTls, TcpSafety};
use crate::joining::TreeMembership;
use crate::keys::reopen::{Opener, ReopeningStore};
use crate::node::{Node, Parts};
use crate::ports::{BoxFuture, Clock, Keys, Lane, Ports, blocking};
use crate::real::chance::RealChance;
use crate::real::clock::RealClock;
use crate::real::control_socket::ControlSocket;
use crate::real::exec::RealExec;
use crate::real::host_lock::HostLock;
use crate::real::panics;
use crate::real::signals::{self, StopSignals};

/// Clients of the devices have so long to leave when the daemon stops.
const CLIENTS_LEAVE_MAX: Duration = Duration::from_secs(5);

/// How often certificates are looked at.
const CERTIFICATE_CHECK_EVERY: Duration = Duration::from_secs(3600);

/// Runs a node until SIGTERM, SIGINT or a command ends it.
///
/// # Errors
/// Why it could not start, as a chain of sentences.
pub async fn run(config: Config) -> anyhow::Result<()> {
    panics::end_the_process();
    let mut signals = StopSignals::catch().context("cannot catch signals")?;
    let running = Running::start(&config).await?;
    announce(&running)?;
    let cause = tokio::select! {
        biased;
        signal = signals.next() => signal,
        () = running.stop_wish.notified() => "command",
        () = renew_certificates(&running) => "certificates",
    };
    tracing::info!(cause, "stopping");
    signals::stopping();
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// A host with its real ports and sockets. Dropping it is a crash, except that the process lives on.
pub struct Running {
    control: ControlSocket,
    nbd: Vec<Listening>,
    node: Node,
    net: Arc<QuicNet>,
    pki: PkiDir,
    ports: Ports,
    desk: Arc<Desk>,
    stop_wish: Arc<Notify>,
    _lock: HostLock,
}

/// Who this host is: its certificate says so.
fn certificates(layout: &Layout, config: &Config) -> anyhow::Result<(PkiDir, Arc<Member>)> {
    let pki = PkiDir::of(layout.dir());
    let cluster = pki.cluster().context("certificates")?;
    anyhow::ensure!(
        cluster.is_some(),
        "{}: this host is in no cluster yet; run `marsadm create-cluster` or `marsadm join-cluster` first",
        layout.dir().display()
    );
    let member = pki.load().context("certificates")?;
    if let Some(name) = &config.host {
        anyhow::ensure!(
            *name == member.host,
            "the state directory belongs to host {}, not to {name}",
            member.host
        );
    }
    Ok((pki, Arc::new(member)))
}

fn open_net(config: &Config, member: &Member, desk: Arc<JoinDesk>) -> anyhow::Result<Arc<QuicNet>> {
    let config = NetConfig {
        listen: config.listen,
        line: config.node.line,
        desk: Some(desk),
    };
    Ok(Arc::new(QuicNet::start(config, member).context("network")?))
}

async fn start_node(
    layout: &Layout,
    config: NodeConfig,
    member: &Member,
    ports: &Ports,
) -> anyhow::Result<Node> {
    let (at, fs) = (layout.clone(), ports.fs.clone());
    let open = move || open_store(&at, fs);
    let (store, opened) = blocking(&*ports.exec, &Lane::Tree, open)
        .await
        .context("the key tree was not opened")?
        .context("key tree")?;
    match opened {
        Opened::Good => {}
        Opened::SnapshotsDropped { reason } => {
            tracing::warn!(reason, "key tree opened without its snapshots");
        }
        Opened::Incomplete { reason } => {
            tracing::error!(
                reason,
                "the key tree has lost entries; they come back from the peers"
            );
        }
    }
    let parts = Parts {
        here: Host::new(&member.host)?,
        cluster: member.cluster().to_string(),
        layout: layout.clone(),
        ports: ports.clone(),
        store: Box::new(ReopeningStore::new(Box::new(store), reopener(layout))),
        exports: Exports::new(),
        config,
    };
    Ok(Node::start(parts).await?)
}

/// Opens the store of the key tree; on a full file system, with the space of the reserve.
fn open_store(layout: &Layout, fs: Arc<dyn Fs>) -> Result<(SledStore, Opened), StoreError> {
    let dir: PathBuf = layout.tree();
    let is_full = |error: &StoreError| matches!(error, StoreError::Full { .. });
    Reserve::new(fs, layout.dir()).spend(is_full, || SledStore::open(&dir, SledOptions::default()))
}

/// Opens the store of the key tree again after it has failed.
fn reopener(layout: &Layout) -> Opener {
    let dir = layout.tree();
    Box::new(move || {
        let (store, _) = SledStore::open(&dir, SledOptions::default())?;
        Ok(Box::new(store))
    })
}

/// Tells the others where this host is, when the operator has said so.
async fn publish_address(config: &Config, node: &Node) -> anyhow::Result<()> {
    let Some(address) = config.advertise else {
        return Ok(());
    };
    let path = key::ip(node.hub().here());
    let address = address.to_string();
    if node.keys().read().text(path.as_str()) != Some(address.as_str()) {
        node.keys().commit(vec![(path, Some(address))]).await?;
    }
    Ok(())
}

/// The same certificate as towards the other hosts, also when it has been renewed.
fn nbd_tls(config: &Config, net: &QuicNet, member: &Member) -> anyhow::Result<Option<NbdTls>> {
    if !config.nbd_tls {
        return Ok(None);
    }
    let identity = net.identity().clone();
    Ok(Some(NbdTls::new(identity, member.authority.cert())?))
}

async fn listen_nbd(
    layout: &Layout,
    config: &Config,
    node: &Node,
    ports: &Ports,
    tls: Option<NbdTls>,
) -> anyhow::Result<Vec<Listening>> {
    let server = NbdServer::new(node.exports().clone(), ports.clock.clone());
    let mut listening = vec![server.listen_unix(&layout.nbd_socket()).await?];
    if let Some(address) = config.nbd_listen {
        // The configuration was refused if this address were open to all without the operator's word.
        let safety = match (tls, address.ip().is_loopback()) {
            (Some(tls), _) => TcpSafety::Tls(tls),
            (None, true) => TcpSafety::Loopback,
            (None, false) => TcpSafety::OperatorsWord,
        };
        listening.push(server.listen_tcp(address, safety).await?);
    }
    Ok(listening)
}

/// One line for scripts, one word for systemd.
fn announce(running: &Running) -> anyhow::Result<()> {
    let host = running.node.hub().here();
    let listen = running.net.local_addr().context("network")?;
    let line = format!("ready host={host} listen={listen}");
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the daemon works all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    signals::ready(&line);
    tracing::info!(%host, %listen, "ready");
    Ok(())
}

/// Looks after the certificate of this host. Never ends.
async fn renew_certificates(running: &Running) {
    let identity: &Arc<Identity> = running.net.identity();
    loop {
        let now_s = running.ports.clock.wall_ns() / tree::stamp::SECOND_NS;
        match running.pki.renew_if_due(identity, now_s) {
            Ok(decision) => tracing::debug!(?decision, "certificate"),
            Err(error) => tracing::error!(%error, "the certificate of this host was not renewed"),
        }
        running.ports.clock.sleep(CERTIFICATE_CHECK_EVERY).await;
    }
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// Why it could not start, as a chain of sentences.
    pub async fn start(config: &Config) -> anyhow::Result<Running> {
        let dir = std::path::absolute(&config.dir).context("state directory")?;
        let layout = Layout::new(&dir);
        std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        let lock = HostLock::take(&layout.lock()).with_context(|| {
            let path = layout.lock();
            format!(
                "{}: is a daemon running for this directory?",
                path.display()
            )
        })?;
        let (pki, member) = certificates(&layout, config)?;
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let future_s = config.node.max_future_ns / tree::stamp::SECOND_NS;
        let membership = TreeMembership::new(clock.clone(), future_s);
        let desk = JoinDesk::new(member.clone(), pki.tokens(), membership.clone());
        let net = open_net(config, &member, desk.clone())?;
        let ports = Ports {
            clock,
            chance: Arc::new(RealChance),
            exec: Arc::new(RealExec::new()),
            fs: Arc::new(RealFs),
            net: net.clone(),
        };
        let node = start_node(&layout, config.node.clone(), &member, &ports).await?;
        membership.open(node.keys());
        publish_address(config, &node).await?;
        let tls = nbd_tls(config, &net, &member)?;
        let nbd = listen_nbd(&layout, config, &node, &ports, tls).await?;
        let stop_wish = Arc::new(Notify::new());
        let desk = Arc::new(Desk {
            desk,
            node: node.keys().clone(),
            stop_wish: stop_wish.clone(),
            ports: ports.clone(),
        });
        let socket = layout.control_socket();
        let control = ControlSocket::open(&socket, node.hub().clone(), desk.clone())
            .await
            .with_context(|| format!("{}: cannot listen for commands", socket.display()))?;
        Ok(Running {
            control,
            nbd,
            node,
            net,
            pki,
            ports,
            desk,
            stop_wish,
            _lock: lock,
        })
    }

    /// What command lines may ask for besides the tree.
    pub fn desk(&self) -> &dyn Daemon {
        &*self.desk
    }

    /// The node inside.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Ends in order.
    pub async fn stop(self) {
        drop(self.control);
        self.node.begin_stop();
        self.node.exports().cut_all();
        for listening in self.nbd {
            listening.stop(CLIENTS_LEAVE_MAX).await;
        }
        self.node.stop().await;
        self.net.shut_down().await;
    }
}

/// What the control socket may ask of the daemon.
struct Desk {
    desk: Arc<JoinDesk>,
    node: Arc<crate::keys::KeyService>,
    stop_wish: Arc<Notify>,
    ports: Ports,
}

impl Daemon for Desk {
    fn token(&self, ttl: Duration, uses: u32) -> BoxFuture<'static, Result<String, String>> {
        let own = key::ip(self.node.here());
        let address = self.node.read().text(own.as_str()).map(str::to_owned);
        let (desk, exec) = (self.desk.clone(), self.ports.exec.clone());
        Box::pin(async move {
            let addresses: Vec<String> = address.into_iter().collect();
            let issue = move || {
                let token = desk.issue_token(addresses, ttl.as_secs(), uses);
                token.and_then(|token| token.to_text())
            };
            let issued = blocking(&*exec, &Lane::Misc, issue).await;
            let issued = issued.ok_or("the daemon is stopping")?;
            issued.map_err(|error| error.to_string())
        })
    }

    fn shutdown(&self) {
        self.stop_wish.notify_one();
    }
}
