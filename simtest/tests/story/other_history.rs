//! After a forced failover there are two histories. Whatever becomes of the designation later, a replica of one of them takes
//! nothing from the other, and repeats nothing of what others have left behind them (invariants 16 and 24; lesson L-D6).

use simtest::promises::progress;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

async fn force(w: &World, name: &str) {
    w.must(name, "marsadm pause-fetch data").await;
    w.must(name, "marsadm primary data --force").await;
    w.must(name, "marsadm resume-fetch data").await;
}

#[test]
fn who_has_parted_from_the_primary_long_ago_says_so_and_takes_over_only_by_force() {
    for seed in 2715..2717 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.cut("alpha", "beta");
            w.run_for(seconds(20)).await;
            force(w, "beta").await;
            for _ in 0..2 {
                w.must("alpha", "marsadm log-rotate data").await;
                w.run_for(seconds(10)).await;
            }
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            w.net.heal();
            w.run_for(minutes(1)).await;
            let why = progress::reason(w, "alpha", "data");
            assert!(why.contains("split brain"), "{why}");
            // The key alone chooses no side.
            w.must("alpha", "mars tree set resource-data/primary alpha")
                .await;
            let shown = w.run_until(minutes(1), |w| w.shows("alpha", "data"));
            assert!(!shown.await, "{}", w.explain("data"));
            force(w, "alpha").await;
            assert!(
                w.run_until(minutes(1), |w| w.shows("alpha", "data")).await,
                "{}",
                w.explain("data")
            );
            w.must("beta", "marsadm invalidate data").await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
