//! The power goes during rotation, at each storage call of it: no record is lost, none comes twice, and the
//! secondary is never ahead (lessons A, E4; invariants 7, 27, 28).

use simtest::host::Crash;
use simtest::world::DEVICE_BYTES;

use crate::story::{minutes, pair, seconds, story};

/// A rotation is fewer storage calls than this, with what the application writes meanwhile.
const CALLS: u64 = 30;

#[test]
fn a_power_cut_at_any_call_of_a_rotation_loses_nothing() {
    for calls in 0..CALLS {
        story(1000 + calls, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.run_for(seconds(5)).await;
            w.host("alpha").fs.cut_power_after(calls);
            w.type_later("alpha", "marsadm log-rotate data");
            w.run_until(seconds(60), |w| w.host("alpha").fs.is_off())
                .await;
            w.crash("alpha", Crash::Power);
            w.start("alpha").await.expect("starts again");
            let opened = app.counts().opened;
            assert!(
                w.run_until(minutes(3), |_| app.counts().opened > opened)
                    .await,
                "{}",
                w.explain("data")
            );
            w.run_for(seconds(5)).await;
            w.must_be_equal("data", &["alpha", "beta"]).await;
        });
    }
}

#[test]
fn many_rotations_under_load_lose_nothing() {
    story(1100, async |w| {
        w.configure(|config| config.rotate_bytes = 16 << 10);
        pair(w, DEVICE_BYTES).await;
        w.run_for(minutes(2)).await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
