//! The first cluster: a resource is created, joined, written, and the secondary becomes equal.

use std::time::Duration;

use bytes::Bytes;
use simtest::world;

#[test]
fn a_joined_replica_becomes_up_to_date_and_equal() {
    world::run(1, std::env::var("SIM_TRACE").is_ok(), |mut w| async move {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", world::DEVICE_BYTES, &["alpha"]).await;
        let exports = w.host("alpha").node().expect("runs").exports().clone();
        assert!(
            w.run_until(Duration::from_secs(60), |_| exports.names() == ["data"]).await,
            "no device: {}", w.must("alpha", "marsadm view data").await
        );
        let opened = exports.open("data").expect("open");
        opened.device().write(4096, Bytes::from(vec![7; 8192]), false).wait().await.expect("write");
        opened.device().flush().wait().await.expect("flush");
        w.resource_join("data", world::DEVICE_BYTES, "beta").await;
        opened.device().write(65536, Bytes::from(vec![9; 4096]), true).wait().await.expect("write");
        w.up_to_date("beta", "data", Duration::from_secs(120)).await.expect("up to date");
        drop(opened);
        w.stop("alpha").await;
        w.run_for(Duration::from_secs(10)).await;
        w.stop("beta").await;
        let (a, b) = (w.host("alpha").disk("data"), w.host("beta").disk("data"));
        assert_eq!(a[4096..12288], [7; 8192]);
        assert_eq!(a[65536..69632], [9; 4096]);
        assert!(a == b, "disks differ");
    });
}
