//! Join tokens: text form, and what their issuer admits.

use certs::authority::Authority;
use certs::token::{TokenId, prove};
use certs::token_store::{Claim, NAME_KEPT_S, REMEMBERED_S, TokenOrder};
use certs::{CaPin, ClusterId, JoinToken, PkiDir, PkiError, TokenRefusal, TokenStore};
use proptest::prelude::*;

const NOW_S: u64 = 1_800_000_000;
const EXPORTER: [u8; 32] = [7; 32];

fn order(uses: u32) -> TokenOrder {
    let cluster = ClusterId::of("alpha", NOW_S, 5).expect("valid");
    let authority = Authority::create(cluster.clone(), NOW_S).expect("made");
    TokenOrder {
        cluster,
        pin: authority.pin().expect("readable"),
        issuer: "alpha".to_owned(),
        addresses: vec!["127.0.0.1:7801".to_owned()],
        ttl_s: 3600,
        uses,
    }
}

fn store(home: &tempfile::TempDir) -> TokenStore {
    PkiDir::of(home.path()).tokens()
}

/// Redeems `token` as `host` with the key `key`, and says how it went.
fn check_redeem(
    store: &TokenStore,
    token: &JoinToken,
    host: &str,
    key: u8,
    now_s: u64,
) -> Result<(), TokenRefusal> {
    let request = [key; 10];
    let claim = Claim {
        id: token.id,
        proof: &prove(&token.secret, &EXPORTER, &request),
        exporter: &EXPORTER,
        request: &request,
        host,
        key: CaPin([key; 32]),
    };
    let foretold = store.check(&claim, now_s).expect("readable");
    let happened = store.redeem(&claim, now_s).expect("readable");
    assert_eq!(foretold, happened);
    happened
}

#[test]
fn a_token_admits_one_host_and_survives_a_restart() {
    let home = tempfile::tempdir().expect("temporary directory");
    let token = store(&home).issue(order(1), NOW_S).expect("issued");
    assert_eq!(
        check_redeem(&store(&home), &token, "beta", 1, NOW_S),
        Ok(())
    );
    let by = "beta".to_owned();
    let used = Err(TokenRefusal::Used { by });
    assert_eq!(check_redeem(&store(&home), &token, "gamma", 2, NOW_S), used);
    assert_eq!(check_redeem(&store(&home), &token, "beta", 2, NOW_S), used);
}

#[test]
fn a_host_whose_answer_got_lost_may_ask_again() {
    let home = tempfile::tempdir().expect("temporary directory");
    let store = store(&home);
    let token = store.issue(order(1), NOW_S).expect("issued");
    assert_eq!(check_redeem(&store, &token, "beta", 1, NOW_S), Ok(()));
    assert_eq!(check_redeem(&store, &token, "beta", 1, NOW_S + 60), Ok(()));
    assert!(store.has_joined("beta", CaPin([1; 32])).expect("readable"));
    assert!(!store.has_joined("beta", CaPin([2; 32])).expect("readable"));
}

#[test]
fn a_token_for_three_admits_three() {
    let home = tempfile::tempdir().expect("temporary directory");
    let store = store(&home);
    let token = store.issue(order(3), NOW_S).expect("issued");
    for (key, host) in (1..).zip(["b", "c", "d"]) {
        assert_eq!(check_redeem(&store, &token, host, key, NOW_S), Ok(()));
    }
    let by = "b, c, d".to_owned();
    let used = Err(TokenRefusal::Used { by });
    assert_eq!(check_redeem(&store, &token, "e", 9, NOW_S), used);
}

#[test]
fn an_expired_token_is_refused_and_says_so_for_a_while() {
    let home = tempfile::tempdir().expect("temporary directory");
    let store = store(&home);
    let token = store.issue(order(1), NOW_S).expect("issued");
    assert_eq!(
        check_redeem(&store, &token, "beta", 1, NOW_S + 3600),
        Ok(())
    );
    let expired = Err(TokenRefusal::Expired { ago_s: 1 });
    assert_eq!(
        check_redeem(&store, &token, "gamma", 2, NOW_S + 3601),
        expired
    );
    let much_later_s = NOW_S + 3601 + REMEMBERED_S;
    store.issue(order(1), much_later_s).expect("issued");
    let forgotten = check_redeem(&store, &token, "gamma", 2, much_later_s);
    assert_eq!(forgotten, Err(TokenRefusal::Wrong));
}

