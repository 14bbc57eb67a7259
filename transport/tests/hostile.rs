//! Peers that are silent, garbled or hostile, with a valid certificate and without: they cost bounded memory, and the others
//! do not notice.

#![expect(clippy::panic, reason = "this is how a test fails")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Office, WAIT_MAX, address, channel, host, soon};
use quinn::{ClientConfig, Connection, Endpoint, SendStream, ServerConfig};
use serde::Serialize;
use transport::line::CHANNEL_WINDOW_MAX;
use transport::quic::QuicNet;
use transport::wire::BODY_BYTES_MAX;
use transport::{Class, Message, Net, frame, tls};
use tree::Resource;

#[derive(Serialize)]
struct Open {
    version: u32,
    class: Class,
    instance: u64,
}

/// A program with the certificate of mallory that speaks QUIC but does not keep to our rules.
struct Mallory {
    endpoint: Endpoint,
    connection: Connection,
}

impl Mallory {
    async fn connect(office: &Office, to: &QuicNet) -> Mallory {
        let member = office.member("mallory");
        let identity = member.identity().expect("usable");
        let tls = tls::client(identity, member.authority.cert()).expect("usable");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let endpoint = Endpoint::client(any).expect("binds");
        let name = member.cluster().dns_name("beta").expect("valid");
        let config = ClientConfig::new(Arc::new(tls));
        let at = to.local_addr().expect("listens");
        let connecting = endpoint.connect_with(config, at, &name);
        let connection = soon(connecting.expect("starts")).await.expect("connects");
        Mallory {
            endpoint,
            connection,
        }
    }

    /// Opens a channel properly and returns its spine and number.
    async fn open(&self, class: Class, version: u32) -> (SendStream, u64) {
        let (mut tx, mut rx) = soon(self.connection.open_bi()).await.expect("opens");
        let open = Open {
            version,
            class,
            instance: 9,
        };
        let frame = frame::Frame::of(&open).expect("fits");
        soon(frame::write_frame(&mut tx, &frame))
            .await
            .expect("sent");
        let limits = transport::wire::limits(Class::State);
        let _ = soon(frame::read_frame(&mut rx, limits))
            .await
            .expect("answered");
        // Credit is read by nobody; it fits into the window.
        tokio::spawn(async move {
            let mut rx = rx;
            let _ = rx.read_to_end(1 << 20).await;
        });
        let id = quinn::VarInt::from(tx.id()).into_inner();
        (tx, id)
    }

    /// Must be hung up on for breaking the protocol.
    async fn check_hung_up(&self) {
        let why = soon(self.connection.closed()).await;
        let quinn::ConnectionError::ApplicationClosed(close) = &why else {
            panic!("{why}");
        };
        assert_eq!(u64::from(close.error_code), 4, "{why}");
    }
}

fn mark(kind: u8, number: u64) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(number.to_le_bytes());
    out
}

fn message_bytes(message: &Message) -> Bytes {
    message.to_frame().expect("fits").to_bytes()
}

/// Does `hurt` with a connection of mallory to beta; afterwards mallory is hung up on, and alpha and beta still talk.
async fn check_hurts_nobody_else(hurt: impl AsyncFn(&Mallory)) {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    let mallory = Mallory::connect(&office, &beta).await;
    hurt(&mallory).await;
    mallory.check_hung_up().await;
    assert_eq!(beta.stats()[&host("mallory")].violations, 1);
    let ping = Message::Ping { nonce: 7 };
    near.send(ping.clone()).await.expect("still there");
    assert_eq!(soon(far.recv()).await, Ok(ping));
    mallory.endpoint.close(0u32.into(), b"");
}

#[tokio::test]
async fn an_oversized_length_is_refused_before_anything_is_allocated() {
    check_hurts_nobody_else(async |mallory| {
        let (mut spine, _) = mallory.open(Class::State, 1).await;
        let mut bytes = mark(0, 0);
        bytes.extend(frame::prefix(u32::MAX as usize, 0));
        spine.write_all(&bytes).await.expect("sent");
    })
    .await;
}

#[tokio::test]
async fn a_body_where_none_belongs_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        let (mut spine, _) = mallory.open(Class::State, 1).await;
        let mut bytes = mark(0, 0);
        bytes.extend(frame::prefix(10, 1));
        spine.write_all(&bytes).await.expect("sent");
    })
    .await;
}

#[tokio::test]
async fn garbage_instead_of_a_message_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        let (mut spine, _) = mallory.open(Class::State, 1).await;
        let mut bytes = mark(0, 0);
        bytes.extend(frame::prefix(5, 0));
        bytes.extend(b"hello");
        spine.write_all(&bytes).await.expect("sent");
    })
    .await;
}

