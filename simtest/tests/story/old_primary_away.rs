//! A planned takeover is nothing that can be done behind the back of the host that wrote last, or of the one that was
//! designated last: it would write again as soon as it starts, and nobody has forced anything (invariants 30 and 31).

use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story, trio};

/// For so long the device is at one place at most.
async fn one_device_only(w: &World, time: std::time::Duration) {
    let until = w.now() + time;
    while w.now() < until {
        let shown = ["alpha", "beta"].map(|name| w.shows(name, "data"));
        assert_ne!(shown, [true, true], "{}", w.explain("data"));
        w.run_for(seconds(1)).await;
    }
}

#[test]
fn a_primary_that_was_stopped_in_order_and_starts_in_a_partition_finds_nobody_in_its_place() {
    for seed in 2100..2104 {
        story(seed, async |w| {
            pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.stop("alpha").await;
            w.run_for(seconds(10)).await;
            // Everything alpha wrote is at beta, and alpha has said that it does not write any more.
            w.type_at("beta", "marsadm primary data --timeout=20").await;
            w.cut("alpha", "beta");
            w.start("alpha").await.expect("starts again");
            one_device_only(w, minutes(1)).await;
            w.net.heal();
            assert!(
                w.run_until(minutes(2), |w| w.shows("beta", "data")).await,
                "beta is designated\n{}",
                w.explain("data")
            );
            w.run_for(seconds(10)).await;
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}

#[test]
fn a_primary_does_not_take_back_what_it_has_handed_over_to_somebody_it_cannot_ask() {
    for seed in 2110..2114 {
        story(seed, async |w| {
            pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.apps["data"].rest();
            w.run_until(minutes(1), |w| w.apps["data"].is_closed())
                .await;
            w.type_later("beta", "marsadm primary data --timeout=60");
            // Beta has just heard that alpha leaves the role to it. What it does with it, alpha does not hear.
            for _ in 0..60_000 {
                if knows(w, "beta", "alpha", "beta") {
                    break;
                }
                w.run_for(std::time::Duration::from_millis(1)).await;
            }
            assert!(knows(w, "beta", "alpha", "beta"), "{}", w.explain("data"));
            w.cut("alpha", "beta");
            w.apps["data"].work();
            w.type_at("alpha", "marsadm primary data --timeout=20")
                .await;
            w.type_at("alpha", "mars tree set resource-data/primary alpha")
                .await;
            one_device_only(w, minutes(1)).await;
            w.net.heal();
            assert!(
                w.run_until(minutes(2), |w| w.shows("alpha", "data")).await,
                "alpha was designated last\n{}",
                w.explain("data")
            );
            w.run_for(seconds(10)).await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

/// Has `name` said that it knows that `designated` is the primary, as far as `at` has heard?
fn knows(w: &World, at: &str, name: &str, designated: &str) -> bool {
    let key = format!("resource-data/actual-{name}/knows-primary");
    let tree = w.host(at).node().map(|node| node.keys().read());
    tree.and_then(|tree| Some(tree.text(&key)?.ends_with(&format!(",{designated}"))))
        .unwrap_or(false)
}

#[test]
fn a_takeover_that_is_stamped_centuries_ahead_does_not_happen_beside_a_primary_that_holds_it_back()
{
    story(2120, async |w| {
        pair(w, DEVICE_BYTES).await;
        w.run_for(seconds(10)).await;
        w.stop("alpha").await;
        w.host("beta")
            .clock
            .set_skew_ns(173 * 365 * 86_400 * 1_000_000_000);
        w.run_for(seconds(10)).await;
        w.type_at("beta", "marsadm primary data --timeout=20").await;
        w.start("alpha").await.expect("starts again");
        one_device_only(w, minutes(2)).await;
    });
}

#[test]
fn two_hosts_hand_over_while_a_third_one_is_away() {
    story(2130, async |w| {
        trio(w, DEVICE_BYTES).await;
        w.hand_over("data", "gamma").await;
        w.run_for(seconds(10)).await;
        w.hand_over("data", "alpha").await;
        w.run_for(seconds(10)).await;
        w.stop("gamma").await;
        w.hand_over("data", "beta").await;
        w.run_for(seconds(10)).await;
        w.start("gamma").await.expect("starts again");
        w.must_be_equal("data", &["beta", "alpha", "gamma"]).await;
    });
}
