//! The real network: QUIC with mutual TLS.
//!
//! Between two hosts there are two connections, one for state, one for bulk, made when first needed and kept. A
//! connection serves both directions, whoever made it. When both sides connect at the same time, both connections
//! work; new channels go to the one made by the host whose name sorts first, and the other is closed by its maker as soon
//! as nothing uses it.
//!
//! Every holder of a certificate of this cluster is accepted; what it may do is decided above. Strangers get a
//! handshake that ends, a bounded number of them at a time, and bounded per address, so that they cannot keep peers out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certs::pki_dir::Member;
use certs::{ClusterId, Identity};
use parking_lot::Mutex;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ClientConfig, Connection, ConnectionId, Endpoint, EndpointConfig, ServerConfig};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tree::Host;

use crate::bucket::Buckets;
use crate::counters::{Counters, PeerStats, add};
use crate::dial::{Dial, address_of};
use crate::join::{self, JoinDesk};
use crate::line::Line;
use crate::link::{Kind, Link, code};
use crate::net::{BoxFuture, Channel, Class, Incoming, Net, NetError};
use crate::socket;
use crate::tls::{self, ALPN_JOIN, ALPN_PEER, TlsError};

/// Handshakes under way at a time. A handshake costs a millisecond of a core; more at once only makes each slower.
const HANDSHAKES_MAX: usize = 128;
/// Handshakes of one address at a time, so that one machine cannot keep the others out.
const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_MAX / 2;
/// From here on, who connects must first show that it receives answers at its address.
const HANDSHAKES_UNCHECKED_MAX: usize = HANDSHAKES_MAX / 4;
const _: () = assert!(HANDSHAKES_UNCHECKED_MAX < HANDSHAKES_PER_ADDRESS_MAX);

/// Hosts that join at a time. They are strangers too, and may take their time.
const JOINS_MAX: usize = 8;

/// A handshake takes a few round trips, or is given up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Connections one peer may hold. Two are normal, four after both sides connected at once, the rest is room for a
/// peer whose old connections have not been noticed as dead yet.
const LINKS_PER_PEER_MAX: usize = 8;

/// A connection nobody uses is closed in favour of another one no sooner than this: a channel may be about to open.
const SPARE_AGE_MIN: Duration = Duration::from_secs(1);

/// Opened channels that wait for [`Net::accept`].
const ACCEPTED_MAX: usize = 64;

/// What a host is told that has left.
const LEFT: &str = "this host has left the cluster; it can join again with a new token";

/// Datagrams kept for connections that are not accepted yet, each and all together.
const UNACCEPTED_BYTES_MAX: u64 = 16 << 10;
const UNACCEPTED_BYTES_ALL_MAX: u64 = 4 << 20;

/// What the network needs to start.
pub struct NetConfig {
    /// Where to listen (UDP); port 0 chooses one.
    pub listen: SocketAddr,
    /// What is known about the line to the peers.
    pub line: Line,
    /// Admits joining hosts; without it nobody can join here.
    pub desk: Option<Arc<JoinDesk>>,
}

/// Why the network cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be used.
    #[error("cannot listen on {listen} (UDP): {why}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        why: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Pki(#[from] certs::PkiError),
    /// The certificate's host name is none.
    #[error(transparent)]
    Name(#[from] tree::NameError),
}

/// The real network of one host.
pub struct QuicNet {
    inner: Arc<Inner>,
    identity: Arc<Identity>,
}

pub(crate) struct Inner {
    pub host: Host,
    pub cluster: ClusterId,
    /// Tells this running daemon from the one before it.
    pub instance: u64,
    pub counters: Counters,
    pub buckets: Arc<Buckets>,
    pub accepted: mpsc::Sender<Incoming>,
    endpoint: Endpoint,
    client: Arc<quinn::crypto::rustls::QuicClientConfig>,
    server: Arc<quinn::crypto::rustls::QuicServerConfig>,
    line: Mutex<Line>,
    peers: Mutex<BTreeMap<Host, Arc<Dial>>>,
    links: Mutex<BTreeMap<Host, Vec<Arc<Link>>>>,
    /// Hosts that have left the cluster. Locked after `links`, if both are.
    refused: Mutex<BTreeSet<Host>>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    handshakes: Arc<Semaphore>,
    handshakes_by_address: Mutex<BTreeMap<IpAddr, usize>>,
    joins: Arc<Semaphore>,
    desk: Option<Arc<JoinDesk>>,
    is_down: AtomicBool,
    down: Notify,
}