#[tokio::test]
async fn a_message_that_comes_twice_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        let (mut spine, _) = mallory.open(Class::State, 1).await;
        let ping = message_bytes(&Message::Ping { nonce: 1 });
        for _ in 0..2 {
            let mut bytes = mark(0, 5);
            bytes.extend(&ping);
            let _ = spine.write_all(&bytes).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_of_another_class_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        let (mut spine, _) = mallory.open(Class::Log, 1).await;
        let mut bytes = mark(0, 0);
        bytes.extend(message_bytes(&Message::Ping { nonce: 1 }));
        spine.write_all(&bytes).await.expect("sent");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_mark_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        let (mut spine, _) = mallory.open(Class::Sync, 1).await;
        spine.write_all(&mark(77, 0)).await.expect("sent");
    })
    .await;
}

#[tokio::test]
async fn a_state_channel_on_a_bulk_connection_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        mallory.open(Class::Log, 1).await;
        let (mut tx, _rx) = mallory.connection.open_bi().await.expect("opens");
        let open = Open {
            version: 1,
            class: Class::State,
            instance: 9,
        };
        let frame = frame::Frame::of(&open).expect("fits");
        frame::write_frame(&mut tx, &frame).await.expect("sent");
    })
    .await;
}

#[tokio::test]
async fn a_first_frame_that_is_none_is_refused() {
    check_hurts_nobody_else(async |mallory| {
        let (mut tx, _rx) = mallory.connection.open_bi().await.expect("opens");
        tx.write_all(&frame::prefix(1 << 20, 0))
            .await
            .expect("sent");
    })
    .await;
}

#[tokio::test]
async fn whoever_sends_without_credit_is_hung_up_on_after_one_window() {
    check_hurts_nobody_else(async |mallory| {
        let (_spine, id) = mallory.open(Class::Log, 1).await;
        let bytes = Bytes::from(vec![1; BODY_BYTES_MAX]);
        let message = message_bytes(&Message::LogBytes { offset: 0, bytes });
        let mut sent = 0;
        // Message 0 never comes, so nothing is delivered and nothing allowed anew.
        for number in 1.. {
            let Ok(mut chunk) = mallory.connection.open_uni().await else {
                break;
            };
            let mut head = id.to_le_bytes().to_vec();
            head.extend(u64::to_le_bytes(number));
            if chunk.write_all(&head).await.is_err() || chunk.write_all(&message).await.is_err() {
                break;
            }
            let _ = chunk.finish();
            sent += message.len() as u64;
            assert!(sent < 3 * CHANNEL_WINDOW_MAX, "nobody stops it");
        }
    })
    .await;
}

#[tokio::test]
async fn a_version_too_old_is_told_so_and_stays_connected() {
    let office = Office::new("one");
    let beta = office.net("beta");
    let mallory = Mallory::connect(&office, &beta).await;
    mallory.open(Class::State, 0).await;
    assert_eq!(beta.stats()[&host("mallory")].refused, 1);
    assert!(mallory.connection.close_reason().is_none());
    mallory.open(Class::State, 999).await;
    let opened = soon(beta.accept()).await.expect("up");
    assert_eq!(opened.from, host("mallory"));
}

#[tokio::test]
async fn endless_streams_end_at_the_limit_while_others_work() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let mallory = Mallory::connect(&office, &beta).await;
    let mut held = Vec::new();
    for _ in 0..2000 {
        let opening = mallory.connection.open_uni();
        let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), opening).await else {
            break;
        };
        let mut stream = stream.expect("connected");
        // Half of a head: the rest never comes.
        stream.write_all(&[0; 8]).await.expect("sent");
        held.push(stream);
    }
    assert!(held.len() < 1000, "{} streams", held.len());
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::Log).await;
    let resource = Resource::new("data").expect("valid");
    let ask = Message::Subscribe {
        resource,
        log: common::log(1),
        from: 0,
    };
    near.send(ask.clone()).await.expect("sent");
    assert_eq!(soon(far.recv()).await, Ok(ask));
}

#[tokio::test]
async fn channels_nobody_takes_are_refused_and_not_collected() {
    let office = Office::new("one");
    let beta = office.net("beta");
    let mallory = Mallory::connect(&office, &beta).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(mallory.open(Class::Log, 1).await);
    }
    assert!(beta.stats()[&host("mallory")].refused >= 30);
}

