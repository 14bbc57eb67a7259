//! An old primary that is only cut off, not dead, goes on writing while another host is forced to be
//! primary. Both sides stay consistent, everybody sees the split brain, and nothing resolves it but a
//! command (invariants 24, 31).

use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, seconds, story};

#[test]
fn a_zombie_and_its_successor_write_two_histories_until_a_command_decides() {
    for seed in 1500..1502 {
        story(seed, async |w| {
            w.cluster(&["alpha", "beta", "gamma"])
                .await
                .expect("cluster");
            w.resource("data", DEVICE_BYTES, &["alpha", "beta", "gamma"])
                .await;
            let app = w.app("data", DEVICE_BYTES);
            app.work();
            w.up_to_date("beta", "data", minutes(5))
                .await
                .expect("up to date");
            w.up_to_date("gamma", "data", minutes(5))
                .await
                .expect("up to date");
            w.cut("alpha", "beta");
            w.cut("alpha", "gamma");
            w.run_for(minutes(2)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            w.must("beta", "marsadm resume-fetch data").await;
            assert!(
                w.run_until(minutes(3), |w| w.shows("beta", "data")).await,
                "{}",
                w.explain("data")
            );
            assert!(w.shows("alpha", "data"), "the zombie does not know");
            w.run_for(seconds(30)).await;
            w.net.heal();
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            w.run_for(minutes(2)).await;
            assert!(!w.shows("alpha", "data"), "beta is designated");
            // The disk state compares lengths; the fork is shown beside it, as the manual has it.
            let seen = w.type_at("alpha", "marsadm view data").await;
            assert!(
                seen.stderr.contains("SPLIT BRAIN"),
                "{}{}",
                seen.stdout,
                seen.stderr
            );
            w.must("alpha", "marsadm invalidate data").await;
            w.must_be_equal("data", &["beta", "alpha", "gamma"]).await;
        });
    }
}
