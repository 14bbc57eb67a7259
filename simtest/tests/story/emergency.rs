//! `/mars` fills up: replicas are given up, never the application (invariants 38 and 39, operations 8).

use simtest::disk::Fault;
use simtest::host::{Crash, SimHost};
use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

/// Of the file system of every host.
const ROOM_AGAIN: u64 = 256 << 20;

fn is_emergency(w: &World) -> bool {
    lamp(w, "alpha", "is-emergency")
}

fn lamp(w: &World, host: &str, name: &str) -> bool {
    let path = format!("resource-data/actual-{host}/{name}");
    let node = w.host(host).node();
    node.is_some_and(|node| node.keys().read().text(&path) == Some("1"))
}

/// What beta says about the hole.
fn sees_hole(w: &World) -> bool {
    let path = "resource-data/actual-beta/msg-err-log-not-contiguous";
    let node = w.host("beta").node();
    node.is_some_and(|node| {
        let tree = node.keys().read();
        tree.text(path).is_some_and(|text| !text.ends_with("OK"))
    })
}

async fn goes_on(w: &mut World, app: &simtest::app::App) {
    let before = app.counts();
    assert!(
        w.run_until(minutes(3), |_| app.counts().flushes > before.flushes + 10)
            .await,
        "the application does not get on\n{}",
        w.explain("data")
    );
    assert_eq!(app.counts().errors, before.errors, "{}", w.explain("data"));
}

/// Does alpha say that its disk fails?
fn says_disk_error(w: &World) -> bool {
    let path = "resource-data/actual-alpha/msg-err-disk";
    let node = w.host("alpha").node();
    node.is_some_and(|node| {
        let tree = node.keys().read();
        tree.text(path).is_some_and(|text| text != "OK")
    })
}

/// What the application does, sometimes, before it closes the device.
async fn flush(w: &World) {
    let node = w.host("alpha").node().expect("it runs");
    let device = node.exports().look("data");
    let flushed = device.expect("the device stays").flush().wait().await;
    flushed.expect("a good disk");
}

async fn heals(w: &mut World) {
    w.host("alpha").fs.set_capacity(ROOM_AGAIN);
    assert!(
        w.run_until(minutes(3), |w| !is_emergency(w)).await,
        "{}",
        w.explain("data")
    );
    assert!(
        w.run_until(minutes(3), sees_hole).await,
        "{}",
        w.explain("data")
    );
    w.must("beta", "marsadm invalidate data").await;
    w.up_to_date("beta", "data", minutes(10))
        .await
        .expect("healed");
    w.run_for(seconds(30)).await;
    w.must_be_equal("data", &["alpha", "beta"]).await;
}

#[test]
fn a_full_directory_costs_the_replica_and_never_the_application() {
    for seed in 1400..1402 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            // Somebody else fills the file system: below the hardest limit, or to the last byte.
            w.host("alpha").fs.leave_room((seed % 2) * (2 << 20));
            goes_on(w, &app).await;
            assert!(
                w.run_until(minutes(2), is_emergency).await,
                "{}",
                w.explain("data")
            );
            goes_on(w, &app).await;
            heals(w).await;
        });
    }
}

#[test]
fn a_crash_in_the_emergency_replays_nothing_over_newer_blocks() {
    for seed in 1410..1413 {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.host("alpha").fs.leave_room((seed % 2) * (2 << 20));
            let moment = std::time::Duration::from_millis(500 * (seed - 1409));
            w.run_for(moment).await;
            // Past the log, the disk promises what a disk promises: no order of what is not flushed. So the power goes
            // only below, when everything is.
            w.crash("alpha", Crash::Process);
            w.start("alpha").await.expect("starts again");
            let opened = app.counts().opened;
            assert!(
                w.run_until(minutes(3), |_| app.counts().opened > opened)
                    .await,
                "{}",
                w.explain("data")
            );
            assert!(
                w.run_until(minutes(2), is_emergency).await,
                "{}",
                w.explain("data")
            );
            w.run_for(seconds(20)).await;
            app.rest();
            assert!(w.run_until(minutes(2), |_| app.is_closed()).await);
            flush(w).await;
            w.crash("alpha", Crash::Power);
            w.start("alpha").await.expect("starts again");
            app.work();
            goes_on(w, &app).await;
            heals(w).await;
        });
    }
}

/// Found by seed 194: it refused every request, and no lamp and no message said so.
#[test]
fn a_disk_that_is_lost_in_the_emergency_is_shown_and_a_restart_helps() {
    story(1420, async |w| {
        let app = pair(w, DEVICE_BYTES).await;
        w.host("alpha").fs.leave_room(0);
        assert!(w.run_until(minutes(2), is_emergency).await);
        goes_on(w, &app).await;
        let disk = SimHost::disk_path("data");
        w.host("alpha").fs.plan_fault(&disk, Fault::FlushError);
        assert!(
            w.run_until(minutes(2), says_disk_error).await,
            "{}",
            w.explain("data")
        );
        w.host("alpha").fs.set_capacity(ROOM_AGAIN);
        w.stop("alpha").await;
        w.start("alpha").await.expect("starts again");
        let opened = app.counts().opened;
        assert!(
            w.run_until(minutes(3), |_| app.counts().opened > opened)
                .await,
            "{}",
            w.explain("data")
        );
        assert!(!says_disk_error(w), "{}", w.explain("data"));
        heals(w).await;
    });
}

/// Found by seed 3149: the disk of the old primary was no state of any history, and nobody knew any more.
#[test]
fn nothing_an_operator_types_makes_a_disk_with_writes_past_the_log_pass_for_a_replica() {
    for (seed, mark) in [(1430, "log-purge-all data"), (1431, "by hand")] {
        story(seed, async |w| {
            let app = pair(w, DEVICE_BYTES).await;
            w.host("alpha").fs.leave_room(0);
            assert!(w.run_until(minutes(2), is_emergency).await);
            goes_on(w, &app).await;
            match mark {
                "by hand" => {
                    let hole = hole_of_alpha(w).expect("alpha writes past its log");
                    w.must("alpha", &format!("mars tree del {hole}")).await;
                }
                purge => drop(w.must("alpha", &format!("marsadm {purge}")).await),
            }
            w.run_for(seconds(20)).await;
            assert!(hole_of_alpha(w).is_some(), "{}", w.explain("data"));
            w.must("beta", "marsadm pause-fetch data").await;
            w.must("beta", "marsadm primary data --force").await;
            w.must("beta", "marsadm resume-fetch data").await;
            w.host("alpha").fs.set_capacity(ROOM_AGAIN);
            w.run_for(minutes(2)).await;
            let why = simtest::promises::progress::reason(w, "alpha", "data");
            assert!(why.contains("went past the log"), "{why}");
            w.must("alpha", "marsadm invalidate data").await;
            w.up_to_date("alpha", "data", minutes(5))
                .await
                .expect("healed");
            w.must_be_equal("data", &["beta", "alpha"]).await;
        });
    }
}

/// The version link by which alpha says that it wrote past its log.
fn hole_of_alpha(w: &World) -> Option<String> {
    let tree = w.host("alpha").node()?.keys().read();
    let links = tree.texts("resource-data/version-");
    let holes = links.filter(|(path, text)| {
        path.as_str().ends_with("-alpha")
            && text.starts_with(&"0".repeat(32))
            && !path.as_str().contains("-000000000-")
    });
    holes.last().map(|(path, _)| path.to_string())
}
