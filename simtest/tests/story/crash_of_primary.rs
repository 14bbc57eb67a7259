//! The primary goes down without warning and comes back: nothing that was promised is lost, and the
//! secondary follows.

use simtest::host::Crash;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, seconds, story};

async fn crash_again_and_again(w: &mut World, how: Crash) {
    w.cluster(&["alpha", "beta"]).await.expect("cluster");
    w.resource("data", DEVICE_BYTES, &["alpha", "beta"]).await;
    let app = w.app("data", DEVICE_BYTES);
    app.work();
    for round in 0..5 {
        let pause = std::time::Duration::from_millis(w.chance.between(1_000, 15_000));
        w.run_for(pause).await;
        w.crash("alpha", how);
        w.must_be_sound();
        w.run_for(seconds(round * 7)).await;
        w.start("alpha").await.expect("starts again");
        let opened = app.counts().opened;
        assert!(
            w.run_until(minutes(3), |_| app.counts().opened > opened)
                .await,
            "no device after crash {round}\n{}",
            w.explain("data")
        );
    }
    app.rest();
    w.up_to_date("beta", "data", minutes(5))
        .await
        .expect("up to date");
    w.must_be_equal("data", &["alpha", "beta"]).await;
}

#[test]
fn a_power_cut_of_the_primary_costs_nothing_that_was_flushed() {
    for seed in 10..14 {
        story(seed, async |w| crash_again_and_again(w, Crash::Power).await);
    }
}

#[test]
fn a_killed_daemon_costs_nothing_that_was_flushed() {
    for seed in 20..22 {
        story(seed, async |w| {
            crash_again_and_again(w, Crash::Process).await
        });
    }
}

#[test]
fn a_primary_does_not_wait_for_hosts_that_have_nothing_to_do_with_its_resources() {
    story(220, async |w| {
        w.cluster(&["alpha", "beta", "gamma"])
            .await
            .expect("cluster");
        w.resource("data", DEVICE_BYTES, &["alpha", "beta"]).await;
        w.up_to_date("beta", "data", minutes(5))
            .await
            .expect("up to date");
        w.crash("gamma", Crash::Power);
        w.stop("alpha").await;
        w.start("alpha").await.expect("starts again");
        let soon = w.run_until(seconds(4), |w| w.shows("alpha", "data")).await;
        assert!(
            soon,
            "beta has answered, gamma does not matter: {}",
            w.explain("data")
        );
        // A member that cannot be reached may have been designated meanwhile.
        w.crash("beta", Crash::Power);
        w.stop("alpha").await;
        w.start("alpha").await.expect("starts again");
        let early = w.run_until(seconds(4), |w| w.shows("alpha", "data")).await;
        assert!(!early, "alpha has not waited for beta");
        assert!(
            w.run_until(seconds(4), |w| w.shows("alpha", "data")).await,
            "and not for ever"
        );
    });
}
