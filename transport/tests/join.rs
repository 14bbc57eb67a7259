//! Joining over real QUIC: one host gets in, and every refusal has its own reason.

#![expect(clippy::panic, reason = "this is how a test fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::pki_dir::Member;
use certs::{HostKey, JoinToken, PkiDir};
use common::{Office, address, host, introduce, now_s, soon, start};
use parking_lot::Mutex;
use transport::join::{Admitted, JoinDesk, JoinError, JoinOrder, JoinRefusal, Membership, join};
use transport::line::Line;
use transport::quic::{NetConfig, QuicNet};
use transport::{BoxFuture, Class, Net};
use tree::Host;

/// What the node of alpha would know.
struct Known {
    now_s: Mutex<u64>,
    addresses: Mutex<BTreeMap<Host, String>>,
}

impl Membership for Known {
    fn now_s(&self) -> u64 {
        *self.now_s.lock()
    }

    fn addresses(&self) -> BTreeMap<Host, String> {
        self.addresses.lock().clone()
    }

    fn clock_difference_max_s(&self) -> u64 {
        3600
    }

    fn admit(&self, host: Host, address: String) -> BoxFuture<'_, Result<(), String>> {
        if host.as_str() == "unlucky" {
            return Box::pin(async { Err("the disk is full".to_owned()) });
        }
        self.addresses.lock().insert(host, address);
        Box::pin(async { Ok(()) })
    }
}

/// Alpha, running, with its desk.
struct Alpha {
    home: tempfile::TempDir,
    net: QuicNet,
    desk: Arc<JoinDesk>,
    known: Arc<Known>,
}

impl Alpha {
    fn new(office: &Office) -> Alpha {
        let home = tempfile::tempdir().expect("temporary directory");
        let member: Arc<Member> = Arc::new(office.member("alpha"));
        let known = Arc::new(Known {
            now_s: Mutex::new(now_s()),
            addresses: Mutex::default(),
        });
        let tokens = PkiDir::of(home.path()).tokens();
        let desk = JoinDesk::new(member.clone(), tokens, known.clone());
        let config = NetConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            line: Line::default(),
            desk: Some(desk.clone()),
        };
        let net = QuicNet::start(config, &member).expect("starts");
        let own = (host("alpha"), address(&net));
        known.addresses.lock().extend([own]);
        Alpha {
            home,
            net,
            desk,
            known,
        }
    }

    fn token(&self) -> JoinToken {
        let addresses = vec![address(&self.net)];
        self.desk.issue_token(addresses, 600, 1).expect("issued")
    }
}

/// A host that wants to join.
struct Applicant {
    name: &'static str,
    address: &'static str,
    key: HostKey,
    clock_off_s: u64,
}

impl Applicant {
    fn new(name: &'static str, address: &'static str) -> Applicant {
        Applicant {
            name,
            address,
            key: HostKey::create().expect("made"),
            clock_off_s: 0,
        }
    }

    async fn ask(&self, token: &JoinToken) -> Result<Admitted, JoinError> {
        let order = JoinOrder {
            token,
            ask_at: None,
            host: self.name,
            address: self.address,
            key: &self.key,
            now_s: now_s() + self.clock_off_s,
        };
        soon(join(&order)).await
    }

    /// Asks, and must be refused.
    async fn refusal(&self, token: &JoinToken) -> JoinRefusal {
        match self.ask(token).await {
            Err(JoinError::Refused(refusal)) => refusal,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{} was admitted", self.name),
        }
    }
}

#[tokio::test]
async fn a_host_with_a_token_becomes_a_member_that_can_admit_others() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    let token = alpha.token().to_text().expect("has a text");
    let token = JoinToken::from_text(&token).expect("readable");
    let admitted = beta.ask(&token).await.expect("admitted");
    assert_eq!(admitted.issuer, host("alpha"));
    assert_eq!(admitted.addresses[&host("beta")], "127.0.0.1:7802");
    assert_eq!(admitted.addresses[&host("alpha")], address(&alpha.net));

    let home = tempfile::tempdir().expect("temporary directory");
    let pki = PkiDir::of(home.path());
    let fits = pki.install_joined(&admitted.authority, &admitted.cert);
    assert!(fits.is_err(), "the key in this directory is another one");
    let key = home.path().join("pki/host.key");
    std::fs::write(&key, beta.key.pem()).expect("written");
    let member = pki.install_joined(&admitted.authority, &admitted.cert);
    let member = member.expect("fits");
    assert_eq!(member.host, "beta");

    let net = start(&member, Line::default(), "127.0.0.1:0");
    introduce(&net, [("alpha", &alpha.net)]);
    let opened = soon(net.open(&host("alpha"), Class::State)).await;
    opened.expect("trusted now");
    let request = HostKey::create().and_then(|key| key.request());
    let admits = member
        .authority
        .issue("gamma", &request.expect("made"), now_s());
    admits.expect("issues");
}

