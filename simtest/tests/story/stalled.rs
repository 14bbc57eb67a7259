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
