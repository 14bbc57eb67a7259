//! A secondary goes down without warning, again and again, during sync and replay.

use std::time::Duration;

use simtest::host::Crash;
use simtest::promises::images;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

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

/// Whatever of the records under way has reached the disk when the power goes: the keys call it clean only where it is one
/// state of the device (invariants 16 and 33).
#[test]
fn a_disk_that_is_called_clean_when_the_power_goes_is_one_state_of_the_device() {
    for seed in 34..37 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            app.hurry();
            let mut compared = 0;
            for round in 0..15 {
                let pause = Duration::from_millis(w.chance.between(200, 3_000));
                w.run_for(pause).await;
                if round % 5 == 4 {
                    // Now it may be called clean.
                    app.rest();
                    w.run_for(seconds(40)).await;
                    app.work();
                }
                w.crash("beta", Crash::Power);
                match images::after_end(w, "beta", "data", DEVICE_BYTES) {
                    Ok(clean) => compared += u32::from(clean),
                    Err(why) => w.break_promise(why),
                }
                w.must_be_sound();
                w.start("beta").await.expect("starts again");
            }
            assert!(compared > 0, "never called clean");
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
