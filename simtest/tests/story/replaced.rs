//! The machine of a primary is lost with everything on it. An empty one gets its name; before that somebody else was forced to
//! go on. The empty host never takes its old part for its own, and becomes a replica like any other (lessons E10, E11).

use simtest::host::{Crash, SimHost};
use simtest::world::DEVICE_BYTES;

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
