//! A replica is copied over a slow line. What is not there yet is never taken for complete: neither the part behind a gap, nor
//! a copy whose blocks are from different times while the logs between them are missing (invariants 33, 34 and 36).

use std::time::Duration;

use simtest::host::{Crash, SimHost};
use simtest::net::Link;
use simtest::promises::images;
use simtest::world::{DEVICE_BYTES, World};
use storage::io::{Fs, OpenHow, write_at};

use crate::story::{minutes, pair, seconds, story};

fn slow(w: &World, link: Link) {
    let (alpha, beta) = (&w.host("alpha").name, &w.host("beta").name);
    w.net.set_link(alpha, beta, link);
    w.net.set_link(beta, alpha, link);
}

fn copied(w: &World, name: &str) -> u64 {
    let node = w.host(name).node().expect("runs");
    let tree = node.keys().read();
    let text = tree.text(&format!("resource-data/syncstatus-{name}"));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn replayed(w: &World, name: &str) -> u64 {
    let node = w.host(name).node().expect("runs");
    let tree = node.keys().read();
    let text = tree.text(&format!("resource-data/replay-{name}"));
    let at = text.and_then(|text| text.parse::<tree::ReplayPos>().ok());
    at.map_or(0, |at| at.offset)
}

/// Several chunks of a copy.
const LARGE_BYTES: u64 = 12 << 20;

#[test]
fn a_copy_that_is_interrupted_goes_on_before_its_first_gap() {
    story(2740, async |w| {
        w.cluster(&["alpha", "beta"]).await.expect("cluster");
        w.resource("data", LARGE_BYTES, &["alpha"]).await;
        let disk = SimHost::disk_path("data");
        let fs = w.host("beta").fs.clone();
        fs.make_disk(&disk, LARGE_BYTES);
        // Whatever was there before: the beginning differs, the rest is equal by chance.
        let file = fs.open(&disk, OpenHow::CreateOrOpen).expect("a disk");
        write_at(&*file, &vec![7; 1 << 20], 0).expect("written");
        file.flush().expect("flushed");
        drop(file);
        slow(
            w,
            Link {
                bandwidth: 64 << 10,
                ..Link::default()
            },
        );
        let join = format!("marsadm join-resource data {} --timeout=60", disk.display());
        w.must("beta", &join).await;
        w.run_for(seconds(8)).await;
        assert_eq!(copied(w, "beta"), 0, "the first part is still on its way");
        w.type_at("beta", "marsadm pause-sync data").await;
        w.run_for(seconds(5)).await;
        w.net.heal();
        w.must("beta", "marsadm resume-sync data").await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}

#[test]
fn a_copy_is_no_replica_before_the_logs_are_there_up_to_its_newest_block() {
    for seed in 2750..2753 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            app.hurry();
            w.run_for(seconds(10)).await;
            slow(
                w,
                Link {
                    delay: Duration::from_millis(1_500),
                    ..Link::default()
                },
            );
            w.must("beta", "marsadm invalidate data --timeout=60").await;
            let began = w.run_until(seconds(60), |w| replayed(w, "beta") > 0);
            assert!(began.await, "{}", w.explain("data"));
            w.must("beta", "mars tree set resource-data/todo-beta/connect 0")
                .await;
            let all = w.run_until(minutes(2), |w| copied(w, "beta") == DEVICE_BYTES);
            assert!(all.await, "{}", w.explain("data"));
            w.run_for(seconds(10)).await;
            w.crash("alpha", Crash::Power);
            w.run_for(minutes(1)).await;
            w.type_at("beta", "marsadm primary data --force --timeout=20")
                .await;
            assert!(!w.shows("beta", "data"), "{}", w.explain("data"));
            w.stop("beta").await;
            let compared = images::after_end(w, "beta", "data", DEVICE_BYTES);
            assert_eq!(compared, Ok(false), "it is not said to be a replica");
            let opened = app.counts().opened;
            w.start("beta").await.expect("starts again");
            w.start("alpha").await.expect("starts again");
            w.net.heal();
            w.must("alpha", "mars tree set resource-data/primary alpha")
                .await;
            w.must("beta", "marsadm resume-fetch data").await;
            let back = w.run_until(minutes(3), |_| app.counts().opened > opened);
            assert!(back.await, "{}", w.explain("data"));
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

/// Records overtake the blocks of a copy on an unsteady line: what a block brings is never put over anything newer (invariant 34).
#[test]
fn a_block_of_a_copy_that_arrives_late_is_not_put_over_what_replay_has_brought() {
    for seed in 2750..2753 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            app.hurry();
            let mut compared = 0;
            for _ in 0..6 {
                slow(
                    w,
                    Link {
                        jitter: Duration::from_millis(1_500),
                        ..Link::default()
                    },
                );
                w.must("beta", "marsadm invalidate data --timeout=60").await;
                w.up_to_date("beta", "data", minutes(3))
                    .await
                    .expect("copied");
                w.net.heal();
                slow(w, Link::default());
                w.run_for(seconds(5)).await;
                w.stop("beta").await;
                match images::after_end(w, "beta", "data", DEVICE_BYTES) {
                    Ok(is_replica) => compared += u32::from(is_replica),
                    Err(why) => w.break_promise(why),
                }
                w.must_be_sound();
                w.start("beta").await.expect("starts again");
            }
            assert!(compared > 0, "never compared");
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
