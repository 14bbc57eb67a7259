//! Who is let in: holders of a certificate of this cluster, under exactly the name in it.

#![expect(clippy::panic, reason = "this is how a test fails")]

mod common;

use certs::HostKey;
use certs::authority::DAY_S;
use certs::pki_dir::Member;
use common::{Office, address, channel, host, introduce, now_s, soon, start};
use transport::line::Line;
use transport::quic::QuicNet;
use transport::{Class, Message, Net, NetError};

/// Opening a channel from `from` to whoever is at `to`, under the name `name`, must fail for lack of trust.
async fn check_not_trusted(from: &QuicNet, to: &QuicNet, name: &str) {
    introduce(from, [(name, to)]);
    let refused = soon(from.open(&host(name), Class::State)).await;
    match refused {
        Err(NetError::NotTrusted { .. } | NetError::Lost { .. }) => {}
        other => panic!("{other:?}"),
    }
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(50), to.accept()).await;
    assert!(nobody.is_err(), "somebody was let in");
}

#[tokio::test]
async fn a_host_of_another_cluster_gets_nothing() {
    let beta = Office::new("one").net("beta");
    let foreigner = Office::new("two").net("alpha");
    check_not_trusted(&foreigner, &beta, "beta").await;
    check_not_trusted(&beta, &foreigner, "alpha").await;
}

#[tokio::test]
async fn a_host_of_a_cluster_with_the_same_id_but_another_authority_gets_nothing() {
    let beta = Office::new("one").net("beta");
    let forger = Office::new("one").net("alpha");
    check_not_trusted(&forger, &beta, "beta").await;
    check_not_trusted(&beta, &forger, "alpha").await;
}

#[tokio::test]
async fn the_name_in_the_certificate_must_be_the_one_we_look_for() {
    let office = Office::new("one");
    let alpha = office.net("alpha");
    let gamma = office.net("gamma");
    check_not_trusted(&alpha, &gamma, "beta").await;
    // DNS names do not know upper case, host names do.
    check_not_trusted(&alpha, &gamma, "Gamma").await;
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let office = Office::new("one");
    let beta = office.net("beta");
    for then_s in [now_s() - 200 * DAY_S, now_s() + 200 * DAY_S] {
        let key = HostKey::create().expect("made");
        let request = key.request().expect("made");
        let authority = office.authority();
        let cert = authority.issue("alpha", &request, then_s).expect("issued");
        let member = Member {
            host: "alpha".to_owned(),
            authority,
            key,
            cert,
        };
        let alpha = start(&member, Line::default(), "127.0.0.1:0");
        check_not_trusted(&alpha, &beta, "beta").await;
        check_not_trusted(&beta, &alpha, "alpha").await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart_and_cuts_nobody_off() {
    let office = Office::new("one");
    let member = office.member("alpha");
    let alpha = start(&member, Line::default(), "127.0.0.1:0");
    let beta = office.net("beta");
    introduce(&alpha, [("beta", beta.as_ref())]);
    let (mut near, mut far) = channel(&alpha, &beta, "beta", Class::State).await;

    let request = member.key.request().expect("made");
    let cert = member.authority.issue("alpha", &request, now_s());
    let cert = cert.expect("issued");
    let identity = alpha.identity();
    let authority = member.authority.cert().clone();
    identity
        .replace(&member.key, cert.clone(), authority)
        .expect("fits");
    assert_eq!(identity.cert(), Some(cert));

    let ping = Message::Ping { nonce: 1 };
    near.send(ping.clone()).await.expect("the old one lives on");
    assert_eq!(soon(far.recv()).await, Ok(ping));
    channel(&alpha, &beta, "beta", Class::Log).await;
}

#[tokio::test]
async fn a_peer_without_an_address_and_a_host_itself_cannot_be_opened() {
    let office = Office::new("one");
    let alpha = office.net("alpha");
    let unknown = soon(alpha.open(&host("beta"), Class::State)).await;
    let peer = host("beta");
    assert!(matches!(unknown, Err(NetError::NoAddress { peer: p }) if p == peer));
    introduce(&alpha, [("alpha", alpha.as_ref())]);
    let own = soon(alpha.open(&host("alpha"), Class::State)).await;
    assert!(matches!(own, Err(NetError::NoAddress { .. })));
    assert!(address(&alpha).starts_with("127."));
}

#[tokio::test]
async fn a_host_that_has_left_is_cut_off_and_let_in_again_when_it_has_come_back() {
    let office = Office::new("one");
    let [alpha, beta] = office.nets(["alpha", "beta"]);
    let (mut near, _far) = channel(&alpha, &beta, "beta", Class::State).await;
    beta.set_refused([host("alpha")].into());
    assert!(soon(near.recv()).await.is_err(), "the connection has gone");
    // Its certificate is as good as before.
    check_not_trusted(&alpha, &beta, "beta").await;
    beta.set_refused(std::collections::BTreeSet::new());
    let mut opened = None;
    for _ in 0..20 {
        opened = soon(alpha.open(&host("beta"), Class::State)).await.ok();
        if opened.is_some() {
            break;
        }
    }
    assert!(opened.is_some(), "it is let in again");
}
