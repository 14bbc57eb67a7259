//! The power goes while a replica is copied for the first time, at one storage call of the copy after the other, on either
//! side. The copy goes on where it was, and nobody takes half of it for a replica (invariants 29, 33, 34 and 36).

use simtest::host::Crash;
use simtest::promises::offered;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, seconds, story};

/// A copy of the device is about so many storage calls at the side that receives it.
const CALLS: [u64; 8] = [0, 1, 2, 5, 11, 23, 47, 95];

async fn join_with_a_cut(w: &mut World, victim: &str, calls: u64) {
    w.cluster(&["alpha", "beta"]).await.expect("cluster");
    w.resource("data", DEVICE_BYTES, &["alpha"]).await;
    w.app("data", DEVICE_BYTES).work();
    w.run_for(seconds(20)).await;
    w.resource_join("data", DEVICE_BYTES, "beta").await;
    w.host(victim).fs.cut_power_after(calls);
    for _ in 0..600 {
        offered::look(w).expect("half a copy is never offered");
        if w.host(victim).fs.is_off() {
            break;
        }
        w.run_for(std::time::Duration::from_millis(20)).await;
    }
    w.crash(victim, Crash::Power);
    w.run_for(seconds(2)).await;
    w.start(victim).await.expect("starts again");
    // Whoever may not be primary yet does not become it, not even when the key says so.
    w.type_at("beta", "mars tree set resource-data/primary beta")
        .await;
    for _ in 0..20 {
        offered::look(w).expect("half a copy is never offered");
        w.run_for(std::time::Duration::from_millis(50)).await;
    }
    w.type_at("beta", "mars tree set resource-data/primary alpha")
        .await;
    w.up_to_date("beta", "data", minutes(5))
        .await
        .expect("the copy is completed");
    w.must_be_equal("data", &["alpha", "beta"]).await;
}

#[test]
fn the_power_of_the_new_replica_goes_at_any_time_of_its_first_copy() {
    for (nr, calls) in CALLS.into_iter().enumerate() {
        story(2200 + nr as u64, async |w| {
            join_with_a_cut(w, "beta", calls).await
        });
    }
}

#[test]
fn the_power_of_the_primary_goes_at_any_time_of_a_first_copy() {
    for (nr, calls) in CALLS.into_iter().enumerate().step_by(2) {
        story(2220 + nr as u64, async |w| {
            join_with_a_cut(w, "alpha", calls).await
        });
    }
}

/// How far the first copy at beta has come.
fn copied(w: &World) -> u64 {
    let tree = w.host("beta").node().map(|node| node.keys().read());
    let text = tree.and_then(|tree| {
        let key = "resource-data/syncstatus-beta";
        tree.text(key)?.parse().ok()
    });
    text.unwrap_or(0)
}

/// Larger than what is compared at once, so that there is something to go on from.
const LARGE_BYTES: u64 = 16 * DEVICE_BYTES;

/// Lessons C-T7.
#[test]
fn a_copy_over_a_connection_that_breaks_every_few_seconds_never_begins_again() {
    story(2640, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", LARGE_BYTES, &["alpha"]).await;
        let app = w.app("data", LARGE_BYTES);
        app.work();
        w.run_for(seconds(60)).await;
        app.rest();
        let (alpha, beta) = (w.host("alpha").name.clone(), w.host("beta").name.clone());
        let slow = simtest::net::Link {
            bandwidth: 128 << 10,
            ..simtest::net::Link::default()
        };
        w.net.set_link(&alpha, &beta, slow);
        w.resource_join("data", LARGE_BYTES, "beta").await;
        let (mut most, mut broken) = (0, 0);
        for nr in 0..300 {
            if nr % 10 == 9 && most < LARGE_BYTES {
                w.net.reset(&alpha, &beta);
                broken += 1;
            }
            w.run_for(seconds(1)).await;
            let now = copied(w);
            assert!(now >= most, "from {most} back to {now}");
            most = now;
        }
        assert_eq!(most, LARGE_BYTES, "{}", w.explain("data"));
        assert!(broken > 0, "it was too fast to be interrupted");
        w.net.heal();
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
