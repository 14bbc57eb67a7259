//! Planned handover under load, there and back, and while the network is cut.

use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, seconds, story};

#[test]
fn handover_under_load_loses_nothing_that_was_answered() {
    for seed in 40..43 {
        story(seed, async |w| {
            w.cluster(&["alpha", "beta"]).await.expect("cluster");
            w.resource("data", DEVICE_BYTES, &["alpha", "beta"]).await;
            let app = w.app("data", DEVICE_BYTES);
            app.work();
            w.up_to_date("beta", "data", minutes(5))
                .await
                .expect("up to date");
            for (round, next) in ["beta", "alpha", "beta", "alpha"].into_iter().enumerate() {
                w.run_for(seconds(10)).await;
                let opened = app.counts().opened;
                w.hand_over("data", next).await;
                assert!(
                    w.run_until(minutes(3), |_| app.counts().opened > opened)
                        .await,
                    "no device after handover {round}\n{}",
                    w.explain("data")
                );
            }
            app.rest();
            w.run_for(seconds(30)).await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

#[test]
fn handover_during_a_partition_waits_and_loses_nothing() {
    story(50, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", DEVICE_BYTES, &["alpha", "beta"]).await;
        let app = w.app("data", DEVICE_BYTES);
        app.work();
        w.up_to_date("beta", "data", minutes(5))
            .await
            .expect("up to date");
        w.cut("alpha", "beta");
        w.run_for(seconds(60)).await;
        app.rest();
        w.run_for(seconds(10)).await;
        // It is not forced, so it has to wait for alpha, or to give up.
        w.type_at("beta", "marsadm primary data --timeout=30").await;
        w.run_for(minutes(2)).await;
        assert_eq!(
            w.host("beta").node().expect("runs").exports().names(),
            Vec::<String>::new()
        );
        w.net.heal();
        w.run_for(minutes(1)).await;
        w.hand_over("data", "beta").await;
        assert!(
            w.run_until(minutes(3), |w| w.shows("beta", "data")).await,
            "{}",
            w.explain("data")
        );
        w.run_for(seconds(20)).await;
        app.rest();
        w.run_for(seconds(30)).await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
