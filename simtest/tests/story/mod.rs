//! Stories, one file each. `SIM_TRACE=1` shows what happens in them.

mod answered;
mod away;
mod clocks;
mod crash_during_sync;
mod crash_of_primary;
mod crash_of_secondary;
mod crowd;
mod damage;
mod designated_early;
mod disk_errors;
mod emergency;
mod everybody;
mod failover;
mod filtered;
mod first_cluster;
mod half_copied;
mod handover;
mod hanging_disk;
mod lags;
mod month;
mod not_told;
mod old_primary_away;
mod other_history;
mod own_links;
mod purge;
mod replaced;
mod rotation;
mod rush;
mod same_moment;
mod seeds;
mod stalled;
mod three_ways;
mod tombstones;
mod withdrawal;
mod write_ahead;
mod zombie;

use std::time::Duration;

use simtest::app::App;
use simtest::world::{self, World};
use tree::ReplayPos;

/// Runs a story in a world of `seed`; afterwards no promise may be broken.
pub fn story(seed: u64, tell: impl AsyncFnOnce(&mut World)) {
    let show = std::env::var("SIM_TRACE").is_ok();
    world::run(seed, show, |mut w| async move {
        tell(&mut w).await;
        w.must_be_sound();
    });
}

/// Two hosts, both up to date, and an application that writes at `alpha`.
pub async fn pair(w: &mut World, size: u64) -> App {
    w.cluster(&["alpha", "beta"]).await.expect("cluster");
    w.resource("data", size, &["alpha", "beta"]).await;
    let app = w.app("data", size);
    app.work();
    w.up_to_date("beta", "data", minutes(5))
        .await
        .expect("up to date");
    app
}

/// Three hosts, all up to date, and an application that writes at `alpha`.
pub async fn trio(w: &mut World, size: u64) -> App {
    w.cluster(&["alpha", "beta", "gamma"])
        .await
        .expect("cluster");
    w.resource("data", size, &["alpha", "beta", "gamma"]).await;
    let app = w.app("data", size);
    app.work();
    for name in ["beta", "gamma"] {
        w.up_to_date(name, "data", minutes(5))
            .await
            .expect("up to date");
    }
    app
}

/// Where the replica of a host stands, as its own tree has it.
pub fn stands(w: &World, name: &str) -> ReplayPos {
    let node = w.host(name).node().expect("runs");
    let tree = node.keys().read();
    let text = tree.text(&format!("resource-data/replay-{name}"));
    text.expect("a member").parse().expect("a position")
}

/// So many seconds.
pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many minutes.
pub fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
