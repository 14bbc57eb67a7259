//! Storage of a secondary fails in one way or another: it heals itself once it can, and what is damaged is
//! never applied (invariants 19, 41; lessons E14).

use std::path::Path;

use simtest::host::{CAPACITY, STATE_DIR};
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn a_damaged_log_on_a_secondary_is_fetched_again_and_never_applied() {
    for seed in 1300..1304 {
        story(seed, async |w| {
            pair(w, DEVICE_BYTES).await;
            w.must("beta", "marsadm pause-replay data").await;
            w.run_for(seconds(20)).await;
            let logs = w
                .host("beta")
                .fs
                .files_below(&Path::new(STATE_DIR).join("resource-data"));
            let log = logs.last().expect("a log is there").clone();
            let len = w
                .host("beta")
                .fs
                .read(&log)
                .map_or(0, |bytes| bytes.len() as u64);
            let at = w.chance.between(len / 2, len - 1);
            assert!(w.host("beta").fs.flip_bit(&log, at, 3));
            w.must("beta", "marsadm resume-replay data").await;
            w.run_for(seconds(30)).await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

#[test]
fn a_copy_whose_header_is_damaged_is_fetched_again() {
    story(1305, async |w| {
        pair(w, DEVICE_BYTES).await;
        w.must("beta", "marsadm pause-replay data").await;
        w.run_for(seconds(20)).await;
        let dir = Path::new(STATE_DIR).join("resource-data");
        let log = w.host("beta").fs.files_below(&dir).pop();
        let log = log.expect("a log is there");
        assert!(w.host("beta").fs.flip_bit(&log, 20, 3));
        w.must("beta", "marsadm resume-replay data").await;
        w.run_for(seconds(30)).await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}

#[test]
fn a_full_disk_on_a_secondary_stops_only_that_secondary_until_there_is_room() {
    story(1310, async |w| {
        let app = pair(w, DEVICE_BYTES).await;
        w.host("beta").fs.leave_room(20 << 10);
        let before = app.counts().changes;
        w.run_for(minutes(2)).await;
        assert!(
            app.counts().changes > before + 100,
            "the application does not notice"
        );
        w.host("beta").fs.end_faults(CAPACITY);
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
