//! Lines that are cut and hosts that start anew: the next attempt finds the peer again, by itself.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use common::{Office, address, channel, host, introduce, soon, start};
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use transport::line::Line;
use transport::quic::QuicNet;
use transport::{Class, Message, Net, NetError};

/// Carries datagrams between whoever calls and `to`, unless it is cut.
struct Proxy {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    counts: Arc<Counts>,
    carrying: Vec<tokio::task::AbortHandle>,
}

/// What a proxy has carried.
#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    largest_forth: AtomicUsize,
    largest_back: AtomicUsize,
}

impl Counts {
    fn forth(&self, len: usize) {
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.largest_forth.fetch_max(len, Ordering::Relaxed);
    }

    fn back(&self, len: usize) {
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.largest_back.fetch_max(len, Ordering::Relaxed);
    }
}

impl Proxy {
    async fn towards(to: &QuicNet) -> Proxy {
        let outer = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("binds"));
        let inner = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("binds"));
        let to = to.local_addr().expect("listens");
        inner.connect(to).await.expect("connects");
        let address = outer.local_addr().expect("bound");
        let is_cut = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let caller = Arc::new(Mutex::new(None));
        let (cut, out, into, who) = (is_cut.clone(), outer.clone(), inner.clone(), caller.clone());
        let counted = counts.clone();
        let forth = tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            while let Ok((len, from)) = out.recv_from(&mut datagram).await {
                *who.lock().await = Some(from);
                counted.forth(len);
                if !cut.load(Ordering::Relaxed) {
                    let _ = into.send(&datagram[..len]).await;
                }
            }
        });
        let (cut, counted) = (is_cut.clone(), counts.clone());
        let back = tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            loop {
                let Ok(len) = inner.recv(&mut datagram).await else {
                    continue;
                };
                counted.back(len);
                let to = *caller.lock().await;
                if let Some(to) = to
                    && !cut.load(Ordering::Relaxed)
                {
                    let _ = outer.send_to(&datagram[..len], to).await;
                }
            }
        });
        Proxy {
            address,
            is_cut,
            counts,
            carrying: vec![forth.abort_handle(), back.abort_handle()],
        }
    }

    /// Ends when nothing has come through for a while.
    async fn is_quiet(&self) {
        let mut before = u64::MAX;
        loop {
            let bytes = self.counts.bytes.load(Ordering::Relaxed);
            if bytes == before {
                return;
            }
            before = bytes;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.carrying.iter().for_each(|task| task.abort());
    }
}

