//! Authority, host certificates and the key directory, as create-cluster and join-cluster use them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use certs::authority::{Authority, DAY_S, HOST_VALID_S, request_key};
use certs::host_cert::{host_of, validity};
use certs::{ClusterId, HostKey, PkiDir, PkiError, Renewal, Validity, renewal};

const NOW_S: u64 = 1_800_000_000;

fn cluster() -> ClusterId {
    ClusterId::of("alpha", NOW_S, 5).expect("valid")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o7777
}

#[test]
fn the_host_name_comes_back_out_of_a_certificate() {
    let authority = Authority::create(cluster(), NOW_S).expect("made");
    for host in ["alpha", "Big_Host", "_x", "7", &"h".repeat(63)] {
        let request = HostKey::create()
            .and_then(|key| key.request())
            .expect("made");
        let cert = authority.issue(host, &request, NOW_S).expect("issued");
        assert_eq!(host_of(&cert, authority.cluster()).expect("ours"), host);
        let held = validity(&cert).expect("readable");
        assert_eq!(held.until_s, NOW_S + HOST_VALID_S);
        assert_eq!(held.from_s, NOW_S - DAY_S);
    }
}

#[test]
fn names_that_tls_does_not_know_are_refused_when_the_certificate_is_made() {
    let authority = Authority::create(cluster(), NOW_S).expect("made");
    let request = HostKey::create()
        .and_then(|key| key.request())
        .expect("made");
    for host in ["", "-a", "a-", "a.b", "a b", "ä", &"h".repeat(64)] {
        let refused = authority.issue(host, &request, NOW_S);
        assert!(matches!(refused, Err(PkiError::HostName { .. })), "{host}");
    }
}

#[test]
fn a_certificate_of_another_cluster_has_no_host_name_here() {
    let foreign = ClusterId::of("alpha", NOW_S, 6).expect("valid");
    let authority = Authority::create(foreign, NOW_S).expect("made");
    let request = HostKey::create()
        .and_then(|key| key.request())
        .expect("made");
    let cert = authority.issue("beta", &request, NOW_S).expect("issued");
    let refused = host_of(&cert, &cluster());
    assert!(
        matches!(refused, Err(PkiError::NotOurs { .. })),
        "{refused:?}"
    );
    assert!(host_of(authority.cert(), authority.cluster()).is_err());
    assert!(host_of(&b"nonsense".to_vec().into(), &cluster()).is_err());
}

#[test]
fn a_request_that_was_changed_on_the_way_is_refused() {
    let authority = Authority::create(cluster(), NOW_S).expect("made");
    let request = HostKey::create()
        .and_then(|key| key.request())
        .expect("made");
    for at in (0..request.len()).step_by(7) {
        let mut changed = request.to_vec();
        changed[at] ^= 1;
        let cert = authority.issue("beta", &changed.clone().into(), NOW_S);
        assert!(cert.is_err(), "byte {at}");
        assert!(request_key(&changed.into()).is_err(), "byte {at}");
    }
}

#[test]
fn keys_are_private_and_everything_is_read_back() {
    let home = tempfile::tempdir().expect("temporary directory");
    let pki = PkiDir::of(home.path());
    assert_eq!(pki.cluster().expect("readable"), None);
    let made = pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
    let read = pki.load().expect("readable");
    assert_eq!(read.host, "alpha");
    assert_eq!(read.cert, made.cert);
    assert_eq!(read.key.hash(), made.key.hash());
    assert_eq!(pki.cluster().expect("readable"), Some(cluster()));
    let dir = home.path().join("pki");
    assert_eq!(mode(&dir), 0o700);
    for file in ["host.key", "ca.key"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let home = tempfile::tempdir().expect("temporary directory");
    let pki = PkiDir::of(home.path());
    pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
    for file in ["host.key", "ca.key"] {
        let path = home.path().join("pki").join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let refused = pki.load().expect_err("open key");
        assert!(matches!(refused, PkiError::Open { .. }), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    }
    pki.load().expect("closed again");
}

#[test]
fn a_host_is_in_one_cluster_only() {
    let home = tempfile::tempdir().expect("temporary directory");
    let pki = PkiDir::of(home.path());
    pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
    let refused = pki.create_cluster("alpha", cluster(), NOW_S);
    assert!(matches!(refused, Err(PkiError::Taken { .. })));
}

#[test]
fn a_file_that_is_missing_or_damaged_is_named() {
    for file in ["ca.key", "ca.crt", "host.crt", "cluster"] {
        let home = tempfile::tempdir().expect("temporary directory");
        let pki = PkiDir::of(home.path());
        pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
        let path = home.path().join("pki").join(file);
        fs::write(&path, "nonsense!").expect("written");
        let refused = pki.load().expect_err("damaged").to_string();
        let names_a_file = refused.contains(file) || refused.contains("ca.key");
        assert!(names_a_file, "{file}: {refused}");
        fs::remove_file(&path).expect("removed");
        assert!(pki.load().is_err(), "{file}");
    }
}

#[test]
fn a_stop_between_the_files_leaves_a_host_that_can_start_over() {
    let home = tempfile::tempdir().expect("temporary directory");
    let pki = PkiDir::of(home.path());
    let first = pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
    fs::remove_file(home.path().join("pki/host.crt")).expect("removed");
    assert_eq!(pki.cluster().expect("readable"), None);
    let again = pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
    assert_eq!(again.key.hash(), first.key.hash());
}

#[test]
fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
    let held = Validity {
        from_s: 1000,
        until_s: 4000,
    };
    assert_eq!(renewal(held, 2999), Renewal::NotBefore(3000));
    assert_eq!(renewal(held, 3000), Renewal::Due);
    assert_eq!(renewal(held, 4000), Renewal::Due);
    assert_eq!(renewal(held, 4001), Renewal::Expired);
}

#[test]
fn renewal_keeps_the_key_and_exchanges_the_certificate_in_use() {
    let home = tempfile::tempdir().expect("temporary directory");
    let pki = PkiDir::of(home.path());
    let member = pki.create_cluster("alpha", cluster(), NOW_S).expect("made");
    let identity = member.identity().expect("usable");
    let early = pki.renew_if_due(&identity, NOW_S + DAY_S).expect("decided");
    assert!(matches!(early, Renewal::NotBefore(_)));
    assert_eq!(identity.cert(), Some(member.cert.clone()));

    let later_s = NOW_S + 70 * DAY_S;
    let due = pki.renew_if_due(&identity, later_s).expect("decided");
    assert_eq!(due, Renewal::Due);
    let renewed = pki.load().expect("readable");
    assert_eq!(renewed.key.hash(), member.key.hash());
    assert_ne!(renewed.cert, member.cert);
    assert_eq!(identity.cert(), Some(renewed.cert.clone()));
    let held = validity(&renewed.cert).expect("readable");
    assert_eq!(held.until_s, later_s + HOST_VALID_S);
}
