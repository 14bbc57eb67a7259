//! Logs are rotated and purged by hand, again and again, while the primary writes: the log being written is
//! never taken for one that nobody needs. Found by seed 3.

use simtest::world::DEVICE_BYTES;

use crate::story::{pair, story};

#[test]
fn the_log_being_written_is_never_purged() {
    for seed in 1700..1703 {
        story(seed, async |w| {
            pair(w, DEVICE_BYTES).await;
            for _ in 0..40 {
                w.type_at("alpha", "marsadm log-rotate data").await;
                let pause = std::time::Duration::from_millis(w.chance.between(1, 700));
                w.run_for(pause).await;
                w.type_at("alpha", "marsadm log-purge-all data").await;
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