async fn open_again(net: &QuicNet, name: &str) -> transport::Channel {
    soon(async {
        loop {
            if let Ok(channel) = net.open(&host(name), Class::State).await {
                return channel;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_cut_line_is_noticed_and_used_again_when_it_heals() {
    let office = Office::new("one");
    let (alpha, beta) = (office.net("alpha"), office.net("beta"));
    let proxy = Proxy::towards(&beta).await;
    let way = proxy.address.to_string();
    alpha.set_peers([(host("beta"), way)].into());
    let (mut near, _far) = channel(&alpha, &beta, "beta", Class::State).await;
    proxy.cut(true);
    let lost = soon(near.recv()).await;
    assert!(matches!(lost, Err(NetError::Lost { .. })), "{lost:?}");
    assert!(soon(alpha.open(&host("beta"), Class::State)).await.is_err());
    proxy.cut(false);
    let mut near = open_again(&alpha, "beta").await;
    let mut far = soon(beta.accept()).await.expect("up").channel;
    let ping = Message::Ping { nonce: 1 };
    near.send(ping.clone()).await.expect("sent");
    assert_eq!(soon(far.recv()).await, Ok(ping));
    assert!(alpha.stats()[&host("beta")].failed >= 1);
    assert_eq!(alpha.stats()[&host("beta")].connects, 2);
}

#[tokio::test]
async fn a_short_cut_loses_no_message() {
    let office = Office::new("one");
    let (alpha, beta) = (office.net("alpha"), office.net("beta"));
    let proxy = Proxy::towards(&beta).await;
    let way = proxy.address.to_string();
    alpha.set_peers([(host("beta"), way)].into());
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    proxy.cut(true);
    let ping = Message::Ping { nonce: 1 };
    near.send(ping.clone()).await.expect("queued");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    proxy.cut(false);
    assert_eq!(soon(far.recv()).await, Ok(ping));
}

#[tokio::test]
async fn a_host_that_was_started_anew_is_found_at_once() {
    let office = Office::new("one");
    let alpha = office.net("alpha");
    let member = office.member("beta");
    let beta = start(&member, Line::default(), "127.0.0.1:0");
    introduce(&alpha, [("beta", beta.as_ref())]);
    introduce(&beta, [("alpha", alpha.as_ref())]);
    let (mut near, far) = channel(&alpha, &beta, "beta", Class::State).await;
    let listen = address(&beta);
    soon(beta.shut_down()).await;
    drop((far, beta));
    assert!(soon(near.recv()).await.is_err());
    let beta = soon(async {
        loop {
            let config = transport::quic::NetConfig {
                listen: listen.parse().expect("an address"),
                line: Line::default(),
                desk: None,
            };
            if let Ok(net) = QuicNet::start(config, &member) {
                return net;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let _near = open_again(&alpha, "beta").await;
    assert_eq!(soon(beta.accept()).await.expect("up").from, host("alpha"));
}

/// The old connection is not closed by anybody: only the new one tells that there was a restart.
#[tokio::test]
async fn a_new_start_seen_on_one_connection_ends_the_dead_ones() {
    let office = Office::new("one");
    let alpha = office.net("alpha");
    let member = office.member("beta");
    let before = start(&member, Line::default(), "127.0.0.1:0");
    introduce(&before, [("alpha", alpha.as_ref())]);
    let (_near, mut old) = channel(&before, &alpha, "alpha", Class::State).await;
    let after = start(&member, Line::default(), "127.0.0.1:0");
    introduce(&after, [("alpha", alpha.as_ref())]);
    let (_near, _new) = channel(&after, &alpha, "alpha", Class::State).await;
    let began = tokio::time::Instant::now();
    assert!(matches!(soon(old.recv()).await, Err(NetError::Lost { .. })));
    assert!(began.elapsed() < transport::line::IDLE_MAX);
    assert_eq!(alpha.stats()[&host("beta")].connections, 1);
}

/// Opens a channel of this class through a proxy: bytes of all that, and the largest datagrams forth and back.
async fn cost_of_opening(class: Class) -> (u64, usize, usize) {
    let office = Office::new("cost");
    let (alpha, beta) = (office.net("alpha"), office.net("beta"));
    let proxy = Proxy::towards(&beta).await;
    let at = std::collections::BTreeMap::from([(host("beta"), proxy.address.to_string())]);
    alpha.set_peers(at);
    let _open = channel(&alpha, &beta, "beta", class).await;
    soon(proxy.is_quiet()).await;
    let Counts {
        bytes,
        largest_forth,
        largest_back,
    } = &*proxy.counts;
    (
        bytes.load(Ordering::Relaxed),
        largest_forth.load(Ordering::Relaxed),
        largest_back.load(Ordering::Relaxed),
    )
}

#[tokio::test]
async fn a_connection_for_the_key_tree_is_cheap_and_one_for_data_has_large_datagrams() {
    let (bytes, forth, back) = cost_of_opening(Class::State).await;
    let ethernet = usize::from(transport::line::MTU_ETHERNET);
    assert!(bytes < 12 * 1024, "{bytes} bytes to open a state channel");
    assert_eq!((forth, back), (ethernet, ethernet));
    let (_, forth, back) = cost_of_opening(Class::Log).await;
    let loopback = usize::from(transport::line::MTU_LOOPBACK);
    assert!(
        forth > loopback - 40 && back > loopback - 40,
        "{forth} {back}"
    );
}
