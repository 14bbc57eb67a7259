//! A host whose storage fails says so to all, and the others are not affected (lessons D, D-T1, D-T2, D-T10).

use std::path::Path;

use simtest::disk::Fault;
use simtest::host::SimHost;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

fn fail_writes(w: &World, host: &str, path: &Path, times: usize) {
    for _ in 0..times {
        w.host(host).fs.plan_fault(path, Fault::WriteError);
    }
}

/// What `at` knows about the disk of `of`.
fn knows_of_bad_disk(w: &World, at: &str, of: &str) -> bool {
    let path = format!("resource-data/actual-{of}/disk-error");
    let node = w.host(at).node();
    node.is_some_and(|node| {
        node.keys()
            .read()
            .text(&path)
            .is_some_and(|text| text != "0")
    })
}

#[test]
fn a_bad_disk_of_a_secondary_is_seen_by_all_and_hinders_nobody_else() {
    story(1500, async |w| {
        let app = pair(w, DEVICE_BYTES).await;
        fail_writes(w, "beta", &SimHost::disk_path("data"), 30);
        let seen = w.run_until(minutes(2), |w| knows_of_bad_disk(w, "alpha", "beta"));
        assert!(seen.await, "{}", w.explain("data"));
        let before = app.counts();
        w.run_for(seconds(30)).await;
        assert!(app.counts().changes > before.changes);
        assert_eq!(app.counts().errors, 0, "{}", w.explain("data"));
        w.host("beta").fs.end_faults(256 << 20);
        w.up_to_date("beta", "data", minutes(5))
            .await
            .expect("it goes on by itself");
        assert!(
            w.run_until(minutes(2), |w| !knows_of_bad_disk(w, "alpha", "beta"))
                .await
        );
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}

#[test]
fn a_log_that_fails_while_the_disk_stumbles_costs_the_application_nothing() {
    story(1510, async |w| {
        let app = pair(w, DEVICE_BYTES).await;
        fail_writes(w, "alpha", &SimHost::disk_path("data"), 4);
        fail_writes(w, "alpha", Path::new("/mars/resource-data"), 2);
        let seen = w.run_until(minutes(2), |w| sees_emergency(w, "beta", "alpha"));
        assert!(seen.await, "{}", w.explain("data"));
        w.run_for(seconds(60)).await;
        let before = app.counts();
        w.run_for(seconds(30)).await;
        assert!(
            app.counts().changes > before.changes,
            "{}",
            w.explain("data")
        );
        assert_eq!(app.counts().errors, 0, "{}", w.explain("data"));
    });
}

fn sees_emergency(w: &World, at: &str, of: &str) -> bool {
    let path = format!("resource-data/actual-{of}/is-emergency");
    let node = w.host(at).node();
    node.is_some_and(|node| node.keys().read().text(&path) == Some("1"))
}

#[test]
fn with_neither_log_nor_disk_the_application_is_told_and_goes_on_when_they_are_back() {
    for seed in 1520..1523 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            fail_writes(w, "alpha", &SimHost::disk_path("data"), 1_000);
            fail_writes(w, "alpha", Path::new("/mars/resource-data"), 1_000);
            let told = w.run_until(minutes(3), |_| app.counts().errors > 0);
            assert!(told.await, "{}", w.explain("data"));
            let seen = w.run_until(minutes(2), |w| knows_of_bad_disk(w, "beta", "alpha"));
            assert!(seen.await, "{}", w.explain("data"));

            // Past the log a disk promises what a disk promises: what is flushed. The application was told.
            app.note_past_log("alpha");
            w.host("alpha").fs.end_faults(256 << 20);
            // Nobody may have the device open; what says so comes a little later.
            app.rest();
            w.run_for(seconds(2)).await;
            w.must("alpha", "marsadm detach data").await;
            w.must("alpha", "marsadm attach data").await;
            app.work();
            let before = app.counts();
            let goes_on = w.run_until(minutes(5), |_| app.counts().flushes > before.flushes + 10);
            assert!(goes_on.await, "{}", w.explain("data"));
        });
    }
}