impl QuicNet {
    /// Listens, and serves peers from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: NetConfig, member: &Member) -> Result<QuicNet, StartError> {
        let identity = member.identity()?;
        let server = tls::server(identity.clone(), member.authority.cert())?;
        let client = tls::client(identity.clone(), member.authority.cert())?;
        let endpoint = endpoint(config.listen, &config.line).map_err(|why| StartError::Listen {
            listen: config.listen,
            why,
        })?;
        let (accepted, waiting) = mpsc::channel(ACCEPTED_MAX);
        let inner = Arc::new(Inner {
            host: Host::new(&member.host)?,
            cluster: member.cluster().clone(),
            instance: rand::random(),
            counters: Counters::default(),
            buckets: Arc::default(),
            accepted,
            endpoint,
            client: Arc::new(client),
            server: Arc::new(server),
            line: Mutex::new(config.line),
            peers: Mutex::default(),
            links: Mutex::default(),
            refused: Mutex::default(),
            waiting: tokio::sync::Mutex::new(waiting),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            handshakes_by_address: Mutex::default(),
            joins: Arc::new(Semaphore::new(JOINS_MAX)),
            desk: config.desk,
            is_down: AtomicBool::new(false),
            down: Notify::new(),
        });
        inner
            .endpoint
            .set_server_config(Some(inner.server_config(config.listen.ip(), Kind::Bulk)));
        tokio::spawn(inner.clone().serve());
        Ok(QuicNet { inner, identity })
    }

    /// Where it listens really.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.endpoint.local_addr()
    }

    /// The certificate in use, for renewal ([`certs::PkiDir::renew_if_due`]).
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Limits what this host sends of a class to all peers together, bytes per second; at once.
    pub fn set_rate(&self, class: Class, rate: Option<u64>) {
        self.inner.buckets.set(class, rate);
    }

    /// Other facts about the line; they count for connections made from now on.
    pub fn set_line(&self, line: Line) {
        *self.inner.line.lock() = line;
    }

    /// Counters and connections of all peers met since the start.
    pub fn stats(&self) -> BTreeMap<Host, PeerStats> {
        let mut stats = self.inner.counters.stats();
        let links = self.inner.links.lock();
        for (host, links) in links.iter() {
            let entry = stats.entry(host.clone()).or_default();
            entry.connections = links.len() as u64;
            let rtt = links.last().map(|link| link.rtt()).unwrap_or_default();
            entry.rtt_us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        }
        stats
    }

    /// Handshakes that led to nobody of this cluster.
    pub fn strangers(&self) -> u64 {
        self.inner.counters.strangers.load(Ordering::Relaxed)
    }

    /// Ends all connections, and waits a moment until the peers have been told.
    pub async fn shut_down(&self) {
        self.inner.go_down();
        let told = timeout(Duration::from_secs(1), self.inner.endpoint.wait_idle());
        let _ = told.await;
    }
}

impl Drop for QuicNet {
    fn drop(&mut self) {
        self.inner.go_down();
    }
}

impl Net for QuicNet {
    fn open(&self, to: &Host, class: Class) -> BoxFuture<'static, Result<Channel, NetError>> {
        let (inner, to) = (self.inner.clone(), to.clone());
        Box::pin(async move { inner.open(to, class).await })
    }

    fn accept(&self) -> BoxFuture<'static, Option<Incoming>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let down = inner.down.notified();
            if inner.is_down.load(Ordering::Acquire) {
                return None;
            }
            let mut waiting = inner.waiting.lock().await;
            tokio::select! {
                biased;
                () = down => None,
                next = waiting.recv() => next,
            }
        })
    }

    fn set_peers(&self, addresses: BTreeMap<Host, String>) {
        self.inner.set_peers(addresses);
    }

    fn set_refused(&self, hosts: BTreeSet<Host>) {
        self.inner.set_refused(hosts);
    }

    fn set_rate(&self, class: Class, rate: Option<u64>) {
        QuicNet::set_rate(self, class, rate);
    }

    fn stats(&self) -> BTreeMap<Host, PeerStats> {
        QuicNet::stats(self)
    }
}

