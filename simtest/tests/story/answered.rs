//! The power of a primary goes in the very moment in which an application hears that something is durable, while others still
//! wait for theirs. Whatever was answered is there afterwards, and nothing else was promised (invariants 6 to 9).

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
                app.cut_power_at_answer("alpha", &fs, 1 + round % 5);
                let gone = w.run_until(minutes(1), |w| w.host("alpha").fs.is_off());
                assert!(gone.await, "nothing was answered in round {round}");
                w.crash("alpha", Crash::Power);
                let opened = app.counts().opened;
                w.start("alpha").await.expect("starts again");
                assert!(
                    w.run_until(minutes(3), |_| app.counts().opened > opened)
                        .await,
                    "no device after round {round}\n{}",
                    w.explain("data")
                );
                w.must_be_sound();
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