#[test]
fn a_wrong_secret_or_an_unknown_token_is_refused_whatever_else_is_true() {
    let home = tempfile::tempdir().expect("temporary directory");
    let store = store(&home);
    let token = store.issue(order(1), NOW_S).expect("issued");
    let mut guessed = token.clone();
    guessed.secret[15] ^= 1;
    let wrong = Err(TokenRefusal::Wrong);
    assert_eq!(check_redeem(&store, &guessed, "beta", 1, NOW_S), wrong);
    assert_eq!(
        check_redeem(&store, &guessed, "beta", 1, NOW_S + 9999),
        wrong
    );
    let mut unknown = token.clone();
    unknown.id = TokenId([0; 8]);
    assert_eq!(check_redeem(&store, &unknown, "beta", 1, NOW_S), wrong);
    assert_eq!(check_redeem(&store, &token, "beta", 1, NOW_S), Ok(()));
}

#[test]
fn a_proof_is_worth_nothing_on_another_connection_or_for_another_request() {
    let secret = [1; 16];
    let proof = prove(&secret, &EXPORTER, b"request");
    assert!(certs::token::is_proven(
        &secret, &EXPORTER, b"request", &proof
    ));
    assert!(!certs::token::is_proven(
        &secret, &[8; 32], b"request", &proof
    ));
    assert!(!certs::token::is_proven(
        &secret, &EXPORTER, b"another", &proof
    ));
}

#[test]
fn a_name_just_given_is_not_given_to_another_machine() {
    let home = tempfile::tempdir().expect("temporary directory");
    let store = store(&home);
    let first = store.issue(order(1), NOW_S).expect("issued");
    let second = store.issue(order(1), NOW_S).expect("issued");
    assert_eq!(check_redeem(&store, &first, "beta", 1, NOW_S), Ok(()));
    let host = "beta".to_owned();
    assert_eq!(
        check_redeem(&store, &second, "beta", 2, NOW_S),
        Err(TokenRefusal::NameGiven { host })
    );
    let later_s = NOW_S + NAME_KEPT_S;
    assert_eq!(check_redeem(&store, &second, "beta", 2, later_s), Ok(()));
}

#[test]
fn a_token_survives_its_text_and_shows_no_secret_when_printed_for_debugging() {
    let home = tempfile::tempdir().expect("temporary directory");
    let token = store(&home).issue(order(1), NOW_S).expect("issued");
    let text = token.to_text().expect("has a text");
    assert!(text.len() < 300, "{} characters", text.len());
    let padded = format!("  {text}\n");
    assert_eq!(JoinToken::from_text(&padded).expect("readable"), token);
    assert_eq!(
        format!("{token:?}"),
        format!("JoinToken {} of alpha", token.id)
    );
}

proptest! {
    #[test]
    fn a_token_with_any_character_changed_or_missing_is_no_token(at in 0usize..190, other: char) {
        let home = tempfile::tempdir().expect("temporary directory");
        let token = store(&home).issue(order(1), NOW_S).expect("issued");
        let text = token.to_text().expect("has a text");
        let mut changed: Vec<char> = text.chars().collect();
        let is_same = changed[at] == other;
        changed[at] = other;
        let changed: String = changed.into_iter().collect();
        let read = JoinToken::from_text(&changed);
        prop_assert!(is_same || matches!(read, Err(PkiError::Token(_))));
        prop_assert!(JoinToken::from_text(&text[..at]).is_err());
    }

    #[test]
    fn arbitrary_text_is_no_token_and_no_panic(text in ".*") {
        prop_assert!(JoinToken::from_text(&text).is_err());
    }
}
