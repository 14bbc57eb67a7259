//! The power of a primary goes in the very moment in which an application hears that something is durable, while others still
//! wait for theirs. Whatever was answered is there afterwards, and nothing else was promised (invariants 6 to 9).

use std::time::Duration;

use simtest::exec::Medium;
use simtest::host::Crash;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn what_was_answered_a_moment_before_the_power_goes_is_there_afterwards() {
    for seed in 2600..2604 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            app.hurry();
            for round in 0..15 {
                w.run_for(seconds(1)).await;
                let fs = w.host("alpha").fs.clone();
                // Requests come in while a batch of the log is under way.
                let exec = w.host("alpha").exec.as_ref().expect("runs");
                exec.stall(Medium::Log, Duration::from_millis(400));
                app.cut_power_at_answer("alpha", &fs, 1 + round % 5);
                let gone = w.run_until(minutes(1), |w| w.host("alpha").fs.is_off());
                assert!(gone.await, "nothing was answered in round {round}");
                w.crash("alpha", Crash::Power);
                let opened = app.counts().opened;
                w.start("alpha").await.expect("starts again");
                let again = w.run_until(minutes(3), |_| app.counts().opened > opened);
                let again = again.await;
                w.must_be_sound();
                assert!(
                    again,
                    "no device after round {round}\n{}",
                    w.explain("data")
                );
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
