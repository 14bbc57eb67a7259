//! The first cluster: a resource is created, written and joined under load; the secondary becomes equal.

use std::time::Duration;

use crate::story::{minutes, seconds, story};
use simtest::world::DEVICE_BYTES;

#[test]
fn a_replica_joined_under_load_becomes_up_to_date_and_equal() {
    story(1, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", DEVICE_BYTES, &["alpha"]).await;
        let app = w.app("data", DEVICE_BYTES);
        app.work();
        w.run_for(seconds(20)).await;
        w.resource_join("data", DEVICE_BYTES, "beta").await;
        w.up_to_date("beta", "data", minutes(5))
            .await
            .expect("up to date");
        w.run_for(seconds(20)).await;
        app.rest();
        w.run_for(seconds(30)).await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
        assert!(app.counts().changes > 100, "{:?}", app.counts());
    });
}

#[test]
fn a_logged_write_is_on_both_disks_at_the_right_place() {
    story(2, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", DEVICE_BYTES, &["alpha", "beta"]).await;
        let exports = w.host("alpha").node().expect("runs").exports().clone();
        assert!(
            w.run_until(minutes(1), |_| exports.names() == ["data"])
                .await,
            "{}",
            w.explain("data")
        );
        let opened = exports.open("data").expect("open");
        opened
            .device()
            .write(65536, vec![9; 4096].into(), true)
            .wait()
            .await
            .expect("write");
        drop(opened);
        w.run_for(Duration::from_secs(5)).await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
        assert_eq!(w.host("beta").disk("data")[65536..69632], [9; 4096]);
    });
}
