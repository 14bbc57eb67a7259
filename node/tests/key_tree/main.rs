//! Two hosts with real key services and real gossip over channels in memory: what they know in the end, and after
//! a restart. The clock is the test's, so that a host can be away for a week.

#![expect(clippy::panic, reason = "a wait that does not end ends the test")]

mod kit;

use std::time::Duration;

use kit::{Machine, connect, path, soon};

const KEY: &str = "userspace/key";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

#[tokio::test]
async fn a_change_here_is_seen_there_and_survives_a_restart_of_both() {
    let (alpha, beta) = (Machine::new("alpha").await, Machine::new("beta").await);
    let line = connect(&alpha, &beta);
    alpha.set(KEY, Some("1")).await;
    beta.until(KEY, Some("1")).await;
    beta.set(KEY, Some("2")).await;
    alpha.until(KEY, Some("2")).await;
    drop(line);
    let (alpha, beta) = (alpha.restart().await, beta.restart().await);
    assert_eq!(alpha.text(KEY).as_deref(), Some("2"));
    assert_eq!(beta.text(KEY).as_deref(), Some("2"));
}

#[tokio::test]
async fn many_keys_at_once_count_as_seen_as_soon_as_the_last_of_them_is_there() {
    let (alpha, beta) = (Machine::new("alpha").await, Machine::new("beta").await);
    let _line = connect(&alpha, &beta);
    alpha.set(KEY, Some("1")).await;
    beta.until(KEY, Some("1")).await;
    for last in ["2", "3", "4"] {
        alpha.set_many(20_000).await;
        alpha.set(KEY, Some(last)).await;
        let issued = alpha.horizon(&alpha);
        beta.until(KEY, Some(last)).await;
        assert!(
            beta.horizon(&alpha) >= issued,
            "what was sent would be sent again after a cut"
        );
    }
    assert_eq!(beta.digest(), alpha.digest());
    alpha.set(KEY, Some("pushed again")).await;
    beta.until(KEY, Some("pushed again")).await;
}

#[tokio::test]
async fn a_host_that_was_away_too_long_gets_a_new_tree_and_brings_no_deleted_key_back() {
    let (alpha, beta) = (Machine::new("alpha").await, Machine::new("beta").await);
    let line = connect(&alpha, &beta);
    alpha.set(KEY, Some("old")).await;
    beta.until(KEY, Some("old")).await;
    drop(line);
    beta.set("userspace/unheard", Some("of")).await;

    alpha.set(KEY, None).await;
    alpha.learn_members(&["alpha", "beta"]);
    alpha.pass(2 * WEEK);
    beta.pass(2 * WEEK);
    alpha.collect(&["alpha", "beta"]).await;
    assert_eq!(alpha.entries_of(KEY), 0, "the deletion is forgotten");
    let alpha = alpha.restart().await;
    alpha.set("userspace/new", Some("1")).await;

    let line = connect(&alpha, &beta);
    soon("a session ends when the tree is replaced", line.ended()).await;
    beta.until("userspace/new", Some("1")).await;
    assert_eq!(beta.text(KEY), None);
    assert_eq!(beta.text("userspace/unheard"), None);
    assert_eq!(beta.digest(), alpha.digest());

    let line = connect(&alpha, &beta);
    beta.set("userspace/after", Some("2")).await;
    alpha.until("userspace/after", Some("2")).await;
    drop(line);
    let beta = beta.restart().await;
    assert_eq!(beta.text(KEY), None);
    assert_eq!(beta.text("userspace/after").as_deref(), Some("2"));
    assert_eq!(alpha.digest(), beta.digest());
}

#[tokio::test]
async fn a_host_that_lost_its_store_gets_its_keys_back_from_a_peer() {
    let (alpha, beta) = (Machine::new("alpha").await, Machine::new("beta").await);
    let line = connect(&alpha, &beta);
    alpha.set("userspace/mine", Some("1")).await;
    beta.until("userspace/mine", Some("1")).await;
    beta.set("userspace/yours", Some("2")).await;
    alpha.until("userspace/yours", Some("2")).await;
    drop(line);

    let alpha = alpha.lose_store().await;
    assert!(alpha.keys.is_incomplete());
    let line = connect(&alpha, &beta);
    alpha.until("userspace/yours", Some("2")).await;
    alpha.until("userspace/mine", Some("1")).await;
    alpha.set("userspace/mine", Some("3")).await;
    beta.until("userspace/mine", Some("3")).await;
    drop(line);
    let alpha = alpha.restart().await;
    assert!(!alpha.keys.is_incomplete());
    assert_eq!(alpha.text("userspace/yours").as_deref(), Some("2"));
    assert_eq!(alpha.digest(), beta.digest());
}

#[tokio::test]
async fn a_key_set_again_while_its_deletion_is_being_forgotten_stays_in_the_store() {
    let alpha = Machine::new("alpha").await;
    alpha.set(KEY, None).await;
    let stale = tree::Path::new(KEY).expect("valid path");
    alpha.set(KEY, Some("again")).await;
    alpha
        .keys
        .forget(vec![stale, path("userspace/never")])
        .expect("it runs");
    alpha.set("userspace/other", Some("x")).await;
    let alpha = alpha.restart().await;
    assert_eq!(alpha.text(KEY).as_deref(), Some("again"));
}
