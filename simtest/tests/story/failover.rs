//! The primary is gone for good, as it seems: another host is forced to be primary. When the old one
//! comes back, the split brain is shown, nothing resolves it but a command, and `invalidate` does.

use simtest::host::Crash;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn forced_failover_then_split_brain_then_invalidate() {
    for seed in 60..63 {
        story(seed, async |w| {
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
            w.cut("alpha", "beta");
            w.cut("alpha", "gamma");
            w.run_for(seconds(20)).await;
            w.crash("alpha", Crash::Power);
            w.run_for(minutes(2)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            w.must("beta", "marsadm resume-fetch data").await;
            assert!(
                w.run_until(minutes(3), |w| w.shows("beta", "data")).await,
                "{}",
                w.explain("data")
            );
            w.run_for(seconds(30)).await;
            w.net.heal();
            w.start("alpha").await.expect("starts again");
            w.run_for(minutes(2)).await;
            assert!(
                !w.shows("alpha", "data"),
                "alpha shows a device without having been told to"
            );
            w.up_to_date("gamma", "data", minutes(2))
                .await
                .expect("gamma follows beta");
            assert_ne!(w.view("alpha", "diskstate", "data").await, "UpToDate");
            w.must("alpha", "marsadm invalidate data").await;
            w.up_to_date("alpha", "data", minutes(5))
                .await
                .expect("healed");
            app.rest();
            w.run_for(seconds(30)).await;
            w.must_be_equal("data", &["beta", "alpha", "gamma"]).await;
        });
    }
}

#[test]
fn a_primary_that_is_replaced_by_force_while_it_rests_follows_by_itself() {
    for seed in 70..73 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(20)).await;
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            w.up_to_date("beta", "data", minutes(2))
                .await
                .expect("everything is there");
            w.run_for(seconds(5)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            assert!(
                w.run_until(minutes(1), |w| w.shows("beta", "data")).await,
                "{}",
                w.explain("data")
            );
            app.work();
            w.run_for(seconds(20)).await;
            for name in ["alpha", "beta"] {
                assert_eq!(w.view(name, "is-split-brain", "data").await, "0", "{name}");
            }
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}

#[test]
fn a_primary_that_was_stopped_in_order_follows_whoever_was_forced_meanwhile() {
    for seed in 73..75 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(20)).await;
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            w.up_to_date("beta", "data", minutes(2))
                .await
                .expect("everything is there");
            w.run_for(seconds(5)).await;
            w.cut("alpha", "beta");
            // Until then what was on its way still arrives.
            w.run_for(minutes(1)).await;
            w.stop("alpha").await;
            w.net.heal();
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            app.work();
            w.run_for(seconds(20)).await;
            w.start("alpha").await.expect("starts again");
            w.run_for(seconds(20)).await;
            assert_eq!(w.view("alpha", "is-split-brain", "data").await, "0");
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}

#[test]
fn who_is_forced_in_a_split_brain_stays_primary_although_fetching_is_resumed_at_once() {
    for seed in 76..79 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.cut("alpha", "beta");
            w.run_for(minutes(1)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            w.must("beta", "marsadm resume-fetch data").await;
            w.run_for(minutes(1)).await;
            w.net.heal();
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            w.run_for(minutes(1)).await;
            assert!(!w.shows("alpha", "data"), "beta is designated");
            // Operators change their minds: alpha has what is to survive.
            w.must("alpha", "marsadm pause-fetch data").await;
            w.must("alpha", "marsadm primary data --force").await;
            w.must("alpha", "marsadm resume-fetch data").await;
            assert!(
                w.run_until(minutes(1), |w| w.shows("alpha", "data")).await,
                "{}",
                w.explain("data")
            );
            app.work();
            w.run_for(seconds(20)).await;
            w.must("beta", "marsadm invalidate data").await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

/// Seed 4549 of the random worlds.
#[test]
fn a_designation_that_waits_is_not_force_because_fetching_is_switched_off_later() {
    for seed in 80..82 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.cut("alpha", "beta");
            w.run_for(minutes(2)).await;
            w.must("beta", "mars tree set resource-data/primary beta")
                .await;
            w.run_for(minutes(1)).await;
            assert!(!w.shows("beta", "data"), "alpha writes");
            w.must("beta", "marsadm down data").await;
            w.must("beta", "marsadm attach data").await;
            w.run_for(minutes(2)).await;
            assert!(
                !w.shows("beta", "data"),
                "alpha writes, and nobody forced beta"
            );
            // Now somebody does.
            w.must("beta", "marsadm up data").await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            assert!(
                w.run_until(minutes(1), |w| w.shows("beta", "data")).await,
                "{}",
                w.explain("data")
            );
            app.rest();
            w.net.heal();
            w.run_for(minutes(1)).await;
        });
    }
}
