//! A secondary is away for more than four times as long as deletions are kept for hosts nobody hears of. Keys it knows were
//! deleted meanwhile. It comes back, follows, and brings nothing back to life (requirement L-A5; lessons C-T2, E11).

use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, seconds, story, trio};

fn note(w: &World, name: &str) -> Option<String> {
    let tree = w.host(name).node()?.keys().read();
    tree.text("userspace/note").map(str::to_owned)
}

#[test]
fn keys_deleted_during_a_long_outage_stay_deleted_when_the_host_comes_back() {
    story(2400, async |w| {
        w.configure(|config| config.keep_tombstones = minutes(10));
        let app = trio(w, DEVICE_BYTES).await;
        w.must("alpha", "mars tree set userspace/note old").await;
        let seen = |w: &World| note(w, "beta").as_deref() == Some("old");
        assert!(w.run_until(minutes(1), seen).await);
        w.stop("beta").await;
        w.run_for(seconds(20)).await;
        w.must("gamma", "mars tree del userspace/note").await;
        w.run_for(seconds(20)).await;
        app.rest();
        w.run_for(minutes(45)).await;
        for name in ["alpha", "gamma"] {
            w.stop(name).await;
            w.start(name).await.expect("starts again");
        }
        app.work();
        w.run_for(minutes(1)).await;
        w.start("beta").await.expect("starts again");
        for _ in 0..60 {
            w.run_for(seconds(1)).await;
            for name in ["alpha", "gamma"] {
                assert_eq!(note(w, name), None, "{name}: the key has come back");
            }
        }
        assert_eq!(note(w, "beta"), None, "beta has heard of the deletion");
        w.must_be_equal("data", &["alpha", "beta", "gamma"]).await;
    });
}

/// Seed 5808 of the random worlds: what a primary has written, and nobody has heard of, is not lost with its tree.
#[test]
fn a_primary_whose_tree_is_replaced_still_knows_its_own_logs() {
    for seed in 2402..2404 {
        story(seed, async |w| {
            w.configure(|config| config.keep_tombstones = minutes(10));
            let app = trio(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.cut("alpha", "beta");
            w.cut("alpha", "gamma");
            w.run_for(seconds(5)).await;
            for _ in 0..2 {
                w.must("alpha", "marsadm log-rotate data").await;
                w.run_for(seconds(5)).await;
            }
            w.stop("alpha").await;
            w.net.heal();
            w.must("beta", "mars tree set userspace/note old").await;
            w.run_for(seconds(5)).await;
            w.must("gamma", "mars tree del userspace/note").await;
            w.run_for(minutes(45)).await;
            w.start("alpha").await.expect("starts again");
            w.run_for(minutes(2)).await;
            assert!(w.shows("alpha", "data"), "{}", w.explain("data"));
            app.work();
            w.run_for(seconds(10)).await;
            w.must_be_equal("data", &["alpha", "beta", "gamma"]).await;
        });
    }
}

/// Every host has something to say more often than it asks others what they have seen.
#[test]
fn deletions_are_forgotten_while_everybody_is_busy() {
    story(2405, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.must("alpha", "mars tree set userspace/note old").await;
        let seen = |w: &World| note(w, "beta").as_deref() == Some("old");
        assert!(w.run_until(minutes(1), seen).await);
        busy(w).await;
        w.must("alpha", "mars tree del userspace/note").await;
        busy(w).await;
        for host in w.hosts.values() {
            host.clock.set_skew_ns(3 * 3_600_000_000_000);
        }
        busy(w).await;
        for name in ["alpha", "beta"] {
            let tree = w.host(name).node().expect("runs").keys().read();
            let path = tree::Path::new("userspace/note").expect("a path");
            assert_eq!(tree.get(&path), None, "{name} still keeps the deletion");
        }
    });
}

async fn busy(w: &World) {
    for nr in 0..100 {
        for name in ["alpha", "beta"] {
            w.must(name, &format!("mars tree set userspace/busy-{name} {nr}"))
                .await;
        }
        w.run_for(seconds(1)).await;
    }
}
