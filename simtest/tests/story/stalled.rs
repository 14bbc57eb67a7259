//! The log of a primary takes what is written to it, but nothing else of its storage becomes durable any more: the accident
//! after which version links were missing (lessons A-T1, A-T2).

use simtest::exec::Medium;
use simtest::host::Crash;
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

fn stall(w: &World, time: std::time::Duration) {
    let exec = w.host("alpha").exec.as_ref().expect("it runs");
    exec.stall(Medium::Tree, time);
}

/// The greatest number of a log of alpha whose file is at `name`.
fn newest(w: &World, name: &str) -> u64 {
    let dir = std::path::Path::new(simtest::host::STATE_DIR).join("resource-data");
    let files = w.host(name).fs.files_below(&dir);
    let logs = files
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse::<tree::LogName>().ok());
    logs.map(|log| log.seq).max().expect("a log")
}

#[test]
fn while_links_do_not_become_durable_no_second_rotation_begins_and_nothing_is_missing_afterwards() {
    for seed in 2610..2614 {
        story(seed, async |w| {
            w.configure(|config| config.rotate_bytes = 64 << 10);
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(5)).await;
            let before = newest(w, "alpha");
            stall(w, minutes(60));
            let changes = app.counts().changes;
            w.run_for(seconds(50)).await;
            assert!(app.counts().changes > changes + 100, "it goes on");
            assert!(
                newest(w, "alpha") <= before + 1,
                "one step in doubt at most"
            );
            assert!(newest(w, "beta") <= before + 1);
            w.crash("alpha", Crash::Power);
            w.run_for(minutes(2)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            w.must("beta", "marsadm resume-fetch data").await;
            w.run_for(seconds(20)).await;
            w.start("alpha").await.expect("starts again");
            w.run_for(minutes(1)).await;
            // What alpha had not given away yet is gone by force. All else is proven by its own links.
            let why = simtest::promises::progress::reason(w, "alpha", "data");
            if why.contains("split brain") {
                w.must("alpha", "marsadm invalidate data").await;
            }
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}

/// The heartbeat is a key, too, so a host whose keys do not become durable looks dead, with the age of its last word.
#[test]
fn a_stall_is_told_after_a_minute_everywhere_and_no_more_when_it_is_over() {
    for seed in 2630..2633 {
        story(seed, async |w| {
            w.configure(|config| config.rotate_bytes = 64 << 10);
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(5)).await;
            stall(w, seconds(120));
            let before = newest(w, "alpha");
            for (after, shown) in [
                (45, "Replicating"),
                (30, "UnResponsive"),
                (30, "UnResponsive"),
            ] {
                let changes = app.counts().changes;
                w.run_for(seconds(after)).await;
                assert!(app.counts().changes > changes + 100, "it goes on");
                for (host, command) in [
                    ("alpha", "marsadm view-replstate data"),
                    ("beta", "marsadm view-replstate data --host=alpha"),
                ] {
                    let told = w.must(host, command).await;
                    assert_eq!(told.lines().last(), Some(shown), "{command} at {host}");
                }
            }
            let told = w.must("beta", "marsadm view data").await;
            assert!(told.contains(" 00:01:"), "how long: {told}");
            assert!(newest(w, "alpha") <= before + 1, "rotations wait");
            w.run_for(seconds(40)).await;
            assert_eq!(w.view("alpha", "replstate", "data").await, "Replicating");
            assert_eq!(w.view("beta", "replstate", "data").await, "Replaying");
            assert!(newest(w, "alpha") > before + 1, "rotations go on");
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
