//! A secondary goes down without warning, again and again, during sync and replay.

use simtest::host::Crash;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, seconds, story};

#[test]
fn a_secondary_that_crashes_again_and_again_ends_equal() {
    for (seed, how) in [(30, Crash::Power), (31, Crash::Process), (32, Crash::Power)] {
        story(seed, async |w| {
            w.cluster(&["alpha", "beta"]).await.expect("cluster");
            w.resource("data", DEVICE_BYTES, &["alpha"]).await;
            let app = w.app("data", DEVICE_BYTES);
            app.work();
            w.run_for(seconds(5)).await;
            w.resource_join("data", DEVICE_BYTES, "beta").await;
            for _ in 0..8 {
                let pause = std::time::Duration::from_millis(w.chance.between(10, 8_000));
                w.run_for(pause).await;
                w.crash("beta", how);
                w.run_for(pause).await;
                w.start("beta").await.expect("starts again");
            }
            app.rest();
            w.up_to_date("beta", "data", minutes(5))
                .await
                .expect("up to date");
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
