//! Rotation and deletion under load, a damaged copy of a log, and many secondaries.

use std::path::PathBuf;

use crate::lab::{Lab, RES};
use crate::writer::Writer;

const SIZE: u64 = 8 << 20;

#[test]
fn four_secondaries_follow_through_rotations_and_logs_nobody_needs_go_away() {
    let mut lab = Lab::new(&["alpha", "beta", "gamma", "delta", "epsilon"], SIZE);
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 9);
    let device = lab.device(0);
    for round in 1..=4 {
        let goal = round * 300;
        let writing = writer.run(&device, |n| n < goal);
        lab.runtime.block_on(writing).expect("write");
        lab.ok(0, &["log-rotate", RES]);
        lab.wait(&format!("rotation {round} has happened"), || {
            lab.replay_pos(0).is_some_and(|r| r.log.seq > round as u64)
        });
    }
    lab.runtime
        .block_on(writer.run(&device, |n| n < 1500))
        .expect("write");
    lab.runtime.block_on(device.close()).expect("close");
    for i in 1..lab.hosts.len() {
        lab.wait_replayed(0, i);
        lab.wait_up_to_date(i);
    }
    lab.ok(0, &["--window=0", "--force", "log-delete-all", RES]);
    for i in 0..lab.hosts.len() {
        lab.wait(
            &format!("{} has deleted old logs", lab.hosts[i].name()),
            || {
                !logs_of(&lab, i)
                    .iter()
                    .any(|l| l.starts_with("log-000000001-"))
            },
        );
    }
    let want = writer.picture(writer.count());
    lab.stop_and_compare(&want);
}

#[test]
fn a_damaged_copy_of_a_log_is_found_and_fetched_again() {
    let mut lab = Lab::new(&["alpha", "beta"], SIZE);
    lab.replicate_everywhere();
    let mut writer = Writer::new(SIZE, 10);
    let device = lab.device(0);
    lab.runtime
        .block_on(writer.run(&device, |n| n < 100))
        .expect("write");
    lab.wait_replayed(0, 1);
    lab.ok(1, &["pause-replay", RES]);
    lab.runtime
        .block_on(writer.run(&device, |n| n < 400))
        .expect("write");
    lab.runtime.block_on(writer.flush(&device)).expect("flush");
    let copy = lab.hosts[1]
        .dir()
        .join(format!("resource-{RES}/log-000000001-alpha"));
    lab.wait("beta has fetched what was written", || {
        std::fs::metadata(&copy).is_ok_and(|m| m.len() > 300 * 4096)
    });
    lab.hosts[1].stop().expect("stop");
    damage(&copy);
    lab.hosts[1].start().expect("start");
    lab.ok(1, &["resume-replay", RES]);
    lab.wait_replayed(0, 1);
    lab.wait_up_to_date(1);
    let said = std::fs::read_to_string(lab.hosts[1].dir().join("daemon.log")).expect("log");
    assert!(
        said.contains("replaced a damaged copy"),
        "nothing was fetched again:\n{said}"
    );
    lab.runtime.block_on(device.close()).expect("close");
    let want = writer.picture(writer.count());
    lab.stop_and_compare(&want);
}

/// Flips a bit in the third quarter of a file, where nothing has been replayed yet.
fn damage(path: &PathBuf) {
    let mut bytes = std::fs::read(path).expect("read the log");
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("write the log");
}

fn logs_of(lab: &Lab, i: usize) -> Vec<String> {
    let dir = lab.hosts[i].dir().join(format!("resource-{RES}"));
    let entries = std::fs::read_dir(dir).expect("resource directory");
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect()
}
