//! Clocks that are wrong: in the year 3000, and back again (invariant 46; lessons E10).

use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

/// From 2023 to the year 3000.
const CENTURIES_NS: i64 = 977 * 365 * 86_400 / 4 * 1_000_000_000;

#[test]
fn a_clock_far_in_the_future_blocks_nobody_once_it_is_right_again() {
    story(1400, async |w| {
        let app = pair(w, DEVICE_BYTES).await;
        w.host("beta").clock.set_skew_ns(CENTURIES_NS);
        w.run_for(seconds(30)).await;
        w.host("beta").clock.set_skew_ns(0);
        w.run_for(minutes(1)).await;
        w.hand_over("data", "beta").await;
        assert!(
            w.run_until(minutes(3), |w| w.shows("beta", "data")).await,
            "{}",
            w.explain("data")
        );
        w.run_for(seconds(10)).await;
        w.hand_over("data", "alpha").await;
        assert!(
            w.run_until(minutes(3), |w| w.shows("alpha", "data")).await,
            "{}",
            w.explain("data")
        );
        assert!(app.counts().changes > 0);
        w.must_be_equal("data", &["alpha", "beta"]).await;
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
