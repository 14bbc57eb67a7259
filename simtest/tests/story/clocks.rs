//! Clocks that are wrong: centuries ahead, and back again (invariant 46; lessons E10).

use simtest::world::DEVICE_BYTES;

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
