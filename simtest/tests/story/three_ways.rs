//! Three hosts that do not hear each other are all made to write: three histories. Nobody chooses between them but the
//! operator, who throws two of them away (invariants 16, 24 and 31).

use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, seconds, story, trio};

#[test]
fn three_histories_stay_apart_until_two_of_them_are_thrown_away() {
    for seed in 2100..2102 {
        story(seed, async |w| {
            let app = trio(w, DEVICE_BYTES).await;
            w.run_for(seconds(10)).await;
            for (a, b) in [("alpha", "beta"), ("alpha", "gamma"), ("beta", "gamma")] {
                w.cut(a, b);
            }
            w.run_for(minutes(2)).await;
            for name in ["beta", "gamma"] {
                w.must(name, "marsadm pause-fetch data").await;
                w.must(name, "marsadm primary data --force").await;
                w.must(name, "marsadm resume-fetch data").await;
            }
            w.run_for(seconds(30)).await;
            for name in ["alpha", "beta", "gamma"] {
                assert!(w.shows(name, "data"), "{name}: {}", w.explain("data"));
            }
            w.net.heal();
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            w.run_for(minutes(3)).await;
            // One designation is the newest; the two others keep what they have, and say so.
            for name in ["alpha", "beta", "gamma"] {
                assert_eq!(w.view(name, "is-split-brain", "data").await, "1", "{name}");
            }
            let disks = ["alpha", "beta", "gamma"].map(|name| w.host(name).disk("data"));
            assert!(disks[0] != disks[1] && disks[1] != disks[2] && disks[0] != disks[2]);
            w.must("alpha", "marsadm invalidate data").await;
            w.must("beta", "marsadm invalidate data").await;
            w.up_to_date("alpha", "data", minutes(5))
                .await
                .expect("healed");
            app.work();
            w.run_for(seconds(20)).await;
            assert_eq!(w.view("gamma", "is-split-brain", "data").await, "0");
            w.must_be_equal("data", &["gamma", "alpha", "beta"]).await;
        });
    }
}
