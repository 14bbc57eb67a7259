//! The machine of a primary is lost with everything on it. An empty one gets its name; before that somebody else was forced to
//! go on. The empty host never takes its old part for its own, and becomes a replica like any other.

use simtest::host::{Crash, SimHost};
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, seconds, story, trio};

#[test]
fn an_empty_host_with_the_name_of_the_lost_primary_becomes_a_replica() {
    for seed in 2300..2303 {
        story(seed, async |w| {
            let app = trio(w, DEVICE_BYTES).await;
            w.run_for(seconds(20)).await;
            w.crash("alpha", Crash::Power);
            w.run_for(minutes(2)).await;
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            w.must("beta", "marsadm resume-fetch data").await;
            w.run_for(seconds(20)).await;
            w.must("beta", "marsadm leave-resource data --host=alpha --force")
                .await;
            w.replace("alpha").await.expect("an empty host joins");
            for _ in 0..60 {
                w.run_for(seconds(1)).await;
                assert!(!w.shows("alpha", "data"), "there is nothing to show");
            }
            assert!(w.shows("beta", "data"), "{}", w.explain("data"));
            let disk = SimHost::disk_path("data");
            w.host("alpha").fs.make_disk(&disk, DEVICE_BYTES);
            w.must("alpha", "marsadm join-resource data /disk-data")
                .await;
            w.up_to_date("alpha", "data", minutes(5))
                .await
                .expect("a replica again");
            // The numbers of the logs it wrote in its former life are never used again.
            w.hand_over("data", "alpha").await;
            w.run_for(seconds(20)).await;
            app.rest();
            w.must_be_equal("data", &["alpha", "beta", "gamma"]).await;
        });
    }
}

/// Nobody makes the lost host leave. The empty one hears from the others that it holds a complete replica.
#[test]
fn an_empty_host_does_not_believe_that_it_is_the_replica_of_its_former_life() {
    story(2310, async |w| {
        let app = trio(w, DEVICE_BYTES).await;
        w.run_for(seconds(20)).await;
        replace_with_an_empty_disk(w, "beta").await;
        for _ in 0..60 {
            w.run_for(seconds(1)).await;
            let disk = w.host("beta").disk("data");
            assert!(
                disk.iter().all(|byte| *byte == 0),
                "nothing is written to it"
            );
        }
        assert!(
            w.explain("data").contains("FormerLife"),
            "{}",
            w.explain("data")
        );
        // Not after a restart either.
        w.crash("beta", Crash::Power);
        w.start("beta").await.expect("it starts again");
        w.run_for(seconds(20)).await;
        assert!(w.host("beta").disk("data").iter().all(|byte| *byte == 0));
        w.must("beta", "marsadm invalidate data").await;
        w.up_to_date("beta", "data", minutes(5))
            .await
            .expect("a replica again");
        app.rest();
        w.must_be_equal("data", &["alpha", "beta", "gamma"]).await;
    });
}

/// The lost host was primary, and still is designated when the empty one comes.
#[test]
fn an_empty_host_is_not_the_primary_it_was() {
    story(2320, async |w| {
        let app = trio(w, DEVICE_BYTES).await;
        w.run_for(seconds(20)).await;
        replace_with_an_empty_disk(w, "alpha").await;
        for _ in 0..60 {
            w.run_for(seconds(1)).await;
            assert!(!w.shows("alpha", "data"), "its disk may be any");
        }
        w.must("beta", "marsadm pause-fetch data").await;
        w.must("beta", "marsadm primary data --force").await;
        w.must("beta", "marsadm resume-fetch data").await;
        w.run_for(seconds(20)).await;
        assert!(w.shows("beta", "data"), "{}", w.explain("data"));
        w.must("alpha", "marsadm invalidate data").await;
        w.up_to_date("alpha", "data", minutes(5))
            .await
            .expect("a replica");
        w.run_for(seconds(20)).await;
        app.rest();
        w.must_be_equal("data", &["beta", "alpha", "gamma"]).await;
    });
}

async fn replace_with_an_empty_disk(w: &mut World, name: &str) {
    w.replace(name).await.expect("an empty host joins");
    w.host(name)
        .fs
        .make_disk(&SimHost::disk_path("data"), DEVICE_BYTES);
}