/// The socket and what QUIC needs of it, without serving anybody.
///
/// # Errors
/// What the system says.
pub fn endpoint(listen: SocketAddr, line: &Line) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    // Refused only below 1200, which no line has.
    let _ = config.max_udp_payload_size(line.mtu_any().max(1200));
    let socket = socket::bind(listen, line.mtu_any())?;
    Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(quinn::TokioRuntime))
}

impl Inner {
    pub fn line(&self) -> Line {
        *self.line.lock()
    }

    fn go_down(&self) {
        if !self.is_down.swap(true, Ordering::AcqRel) {
            self.endpoint.close(code::SHUTDOWN, b"shutting down");
            self.down.notify_waiters();
            for dial in self.peers.lock().values() {
                dial.news();
            }
        }
    }

    pub fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Acquire)
    }

    fn set_peers(&self, addresses: BTreeMap<Host, String>) {
        let mut peers = self.peers.lock();
        peers.retain(|host, _| addresses.contains_key(host));
        for (host, address) in addresses {
            if host != self.host {
                peers.entry(host).or_default().set_address(address);
            }
        }
        let mut links = self.links.lock();
        links.retain(|host, links| {
            let stays = peers.contains_key(host) || links.iter().all(|l| !l.is_ours);
            if !stays {
                links
                    .iter()
                    .for_each(|l| l.close(code::SPARE, "no longer a peer"));
            }
            stays
        });
    }

    fn set_refused(&self, hosts: BTreeSet<Host>) {
        let links = self.links.lock();
        for (host, links) in links.iter().filter(|(host, _)| hosts.contains(*host)) {
            tracing::warn!(%host, "has left the cluster and is cut off");
            links
                .iter()
                .for_each(|link| link.close(code::NOT_A_PEER, LEFT));
        }
        *self.refused.lock() = hosts;
    }

    async fn open(self: Arc<Inner>, to: Host, class: Class) -> Result<Channel, NetError> {
        let kind = Kind::of(class);
        if let Some(link) = self.preferred(&to, kind) {
            match link.open(class).await {
                Ok(channel) => return Ok(channel),
                // It was dead without our knowing; try a new one.
                Err(_) if !link.is_alive() => {}
                Err(e) => return Err(e),
            }
        }
        let known = self.peers.lock().get(&to).cloned();
        let dial = known.ok_or_else(|| NetError::NoAddress { peer: to.clone() })?;
        let link = dial.link(&self, &to, kind).await?;
        let opened = link.open(class).await;
        // Only now: TLS lets the connecting side believe for a moment that it was accepted.
        dial.judge(kind, opened.as_ref().err()).await;
        opened
    }

    /// The connection new channels to `peer` go to.
    pub fn preferred(&self, peer: &Host, kind: Kind) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let fit = |link: &&Arc<Link>| link.is_alive() && link.kind() == Some(kind);
        let rank = |link: &&Arc<Link>| (link.is_ours == (self.host < *peer), link.born);
        links
            .get(peer)?
            .iter()
            .filter(fit)
            .max_by_key(rank)
            .cloned()
    }

    /// Makes a connection. The caller takes care of back-off.
    pub async fn connect(
        self: &Arc<Inner>,
        to: &Host,
        address: &str,
        kind: Kind,
    ) -> Result<Arc<Link>, NetError> {
        let unreachable = |why: String| NetError::Unreachable {
            peer: to.clone(),
            address: address.to_owned(),
            why,
        };
        let not_trusted = |why: String| NetError::NotTrusted {
            peer: to.clone(),
            address: address.to_owned(),
            why,
        };
        let at = address_of(address).ok_or_else(|| unreachable("no IP address".to_owned()))?;
        let name = self.cluster.dns_name(to.as_str());
        let name = name.map_err(|e| not_trusted(e.to_string()))?;
        let mut config = ClientConfig::new(self.client.clone());
        config
            .transport_config(settings(&self.line(), at.ip(), kind))
            .initial_dst_cid_provider(Arc::new(move || first_id(kind)));
        let connecting = self.endpoint.connect_with(config, at, &name);
        let connecting = connecting.map_err(|e| unreachable(e.to_string()))?;
        let connection = match timeout(HANDSHAKE_MAX, connecting).await {
            Err(_) => return Err(unreachable("it does not answer".to_owned())),
            Ok(Err(e)) if is_about_trust(&e) => return Err(not_trusted(e.to_string())),
            Ok(Err(e)) => return Err(unreachable(e.to_string())),
            Ok(Ok(connection)) => connection,
        };
        match self.peer_of(&connection) {
            Ok(peer) if peer == *to => Ok(self.register(peer, connection, Some(kind))),
            Ok(other) => {
                connection.close(code::NOT_A_PEER, b"wrong host");
                Err(not_trusted(format!("its certificate is for {other}")))
            }
            Err(why) => {
                connection.close(code::NOT_A_PEER, why.as_bytes());
                Err(not_trusted(why))
            }
        }
    }

    /// The name in the certificate of the other side.
    fn peer_of(&self, connection: &Connection) -> Result<Host, String> {
        let identity = connection.peer_identity().ok_or("it has no certificate")?;
        let chain = identity
            .downcast::<Vec<CertificateDer<'static>>>()
            .map_err(|_| "its certificate is of an unknown kind")?;
        let cert = chain.first().ok_or("it has no certificate")?;
        let name = certs::host_cert::host_of(cert, &self.cluster).map_err(|e| e.to_string())?;
        let host = Host::new(&name).map_err(|e| e.to_string())?;
        match self.refused.lock().contains(&host) {
            true => Err(LEFT.to_owned()),
            false => Ok(host),
        }
    }

    fn register(
        self: &Arc<Inner>,
        peer: Host,
        connection: Connection,
        kind: Option<Kind>,
    ) -> Arc<Link> {
        let link = Link::new(self.clone(), peer.clone(), connection, kind);
        let mut links = self.links.lock();
        if self.refused.lock().contains(&peer) {
            // It has left since its certificate was looked at.
            link.close(code::NOT_A_PEER, LEFT);
        }
        let of_peer = links.entry(peer.clone()).or_default();
        if of_peer.len() >= LINKS_PER_PEER_MAX {
            of_peer[0].close(code::REPLACED, "too many connections");
        }
        of_peer.push(link.clone());
        drop(links);
        add(&self.counters.of(&peer).connects, 1);
        tokio::spawn(link.clone().run());
        link
    }

    pub fn forget(&self, link: &Arc<Link>) {
        let mut links = self.links.lock();
        if let Some(of_peer) = links.get_mut(&link.peer) {
            of_peer.retain(|other| !Arc::ptr_eq(other, link));
            if of_peer.is_empty() {
                links.remove(&link.peer);
            }
        }
    }

    /// A link has learned which daemon is at its other end.
    pub fn met(&self, link: &Arc<Link>) {
        let links = self.links.lock();
        for other in links.get(&link.peer).into_iter().flatten() {
            let is_older = other.instance() != 0 && other.born <= link.born;
            if is_older && other.instance() != link.instance() {
                other.close(code::REPLACED, "the host was started anew");
            }
        }
        drop(links);
        // It reached us, so it can be reached.
        if let Some(dial) = self.peers.lock().get(&link.peer) {
            dial.news();
        }
    }

    /// Closes connections of ours that are neither used nor preferred.
    pub fn tidy(&self, peer: &Host) {
        for kind in [Kind::State, Kind::Bulk] {
            let Some(preferred) = self.preferred(peer, kind) else {
                continue;
            };
            let links = self.links.lock();
            for link in links.get(peer).into_iter().flatten() {
                let is_other = link.kind() == Some(kind) && !Arc::ptr_eq(link, &preferred);
                let is_spare = link.is_ours && link.is_unused() && is_other;
                if is_spare && link.born.elapsed() > SPARE_AGE_MIN {
                    link.close(code::SPARE, "another connection is used");
                }
            }
        }
    }

    fn server_config(&self, from: IpAddr, kind: Kind) -> ServerConfig {
        let mut config = ServerConfig::with_crypto(self.server.clone());
        config
            .transport_config(settings(&self.line(), from, kind))
            .incoming_buffer_size(UNACCEPTED_BYTES_MAX)
            .incoming_buffer_size_total(UNACCEPTED_BYTES_ALL_MAX);
        config
    }

    /// Takes in connections until the end.
    async fn serve(self: Arc<Inner>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let Some(admission) = self.admit(&incoming) else {
                add(&self.counters.strangers, 1);
                incoming.refuse();
                continue;
            };
            let under_way = HANDSHAKES_MAX - self.handshakes.available_permits();
            if under_way > HANDSHAKES_UNCHECKED_MAX && incoming.may_retry() {
                // Refused only when it has been asked before.
                let _ = incoming.retry();
                continue;
            }
            tokio::spawn(self.clone().welcome(incoming, admission));
        }
    }

    fn admit(self: &Arc<Inner>, incoming: &quinn::Incoming) -> Option<Admission> {
        let permit = self.handshakes.clone().try_acquire_owned().ok()?;
        let address = incoming.remote_address().ip();
        let mut by_address = self.handshakes_by_address.lock();
        let count = by_address.entry(address).or_default();
        if *count >= HANDSHAKES_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Admission {
            net: self.clone(),
            address,
            _permit: permit,
        })
    }

    async fn welcome(self: Arc<Inner>, incoming: quinn::Incoming, admission: Admission) {
        let kind = kind_announced(incoming.orig_dst_cid());
        let config = Arc::new(self.server_config(incoming.remote_address().ip(), kind));
        let Ok(connecting) = incoming.accept_with(config) else {
            return add(&self.counters.strangers, 1);
        };
        let Ok(Ok(connection)) = timeout(HANDSHAKE_MAX, connecting).await else {
            return add(&self.counters.strangers, 1);
        };
        let data = connection.handshake_data();
        let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
        match data.and_then(|data| data.protocol).as_deref() {
            Some(protocol) if protocol == ALPN_JOIN => {
                drop(admission);
                match self.joins.clone().try_acquire_owned() {
                    Ok(_permit) => join::serve(connection, self.desk.clone()).await,
                    Err(_) => connection.close(code::NOT_A_PEER, b"busy with other joins"),
                }
            }
            Some(protocol) if protocol == ALPN_PEER => match self.peer_of(&connection) {
                Ok(peer) => {
                    self.register(peer, connection, None);
                }
                Err(why) => {
                    add(&self.counters.strangers, 1);
                    connection.close(code::NOT_A_PEER, why.as_bytes());
                }
            },
            _ => connection.close(code::NOT_A_PEER, b"unknown protocol"),
        }
    }
}

