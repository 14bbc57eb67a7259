//! The power of a primary goes at one storage call after the other while an application asks for more than one thing at
//! once, flushes and FUA among them. Whatever was called durable is there afterwards (invariants 6 to 8; lessons A, E4).

use simtest::host::Crash;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn a_power_cut_at_any_storage_call_of_a_busy_primary_loses_nothing_that_was_called_durable() {
    for part in 0..6 {
        story(2500 + part, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            app.hurry();
            for round in 0..12 {
                let calls = 6 * round + part;
                w.run_for(seconds(3)).await;
                w.host("alpha").fs.cut_power_after(calls);
                w.run_until(seconds(60), |w| w.host("alpha").fs.is_off())
                    .await;
                w.crash("alpha", Crash::Power);
                let opened = app.counts().opened;
                w.start("alpha").await.expect("starts again");
                assert!(
                    w.run_until(minutes(3), |_| app.counts().opened > opened)
                        .await,
                    "no device after {calls} calls\n{}",
                    w.explain("data")
                );
                w.must_be_sound();
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
