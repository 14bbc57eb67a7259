//! The disk of a primary refuses some writes and then hangs, while the log is rotated and goes on; then the power goes. What has
//! to be replayed lies in two logs (invariants 12 to 15).

use simtest::disk::Fault;
use simtest::exec::Medium;
use simtest::host::{Crash, SimHost};
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

#[test]
fn a_primary_whose_disk_was_behind_by_more_than_one_log_comes_back_after_a_power_cut() {
    for seed in 2760..2763 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            for _ in 0..4 {
                w.run_for(seconds(5)).await;
                for _ in 0..4 {
                    let disk = SimHost::disk_path("data");
                    w.host("alpha").fs.plan_fault(&disk, Fault::WriteError);
                }
                w.run_for(seconds(1)).await;
                w.must("alpha", "marsadm log-rotate data").await;
                w.run_for(seconds(2)).await;
                if let Some(exec) = &w.host("alpha").exec {
                    exec.stall(Medium::Disk, seconds(30));
                }
                w.run_for(seconds(8)).await;
                w.crash("alpha", Crash::Power);
                w.host("alpha").fs.end_faults(1 << 30);
                let opened = app.counts().opened;
                w.start("alpha").await.expect("starts again");
                let back = w.run_until(minutes(3), |_| app.counts().opened > opened);
                assert!(back.await, "no device\n{}", w.explain("data"));
            }
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}
