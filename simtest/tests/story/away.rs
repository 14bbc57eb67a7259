//! A secondary is away for long while logs are rotated, then comes back (lessons C-T2, C-T9, E11, E13).

use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn a_secondary_that_was_away_for_long_finds_all_the_logs_it_needs() {
    story(1600, async |w| {
        w.configure(|config| {
            config.rotate_bytes = 32 << 10;
            config.keep_logs = seconds(5);
        });
        pair(w, DEVICE_BYTES).await;
        w.run_for(seconds(10)).await;
        w.stop("beta").await;
        w.run_for(minutes(4)).await;
        w.start("beta").await.expect("starts again");
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}

#[test]
fn a_secondary_that_does_not_reach_the_primary_gets_the_logs_from_another_one() {
    story(1610, async |w| {
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
        w.up_to_date("gamma", "data", minutes(5))
            .await
            .expect("up to date");
        w.cut("alpha", "gamma");
        w.run_for(minutes(1)).await;
        app.rest();
        w.run_for(minutes(1)).await;
        assert_eq!(
            w.host("gamma").disk("data"),
            w.host("beta").disk("data"),
            "{}",
            w.explain("data")
        );
        w.net.heal();
        w.must_be_equal("data", &["alpha", "beta", "gamma"]).await;
    });
}

#[test]
fn hosts_whose_names_begin_alike_are_not_mixed_up() {
    story(1620, async |w| {
        w.cluster(&["icpu-bs6", "icpu-bs60"])
            .await
            .expect("cluster");
        w.resource("data", DEVICE_BYTES, &["icpu-bs6", "icpu-bs60"])
            .await;
        w.app("data", DEVICE_BYTES).work();
        w.up_to_date("icpu-bs60", "data", minutes(5))
            .await
            .expect("up to date");
        w.hand_over("data", "icpu-bs60").await;
        assert!(
            w.run_until(minutes(3), |w| w.shows("icpu-bs60", "data"))
                .await,
            "{}",
            w.explain("data")
        );
        w.run_for(seconds(10)).await;
        w.must_be_equal("data", &["icpu-bs60", "icpu-bs6"]).await;
    });
}

#[test]
fn a_log_nobody_wrote_to_does_not_part_the_primary_from_a_secondary_that_was_away() {
    story(1630, async |w| {
        let app = pair(w, DEVICE_BYTES).await;
        w.run_for(seconds(10)).await;
        w.stop("beta").await;
        w.run_for(seconds(10)).await;
        app.rest();
        assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
        // Each start of the primary begins a log; nobody writes to the first of them.
        for _ in 0..3 {
            w.stop("alpha").await;
            w.start("alpha").await.expect("starts again");
            assert!(
                w.run_until(minutes(1), |w| w.shows("alpha", "data")).await,
                "{}",
                w.explain("data")
            );
        }
        app.work();
        w.run_for(seconds(20)).await;
        w.start("beta").await.expect("starts again");
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
