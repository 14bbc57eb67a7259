//! The key of the designation is set by hand while the host that it names is not there and behind: when it comes back, it
//! brings everything that was written meanwhile before it begins to write (invariants 29 to 31).

use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn who_is_designated_while_it_is_away_first_brings_the_logs_it_has_missed() {
    for seed in 2730..2733 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(5)).await;
            w.cut("alpha", "beta");
            w.run_for(seconds(30)).await;
            for _ in 0..2 {
                w.must("alpha", "marsadm log-rotate data").await;
                w.run_for(seconds(10)).await;
            }
            app.rest();
            assert!(w.run_until(minutes(1), |_| app.is_closed()).await);
            let set = "mars tree set resource-data/primary beta";
            w.must("alpha", set).await;
            w.run_for(seconds(30)).await;
            w.net.heal();
            assert!(
                w.run_until(minutes(3), |w| w.shows("beta", "data")).await,
                "{}",
                w.explain("data")
            );
            let split = w.view("beta", "is-split-brain", "data").await;
            assert_eq!(split, "0", "{}", w.explain("data"));
            app.work();
            assert!(w.run_until(minutes(1), |_| !app.is_closed()).await);
            assert_eq!(app.counts().unflushed_lost, 0, "all was answered");
            w.run_for(seconds(10)).await;
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}