#[tokio::test]
async fn many_connections_of_one_peer_end_at_the_limit() {
    let office = Office::new("one");
    let beta = office.net("beta");
    let mut many = Vec::new();
    for _ in 0..20 {
        many.push(Mallory::connect(&office, &beta).await);
    }
    for first in &many[..5] {
        soon(first.connection.closed()).await;
    }
    soon(async {
        while beta.stats()[&host("mallory")].connections > 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    many[19].open(Class::State, 1).await;
    soon(beta.accept()).await.expect("the newest works");
}

/// Memory of this process in bytes: both ends of every connection.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the system tells");
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse().ok());
    let pages: u64 = pages.expect("a number of pages");
    pages * 4096
}

/// What connections beyond the limit may leave behind, all together: nothing but the allocator's swings.
const LEFT_BEHIND_BYTES_MAX: u64 = 32 << 20;

/// Tells the child process of the following test that it is the one which measures.
const ALONE: &str = "MARS_TEST_ALONE";

/// In a process of its own: the other tests use memory, too.
#[test]
fn thousands_of_connections_cost_no_more_memory_than_hundreds() {
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "thousands_of_connections_alone", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("child");
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}");
}

/// Not a test of its own: see the one before.
#[tokio::test]
async fn thousands_of_connections_alone() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let mut newest = std::collections::VecDeque::new();
    let mut after_hundreds = 0;
    for nr in 1..=2_000 {
        newest.push_back(Mallory::connect(&office, &beta).await);
        if newest.len() > 32 {
            // Mallory leaves none of its own accord: those too many were ended at the other side.
            let oldest: Mallory = newest.pop_front().expect("there are 33");
            let why = soon(oldest.connection.closed()).await;
            let by_beta = matches!(why, quinn::ConnectionError::ApplicationClosed(_));
            assert!(by_beta, "connection before {nr}: {why}");
        }
        if nr == 500 {
            after_hundreds = resident();
        }
    }
    let grown = resident().saturating_sub(after_hundreds);
    assert!(grown < LEFT_BEHIND_BYTES_MAX, "{grown} bytes more");
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;
    let ping = Message::Ping { nonce: 7 };
    near.send(ping.clone()).await.expect("still served");
    assert_eq!(soon(far.recv()).await, Ok(ping));
}

#[tokio::test]
async fn a_flood_of_half_connections_does_not_keep_peers_out() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    // Handshakes that never go on: the answers go to sockets nobody reads.
    let member = office.member("mallory");
    let mut silent = Vec::new();
    for _ in 0..400 {
        let identity = member.identity().expect("usable");
        let tls = tls::client(identity, member.authority.cert()).expect("usable");
        let proxy = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let endpoint = Endpoint::client(any).expect("binds");
        let name = member.cluster().dns_name("beta").expect("valid");
        let at = proxy.local_addr().expect("bound");
        let config = ClientConfig::new(Arc::new(tls));
        let connecting = endpoint.connect_with(config, at, &name).expect("starts");
        silent.push((proxy, endpoint, connecting));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for (proxy, _, _) in &silent {
        proxy.set_nonblocking(true).expect("set");
        let mut first = [0; 2048];
        if let Ok(len) = proxy.recv(&mut first) {
            proxy.send_to(&first[..len], address(&beta)).expect("sent");
        }
    }
    // The limits hold one address back, and this whole test is one: so try again as a peer does.
    soon(async { while alpha.open(&host("beta"), Class::State).await.is_err() {} }).await;
    let came = soon(beta.accept()).await.expect("up");
    assert_eq!(came.from, host("alpha"));
}

#[tokio::test]
async fn garbage_on_the_socket_is_ignored() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let mut noise = 1u64;
    for len in 0..1400usize {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        socket.send_to(&bytes, address(&beta)).expect("sent");
    }
    channel(&alpha, &beta, "beta", Class::State).await;
}

/// A host with the right certificate that accepts connections and then says nothing at all.
#[tokio::test]
async fn a_silent_peer_is_given_up_in_bounded_time() {
    let office = Office::new("one");
    let alpha = office.net("alpha");
    let member = office.member("beta");
    let identity = member.identity().expect("usable");
    let tls = tls::server(identity, member.authority.cert()).expect("usable");
    let config = ServerConfig::with_crypto(Arc::new(tls));
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let silent = Endpoint::server(config, any).expect("binds");
    let at = silent.local_addr().expect("bound").to_string();
    alpha.set_peers([(host("beta"), at)].into());
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = silent.accept().await {
            held.push(incoming.await);
        }
    });
    let began = tokio::time::Instant::now();
    let given_up = soon(alpha.open(&host("beta"), Class::State)).await;
    assert!(given_up.is_err());
    assert!(began.elapsed() < WAIT_MAX / 2);
    holding.abort();
}
