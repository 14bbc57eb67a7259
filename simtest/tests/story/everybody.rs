//! The power goes everywhere at once, as in a data centre.

use simtest::host::Crash;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn after_a_power_cut_of_all_hosts_they_go_on_where_they_were() {
    for seed in 1200..1203 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            for _ in 0..3 {
                w.run_for(seconds(8)).await;
                w.crash("alpha", Crash::Power);
                w.crash("beta", Crash::Power);
                w.start("beta").await.expect("starts again");
                w.run_for(seconds(3)).await;
                w.start("alpha").await.expect("starts again");
                let opened = app.counts().opened;
                assert!(
                    w.run_until(minutes(3), |_| app.counts().opened > opened)
                        .await,
                    "{}",
                    w.explain("data")
                );
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