#[tokio::test]
async fn a_token_works_once_but_a_lost_answer_can_be_asked_for_again() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let token = alpha.token();
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    beta.ask(&token).await.expect("admitted");
    beta.ask(&token).await.expect("the same host again");
    let by = "beta".to_owned();
    let gamma = Applicant::new("gamma", "127.0.0.1:7803");
    assert_eq!(gamma.refusal(&token).await, JoinRefusal::UsedToken { by });
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let token = alpha.token();
    *alpha.known.now_s.lock() = token.expires_s + 5;
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    let refusal = beta.refusal(&token).await;
    assert_eq!(refusal, JoinRefusal::ExpiredToken { ago_s: 5 });
}

#[tokio::test]
async fn a_token_with_another_secret_is_refused() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let mut token = alpha.token();
    token.secret[0] ^= 1;
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    let issuer = "alpha".to_owned();
    assert_eq!(
        beta.refusal(&token).await,
        JoinRefusal::WrongToken { issuer }
    );
}

#[tokio::test]
async fn a_token_for_another_cluster_is_refused_before_anything_is_sent() {
    let office = Office::new("one");
    let foreign = Alpha::new(&Office::new("two"));
    let alpha = Alpha::new(&office);
    let mut token = foreign.token();
    token.addresses = vec![address(&alpha.net)];
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    let refused = beta.ask(&token).await;
    let is_foreign = matches!(refused, Err(JoinError::ForeignCluster { .. }));
    assert!(is_foreign, "{refused:?}");
    assert_eq!(
        foreign
            .home
            .path()
            .join("pki/tokens")
            .read_dir()
            .expect("there")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_cluster_that_shares_the_authority_but_not_the_id_is_foreign() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let mut token = alpha.token();
    token.cluster = "other_1.000000000".parse().expect("valid");
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    assert!(beta.ask(&token).await.is_err());
}

#[tokio::test]
async fn a_taken_name_or_address_is_refused() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let gamma = (host("gamma"), "127.0.0.9".to_owned());
    alpha.known.addresses.lock().extend([gamma]);
    let token = alpha.token();
    let thief = Applicant::new("gamma", "127.0.0.1:7802");
    let taken = JoinRefusal::NameTaken {
        host: "gamma".to_owned(),
        address: "127.0.0.9".to_owned(),
    };
    assert_eq!(thief.refusal(&token).await, taken);
    let also_issuer = Applicant::new("alpha", "127.0.0.1:7802");
    let refusal = also_issuer.refusal(&token).await;
    assert!(matches!(refusal, JoinRefusal::NameTaken { .. }));
    let taken = JoinRefusal::AddressTaken {
        address: "127.0.0.9".to_owned(),
        by: "gamma".to_owned(),
    };
    let beta = Applicant::new("beta", "127.0.0.9:7777");
    assert_eq!(beta.refusal(&token).await, taken);
    // None of this has used the token.
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    beta.ask(&token).await.expect("admitted");
}

#[tokio::test]
async fn a_clock_far_off_is_refused_with_both_clocks_named() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let token = alpha.token();
    *alpha.known.now_s.lock() = now_s();
    let mut beta = Applicant::new("beta", "127.0.0.1:7802");
    beta.clock_off_s = 30 * 365 * 86_400;
    let refusal = beta.refusal(&token).await;
    let JoinRefusal::ClockFarOff {
        there_s, here_s, ..
    } = refusal
    else {
        panic!("{refusal}");
    };
    assert!(there_s - here_s > 3600);
    let sentence = refusal.to_string();
    assert_eq!(sentence.matches(" UTC").count(), 2, "{sentence}");
    assert!(sentence.contains("beta") && sentence.contains("alpha"));
}

#[tokio::test]
async fn names_and_addresses_that_are_none_are_refused() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let token = alpha.token();
    for (name, address) in [
        ("be.ta", "127.0.0.1"),
        ("beta-", "::1"),
        ("beta", "nowhere"),
    ] {
        let refusal = Applicant::new(name, address).refusal(&token).await;
        let is_bad = matches!(refusal, JoinRefusal::BadRequest { .. });
        assert!(is_bad, "{name} {address}: {refusal}");
    }
}

#[tokio::test]
async fn who_cannot_be_made_known_is_not_admitted_and_may_ask_again() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let token = alpha.token();
    let unlucky = Applicant::new("unlucky", "127.0.0.1:7802");
    let refusal = unlucky.refusal(&token).await;
    assert!(refusal.to_string().contains("the disk is full"));
    let refusal = unlucky.refusal(&token).await;
    assert!(matches!(refusal, JoinRefusal::NotNow { .. }), "{refusal}");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_in_bounded_time() {
    let office = Office::new("one");
    let alpha = Alpha::new(&office);
    let mut token = alpha.token();
    token.addresses = vec!["127.0.0.1:9".to_owned()];
    let beta = Applicant::new("beta", "127.0.0.1:7802");
    let lost = beta.ask(&token).await;
    assert!(
        matches!(lost, Err(JoinError::Unreachable { .. })),
        "{lost:?}"
    );
}
