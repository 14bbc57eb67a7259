//! Stories, one file each. `SIM_TRACE=1` shows what happens in them.

mod crash_of_primary;
mod crash_of_secondary;
mod failover;
mod first_cluster;
mod handover;

use std::time::Duration;

use simtest::world::{self, World};

/// Runs a story in a world of `seed`; afterwards no promise may be broken.
pub fn story(seed: u64, tell: impl AsyncFnOnce(&mut World)) {
    let show = std::env::var("SIM_TRACE").is_ok();
    world::run(seed, show, |mut w| async move {
        tell(&mut w).await;
        w.must_be_sound();
    });
}

/// So many seconds.
pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many minutes.
pub fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
