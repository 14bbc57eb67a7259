//! Storage of a secondary fails in one way or another: it heals itself once it can, and what is damaged is
//! never applied (invariants 19, 41; lessons E14).

use std::path::Path;

use simtest::host::{CAPACITY, Crash, STATE_DIR};
use simtest::promises::progress;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, stands, story, trio};

const FIRST_LOG: &str = "resource-data/log-000000001-alpha";

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

/// Who wrote a log is gone, and the only copy left is damaged: the replica that needs it says so instead of trying for ever.
#[test]
fn a_log_of_which_only_a_damaged_copy_is_left_is_said_to_be_had_from_nobody() {
    story(1307, async |w| {
        let app = trio(w, DEVICE_BYTES).await;
        w.run_for(seconds(20)).await;
        w.must("beta", "marsadm pause-fetch data").await;
        w.run_for(seconds(20)).await;
        w.must("alpha", "marsadm log-rotate data").await;
        w.run_for(seconds(20)).await;
        let log = Path::new(STATE_DIR).join(FIRST_LOG);
        let copy = &w.host("gamma").fs;
        let len = copy.bytes(&log, true, <[u8]>::len).expect("it is there");
        assert!(copy.flip_bit(&log, len as u64 - 100, 3));
        app.rest();
        w.crash("alpha", Crash::Power);
        for command in [
            "pause-fetch data",
            "primary data --force",
            "resume-fetch data",
        ] {
            w.must("gamma", &format!("marsadm {command}")).await;
        }
        w.must("gamma", "marsadm leave-resource data --host=alpha --force")
            .await;
        w.must("beta", "marsadm resume-fetch data").await;
        let says = |w: &World| progress::is_gone(&progress::reason(w, "beta", "data"));
        assert!(w.run_until(minutes(2), says).await, "{}", w.explain("data"));
        app.work();
        w.run_for(seconds(20)).await;
        w.must("beta", "marsadm invalidate data").await;
        w.must_be_equal("data", &["gamma", "beta"]).await;
    });
}

/// Nothing comes from alpha any more, and gamma is to go on with what it has.
async fn force_gamma(w: &mut World) {
    if w.host("alpha").node().is_some() {
        w.crash("alpha", Crash::Power);
    }
    for command in ["pause-fetch data", "primary data --force"] {
        w.must("gamma", &format!("marsadm {command}")).await;
    }
    let begins = w.run_until(minutes(2), |w| w.shows("gamma", "data")).await;
    assert!(begins, "{}", w.explain("data"));
    w.must("gamma", "marsadm leave-resource data --host=alpha --force")
        .await;
}

/// It goes on from the damage, and tells what everybody who has as much can compare with.
#[test]
fn who_is_forced_on_a_damaged_copy_is_followed_by_a_replica_that_is_behind() {
    for seed in 1320..1323 {
        story(seed, async |w| {
            let app = trio(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("gamma", "marsadm pause-replay data").await;
            w.run_for(seconds(20)).await;
            let log = Path::new(STATE_DIR).join(FIRST_LOG);
            let copy = &w.host("gamma").fs;
            let len = copy.bytes(&log, true, <[u8]>::len).expect("it is there");
            assert!(copy.flip_bit(&log, len as u64 * 9 / 10, 3));
            app.rest();
            w.must("gamma", "marsadm resume-replay data").await;
            force_gamma(w).await;
            app.work();
            w.must("beta", "marsadm resume-fetch data").await;
            w.up_to_date("beta", "data", minutes(2))
                .await
                .expect("it needs no invalidate");
            w.must_be_equal("data", &["gamma", "beta"]).await;
        });
    }
}

/// The header is damaged behind the back of a replica that has applied all there is: what it had told of its copy still holds.
#[test]
fn who_is_forced_behind_a_damage_found_later_is_followed_by_who_stands_there() {
    story(1325, async |w| {
        let app = trio(w, DEVICE_BYTES).await;
        w.run_for(seconds(20)).await;
        app.rest();
        for name in ["beta", "gamma"] {
            w.up_to_date(name, "data", minutes(2)).await.expect("all");
        }
        w.run_for(seconds(30)).await;
        w.crash("alpha", Crash::Power);
        w.must("gamma", "marsadm pause-fetch data").await;
        w.crash("gamma", Crash::Power);
        let log = Path::new(STATE_DIR).join(FIRST_LOG);
        assert!(w.host("gamma").fs.flip_bit(&log, 20, 3));
        w.start("gamma").await.expect("starts again");
        force_gamma(w).await;
        app.work();
        w.up_to_date("beta", "data", minutes(2))
            .await
            .expect("it needs no invalidate");
        w.must_be_equal("data", &["gamma", "beta"]).await;
    });
}

/// The same in the middle of a log. No digest of that place is left, so nobody may take the disk for what it has itself.
#[test]
fn who_is_forced_where_nobody_could_compare_begins_behind_a_hole() {
    story(1326, async |w| {
        let app = trio(w, DEVICE_BYTES).await;
        w.must("gamma", "marsadm pause-replay data").await;
        w.run_for(seconds(20)).await;
        w.must("gamma", "marsadm pause-fetch data").await;
        w.crash("alpha", Crash::Power);
        w.crash("gamma", Crash::Power);
        let log = Path::new(STATE_DIR).join(FIRST_LOG);
        assert!(w.host("gamma").fs.flip_bit(&log, 20, 3));
        w.start("gamma").await.expect("starts again");
        w.must("gamma", "marsadm resume-replay data").await;
        force_gamma(w).await;
        let first = stands(w, "gamma").log;
        assert!(first.seq > 2, "{first} continues what nobody can name");
        let says = |w: &World| progress::is_for_operators(&progress::reason(w, "beta", "data"));
        assert!(w.run_until(minutes(2), says).await, "{}", w.explain("data"));
        w.must("beta", "marsadm invalidate data").await;
        w.up_to_date("beta", "data", minutes(2))
            .await
            .expect("invalidate heals");
        app.rest();
        w.must_be_equal("data", &["gamma", "beta"]).await;
    });
}

/// A primary starts and finds its log damaged where it had told others of it: it lacks what it had acknowledged. A secondary
/// that has it gives it back, and only then the device appears.
#[test]
fn a_primary_whose_own_log_is_damaged_takes_back_from_others_what_it_had_acknowledged() {
    for seed in 1328..1332 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.must("beta", "marsadm pause-replay data").await;
            w.run_for(seconds(20)).await;
            let at = stands(w, "alpha");
            w.crash("alpha", Crash::Power);
            w.run_for(seconds(5)).await;
            let log = Path::new(STATE_DIR).join(format!("resource-data/{}", at.log));
            let byte = at.offset + w.chance.between(4096, 8192);
            assert!(w.host("alpha").fs.flip_bit(&log, byte, 3));
            w.start("alpha").await.expect("starts again");
            let begins = w.run_until(minutes(2), |w| w.shows("alpha", "data")).await;
            assert!(begins, "{}", w.explain("data"));
            w.run_for(seconds(20)).await;
            w.must("beta", "marsadm resume-replay data").await;
            app.rest();
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
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
