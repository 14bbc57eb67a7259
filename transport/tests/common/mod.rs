//! Hosts with certificates and real sockets on loopback, for the tests of this crate.

#![expect(
    clippy::disallowed_methods,
    reason = "certificates must be valid on the day the test runs"
)]
#![expect(clippy::panic, reason = "this is how a test fails")]
#![allow(dead_code, reason = "not every test needs everything")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certs::pki_dir::Member;
use certs::{Authority, ClusterId, HostKey};
use transport::line::Line;
use transport::quic::{NetConfig, QuicNet};
use transport::{Channel, Class, Net};
use tree::{Host, LogName};

/// No wait in these tests is longer.
pub const WAIT_MAX: Duration = Duration::from_secs(40);

pub fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

pub fn host(name: &str) -> Host {
    Host::new(name).expect("valid name")
}

pub fn log(seq: u64) -> LogName {
    LogName::new(seq, &host("alpha"))
}

/// Fails the test instead of hanging.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WAIT_MAX, what).await {
        Ok(done) => done,
        Err(_) => panic!("still waiting after {WAIT_MAX:?}"),
    }
}

/// An authority that makes members.
pub struct Office {
    authority: Authority,
}

impl Office {
    pub fn new(name: &str) -> Office {
        let cluster = ClusterId::of(name, 1_800_000_000, 7).expect("valid");
        let authority = Authority::create(cluster, now_s()).expect("made");
        Office { authority }
    }

    pub fn authority(&self) -> Authority {
        let parts = &self.authority;
        Authority::from_parts(
            parts.cluster().clone(),
            parts.cert().clone(),
            &parts.key_pem(),
        )
        .expect("fits")
    }

    pub fn member(&self, name: &str) -> Member {
        let key = HostKey::create().expect("made");
        let request = key.request().expect("made");
        let cert = self.authority.issue(name, &request, now_s());
        Member {
            host: name.to_owned(),
            authority: self.authority(),
            key,
            cert: cert.expect("issued"),
        }
    }

    /// A running network of this host on some port.
    pub fn net(&self, name: &str) -> Arc<QuicNet> {
        self.net_on(name, Line::default())
    }

    pub fn net_on(&self, name: &str, line: Line) -> Arc<QuicNet> {
        start(&self.member(name), line, "127.0.0.1:0")
    }

    /// Running networks that know each other.
    pub fn nets<const N: usize>(&self, names: [&str; N]) -> [Arc<QuicNet>; N] {
        let nets = names.map(|name| self.net(name));
        for (net, own) in nets.iter().zip(names) {
            let others = names.iter().zip(&nets).filter(|(name, _)| **name != own);
            introduce(net, others.map(|(name, net)| (*name, net.as_ref())));
        }
        nets
    }
}

pub fn start(member: &Member, line: Line, listen: &str) -> Arc<QuicNet> {
    let config = NetConfig {
        listen: listen.parse().expect("an address"),
        line,
        desk: None,
    };
    Arc::new(QuicNet::start(config, member).expect("starts"))
}

pub fn address(net: &QuicNet) -> String {
    net.local_addr().expect("listens").to_string()
}

pub fn introduce<'a>(net: &QuicNet, others: impl IntoIterator<Item = (&'a str, &'a QuicNet)>) {
    let addresses: BTreeMap<Host, String> = others
        .into_iter()
        .map(|(name, other)| (host(name), address(other)))
        .collect();
    net.set_peers(addresses);
}

/// A channel from `from` to `to`, both ends.
pub async fn channel(from: &QuicNet, to: &QuicNet, name: &str, class: Class) -> (Channel, Channel) {
    let near = soon(from.open(&host(name), class)).await.expect("opens");
    let far = soon(to.accept()).await.expect("is up");
    assert_eq!(far.class, class);
    (near, far.channel)
}
