//! A planned takeover waits until everybody who can be asked knows of it: what a host said about its role may be older than
//! what it does (invariants 30 and 31).

use simtest::host::Crash;
use simtest::net::Link;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, seconds, story};
use std::time::Duration;

#[test]
fn who_restarts_before_it_hears_of_a_planned_takeover_does_not_write_beside_the_new_primary() {
    for seed in 2000..2004 {
        story(seed, async |w| {
            w.cluster(&["alpha", "beta"]).await.expect("cluster");
            w.resource("data", DEVICE_BYTES, &["alpha", "beta"]).await;
            w.app("data", DEVICE_BYTES).work();
            w.up_to_date("beta", "data", minutes(5))
                .await
                .expect("up to date");
            w.run_for(seconds(10)).await;
            // What beta says arrives after the time alpha waits for it when it starts.
            let slow = Link {
                delay: Duration::from_millis(3_500),
                ..Link::default()
            };
            let (alpha, beta) = (w.host("alpha").name.clone(), w.host("beta").name.clone());
            w.net.set_link(&beta, &alpha, slow);
            w.type_at("beta", "mars tree set resource-data/primary beta")
                .await;
            w.run_for(Duration::from_millis(w.chance.below(1_000)))
                .await;
            w.crash("alpha", Crash::Process);
            w.run_for(Duration::from_millis(w.chance.below(1_000)))
                .await;
            w.start("alpha").await.expect("starts again");
            for _ in 0..600 {
                w.run_for(Duration::from_millis(100)).await;
                let both = w.shows("alpha", "data") && w.shows("beta", "data");
                assert!(!both, "two devices: {}", w.explain("data"));
            }
            w.net.heal();
            assert!(
                w.run_until(minutes(3), |w| w.shows("beta", "data")).await,
                "{}",
                w.explain("data")
            );
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}