fn settings(line: &Line, address: IpAddr, kind: Kind) -> Arc<quinn::TransportConfig> {
    match kind {
        Kind::State => line.state_settings(address),
        Kind::Bulk => line.settings(address),
    }
}

/// Lowest bit of the first byte of the first id of a connection: it is for the key tree.
const FOR_STATE: u8 = 1;

/// The caller chooses the first id of a connection, by chance but for one bit. The other side must choose its settings
/// before it can know more; a wrong bit costs some probes and nothing else, so nothing is trusted here.
fn first_id(kind: Kind) -> ConnectionId {
    let mut id: [u8; 20] = rand::random();
    id[0] = match kind {
        Kind::State => id[0] | FOR_STATE,
        Kind::Bulk => id[0] & !FOR_STATE,
    };
    ConnectionId::new(&id)
}

fn kind_announced(id: ConnectionId) -> Kind {
    match id.first() {
        Some(first) if first & FOR_STATE != 0 => Kind::State,
        _ => Kind::Bulk,
    }
}

/// One handshake under way.
struct Admission {
    net: Arc<Inner>,
    address: IpAddr,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut by_address = self.net.handshakes_by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// TLS alerts, of either side: waiting does not help, certificates do.
fn is_about_trust(e: &quinn::ConnectionError) -> bool {
    let crypto = |code: quinn::TransportErrorCode| (0x100..0x200).contains(&u64::from(code));
    match e {
        quinn::ConnectionError::TransportError(e) => crypto(e.code),
        quinn::ConnectionError::ConnectionClosed(e) => crypto(e.error_code),
        quinn::ConnectionError::ApplicationClosed(e) => e.error_code == code::NOT_A_PEER,
        _ => false,
    }
}
