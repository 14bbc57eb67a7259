//! Clocks that are wrong: centuries ahead, and back again (invariant 46; lessons E10).

use node::ports::Keys;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

/// From 2023 to the year 2300; a stamp has room until 2554.
const CENTURIES_NS: i64 = 277 * 365 * 86_400 * 1_000_000_000;

#[test]
fn a_clock_far_in_the_future_blocks_nobody_else() {
    story(1400, async |w| {
        w.cluster(&["alpha", "beta", "gamma"])
            .await
            .expect("cluster");
        w.resource("data", DEVICE_BYTES, &["alpha", "beta", "gamma"])
            .await;
        let app = w.app("data", DEVICE_BYTES);
        app.work();
        w.up_to_date("gamma", "data", minutes(5))
            .await
            .expect("up to date");
        w.host("beta").clock.set_skew_ns(CENTURIES_NS);
        w.run_for(seconds(30)).await;
        let before = app.counts().changes;
        w.run_for(seconds(20)).await;
        assert!(
            app.counts().changes > before,
            "the application does not notice"
        );
        w.up_to_date("gamma", "data", minutes(2))
            .await
            .expect("up to date");
        w.must_be_equal("data", &["alpha", "gamma"]).await;
    });
}

#[test]
fn a_clock_that_jumps_back_costs_nothing() {
    story(1410, async |w| {
        pair(w, DEVICE_BYTES).await;
        for minutes_back in [30, 1, 50] {
            w.host("alpha")
                .clock
                .set_skew_ns(-minutes_back * 60_000_000_000);
            w.run_for(seconds(20)).await;
        }
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}

#[test]
fn a_host_whose_clock_was_centuries_ahead_is_told_to_forget_that() {
    story(1420, async |w| {
        w.cluster(&["alpha", "beta", "gamma"])
            .await
            .expect("cluster");
        w.resource("data", DEVICE_BYTES, &["alpha", "beta", "gamma"])
            .await;
        let app = w.app("data", DEVICE_BYTES);
        app.work();
        w.up_to_date("beta", "data", minutes(5))
            .await
            .expect("up to date");
        w.host("beta").clock.set_skew_ns(CENTURIES_NS);
        w.run_for(seconds(30)).await;
        // Typed at beta, it is held back by the others; what they are told later is what counts.
        w.type_at("beta", "marsadm pause-sync data --timeout=1")
            .await;
        w.type_at("beta", "marsadm set-emergency-limit data 7 --timeout=1")
            .await;
        w.run_for(seconds(10)).await;
        write_note(w, "alpha").await;
        w.stop("beta").await;
        w.host("beta").clock.set_skew_ns(0);
        w.start("beta").await.expect("starts again");
        w.run_for(seconds(60)).await;
        assert!(
            !hears_beta(w).await,
            "without being told to, beta is not heard"
        );
        w.stop("beta").await;
        w.forget_future("beta", true);
        w.start("beta").await.expect("starts again");
        w.run_for(seconds(60)).await;
        assert!(hears_beta(w).await, "the others hear beta again");
        for name in ["alpha", "beta", "gamma"] {
            let tree = w.host(name).node().map(|node| node.keys().read());
            let note = tree.and_then(|tree| Some(tree.text("userspace/note")?.to_owned()));
            assert_eq!(note.as_deref(), Some("of alpha"), "{name}");
        }
        w.hand_over("data", "beta").await;
        w.run_for(seconds(20)).await;
        w.must_be_equal("data", &["beta", "alpha", "gamma"]).await;
    });
}

/// What was stamped before the leap was overwritten behind it, so that nothing in the tree showed how far the stamps had
/// come: two values of one stamp. It takes a partition at the right moment, so the world that found it is told again.
#[test]
fn no_stamp_is_used_a_second_time_after_a_future_was_forgotten() {
    let outcome = simtest::random::run(724, false);
    assert!(outcome.broken.is_empty(), "{}", outcome.broken.join("\n"));
}

/// Does alpha hear new signs of life of beta?
async fn hears_beta(w: &World) -> bool {
    let beat = |w: &World| {
        let tree = w.host("alpha").node().map(|node| node.keys().read());
        tree.and_then(|tree| Some(tree.text("actual-beta/time")?.to_owned()))
    };
    let before = beat(w);
    w.run_for(seconds(20)).await;
    beat(w) != before
}

/// Operators may keep notes in the tree.
async fn write_note(w: &World, name: &str) {
    let node = w.host(name).node().expect("it runs");
    let path = tree::Path::new("userspace/note").expect("a path");
    let stored = node
        .keys()
        .commit(vec![(path, Some(format!("of {name}")))])
        .await;
    stored.expect("stored");
}
