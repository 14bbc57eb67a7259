//! Logs are rotated, purged and deleted by hand: neither the log being written nor one a replica stands in is ever taken for one
//! that nobody needs. The first found by seed 3.

use std::path::Path;

use simtest::host::STATE_DIR;
use simtest::world::DEVICE_BYTES;

use crate::story::{pair, seconds, story};

#[test]
fn the_log_being_written_is_never_purged() {
    for seed in 1700..1703 {
        story(seed, async |w| {
            pair(w, DEVICE_BYTES).await;
            for _ in 0..40 {
                w.type_at("alpha", "marsadm log-rotate data").await;
                let pause = std::time::Duration::from_millis(w.chance.between(1, 700));
                w.run_for(pause).await;
                w.type_at("alpha", "marsadm log-purge-all data").await;
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

/// A log that was given up for all by hand is kept by a replica that has not gone through it (invariant 25).
#[test]
fn a_log_whose_key_is_deleted_stays_where_a_replica_stands_in_it() {
    story(1705, async |w| {
        pair(w, DEVICE_BYTES).await;
        w.must("beta", "marsadm pause-replay data").await;
        w.run_for(seconds(10)).await;
        w.must("alpha", "marsadm log-rotate data").await;
        w.run_for(seconds(10)).await;
        let key = "resource-data/log-000000001-alpha";
        w.must("alpha", &format!("mars tree del {key}")).await;
        w.run_for(seconds(10)).await;
        let gone = |name: &str| {
            let path = Path::new(STATE_DIR).join(key);
            w.host(name).fs.bytes(&path, true, <[u8]>::len).is_none()
        };
        assert!(gone("alpha"), "whoever is through gives it up");
        assert!(!gone("beta"), "{}", w.explain("data"));
        w.must("beta", "marsadm resume-replay data").await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
