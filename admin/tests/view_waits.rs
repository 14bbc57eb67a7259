//! `view` against a tree that changes: wait macros look again, keys set by macros are committed at the end. And commands which wait for what is still to come.

use std::time::Duration;

use admin::console::Recorder;
use admin::daemon::Daemon;
use admin::daemon::offline::OfflineDaemon;
use admin::marsadm;
use admin::snapshot::{Snapshot, Time};
use reacting::Reacting;

mod reacting;

/// The disk is attached when somebody has waited for three seconds.
fn attach_later(saved: &mut OfflineDaemon) {
    if saved.elapsed() >= Duration::from_secs(3) {
        saved.set_from_outside("resource-r/actual-a/is-attached", "1");
    }
}

/// Runs a command line as host `a`; gives exit code, stdout, seconds waited, changed keys.
fn run(words: &[&str]) -> (u32, String, u64, String) {
    let tree = "uuid\tx\t1\tl\nips/ip-a\t10.0.0.1\t1\tl\nresource-r/data-a\t/dev/x\t1\tl\n\
                resource-r/device-a\tr\t1\tl\nresource-r/actual-a/is-attached\t0\t1\tl\n";
    let tree = Snapshot::parse(tree, "a", Time::from_secs(100)).expect("a valid tree");
    let saved = OfflineDaemon::new(tree);
    let mut daemon = Reacting {
        saved,
        react: attach_later,
    };
    let mut console = Recorder::default();
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let exit = marsadm::run(&words, "a", &mut daemon, &mut console);
    let waited = daemon.elapsed().as_secs();
    (exit, console.0.stdout, waited, daemon.saved.delta())
}

#[test]
fn a_wait_macro_ends_when_the_state_is_reached() {
    let (exit, stdout, waited, _) = run(&["view-wait-is-attach-on", "r"]);
    assert_eq!((exit, stdout.as_str(), waited), (0, "", 3));
}

#[test]
fn a_wait_inside_a_macro_repeats_the_macro_from_its_beginning() {
    let text = "--macro=before %wait{%is-attach{}}after";
    let (exit, stdout, waited, _) = run(&[text, "view", "r"]);
    assert_eq!((exit, stdout.as_str(), waited), (0, "before after\n", 3));
}

#[test]
fn a_wait_which_runs_out_of_time_fails() {
    let (exit, stdout, waited, _) = run(&["--timeout=2", "view-wait-is-attach-on", "r"]);
    assert!(exit > 0, "{stdout}");
    assert_eq!(waited, 2);
}

#[test]
fn keys_set_by_a_macro_are_committed() {
    let text = "--macro=%setlink{new}{/mars/userspace/mine}";
    let (exit, _, _, delta) = run(&[text, "view", "r"]);
    assert_eq!(exit, 0);
    assert!(delta.contains("userspace/mine\tnew\t"), "{delta}");
}

#[test]
fn a_macro_that_fails_sets_nothing() {
    let text = "--macro=%setlink{new}{/mars/userspace/mine}%die{no}";
    let (exit, _, _, delta) = run(&[text, "view", "r"]);
    assert!(exit > 0);
    assert_eq!(delta, "");
}

/// What `join-resource` says on a host which has just come to the cluster; how long it has waited.
fn join(react: fn(&mut OfflineDaemon)) -> (String, u64) {
    let tree = "uuid\tx\t1\tl\nips/ip-a\t10.0.0.1\t1\tl\nips/ip-b\t10.0.0.2\t1\tl\n\
                actual-b/time\t99.000000000\t99\tl\n";
    let tree = Snapshot::parse(tree, "a", Time::from_secs(100)).expect("a valid tree");
    let mut saved = OfflineDaemon::new(tree);
    saved.disks.insert("/dev/x".to_owned(), 1 << 20);
    let mut daemon = Reacting { saved, react };
    let mut console = Recorder::default();
    let words = ["join-resource", "r", "/dev/x"].map(str::to_owned);
    marsadm::run(&words, "a", &mut daemon, &mut console);
    (console.0.stderr, daemon.elapsed().as_secs())
}

fn sign_of_life(saved: &mut OfflineDaemon) {
    let now = format!("{}.000000000", 100 + saved.elapsed().as_secs());
    saved.set_from_outside("actual-b/time", &now);
}

#[test]
fn a_resource_that_arrives_behind_the_sign_of_life_of_its_host_can_be_joined() {
    let (said, _) = join(|saved| {
        sign_of_life(saved);
        if saved.elapsed() >= Duration::from_secs(3) {
            saved.set_from_outside("resource-r/size", "1048576");
        }
    });
    // It has been found: the next thing that is missing is its primary.
    assert!(said.contains("noone is designated as primary"), "{said}");
    let (said, waited) = join(sign_of_life);
    assert!(said.contains("resource 'r' does not exist"), "{said}");
    assert!(waited < 10, "{waited} s");
}
