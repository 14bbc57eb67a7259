//! Many requests at once, and a primary that writes back whatever it may at once: nothing reaches its disk before it is durable in
//! its log (invariant 10), which the disks of the simulation see by themselves.

use std::time::Duration;

use simtest::world::DEVICE_BYTES;

use crate::story::{pair, seconds, story};

#[test]
fn nothing_reaches_the_disk_before_it_is_durable_in_the_log() {
    for seed in 2770..2773 {
        story(seed, async |w| {
            w.configure(|config| config.logger.writeback_age_max = Duration::from_millis(1));
            let app = pair(w, DEVICE_BYTES).await;
            app.hurry();
            // An answer that never comes: the application stays in a great hurry.
            let fs = w.host("alpha").fs.clone();
            app.cut_power_at_answer("alpha", &fs, u64::MAX);
            w.run_for(seconds(60)).await;
            app.forget_cut();
            w.must_be_sound();
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
