//! A secondary is away for a month. The primary writes a little every day, rotates, deletes what nobody needs and keeps
//! what the absent one does; then it goes on from where it was (lessons C-T2, C-T3; invariants 25 and 44).
//!
//! What makes a month a month is the calendar: how old logs, deletions and signs of life are is told by the time of day.
//! So the clocks of all hosts are set a day ahead thirty times, and between that hours are left out in which nothing but signs
//! of life would happen.

use simtest::world::{DEVICE_BYTES, World};

use crate::story::{minutes, pair, seconds, story};

const DAYS: i64 = 30;
const DAY_NS: i64 = 86_400_000_000_000;

/// Thirty days with a little work on each of them.
async fn a_month(w: &mut World) {
    for day in 1..=DAYS {
        for host in w.hosts.values() {
            host.clock.set_skew_ns(day * DAY_NS);
        }
        w.run_for(seconds(20)).await;
        w.type_at("alpha", "marsadm cron data").await;
    }
}

fn logs(w: &World, name: &str) -> Vec<String> {
    let dir = std::path::Path::new(simtest::host::STATE_DIR).join("resource-data");
    let files = w.host(name).fs.files_below(&dir).into_iter();
    let names = files.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    names.filter(|name| name.starts_with("log-")).collect()
}

fn key(w: &World, name: &str, key: &str) -> Option<String> {
    let tree = w.host(name).node()?.keys().read();
    tree.text(&format!("resource-data/{key}"))
        .map(str::to_owned)
}

#[test]
fn a_secondary_that_was_away_for_a_month_goes_on_where_it_was() {
    story(2600, async |w| {
        pair(w, DEVICE_BYTES).await;
        w.run_for(seconds(10)).await;
        w.stop("beta").await;
        let stood = key(w, "alpha", "replay-beta").expect("a position");
        a_month(w).await;
        let kept = logs(w, "alpha");
        assert!(kept.len() > 10, "{kept:?}");
        let needed = stood.split(',').next().expect("a log").to_owned();
        assert!(kept.contains(&needed), "{needed} has gone: {kept:?}");
        w.start("beta").await.expect("starts again");
        w.up_to_date("beta", "data", minutes(10))
            .await
            .expect("it follows");
        assert_eq!(w.typed_at("beta", "invalidate"), 0);
        w.must("alpha", "marsadm cron data").await;
        w.run_for(minutes(2)).await;
        w.type_at("alpha", "marsadm cron data").await;
        assert!(logs(w, "alpha").len() < 5, "{:?}", logs(w, "alpha"));
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}

#[test]
fn a_secondary_whose_logs_were_deleted_by_hand_meanwhile_says_so_and_keeps_what_it_has() {
    story(2601, async |w| {
        pair(w, DEVICE_BYTES).await;
        w.run_for(seconds(10)).await;
        w.stop("beta").await;
        let before = w.host("beta").disk("data");
        a_month(w).await;
        for log in logs(w, "alpha").iter().take(10) {
            w.must("alpha", &format!("mars tree del resource-data/{log}"))
                .await;
        }
        w.run_for(minutes(1)).await;
        w.start("beta").await.expect("starts again");
        w.run_for(minutes(3)).await;
        assert_eq!(w.view("beta", "diskstate", "data").await, "Orphan");
        let after = w.host("beta").disk("data");
        assert!(before == after, "a disk without its logs stays as it was");
        w.must("beta", "marsadm invalidate data").await;
        w.must_be_equal("data", &["alpha", "beta"]).await;
    });
}
