//! A planned handover, seen from the command line alone: what it asks for, in which order, and what it does when the old primary does not
//! follow. The other hosts are played by the test.

use std::path::Path;
use std::time::Duration;

use admin::console::Recorder;
use admin::daemon::offline::OfflineDaemon;
use admin::daemon::{Change, Daemon, DaemonError, Trigger};
use admin::marsadm;
use admin::snapshot::{Snapshot, Time};

/// How the old primary `alpha` behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    /// It steps down as soon as nobody is designated.
    StepsDown,
    /// It never answers.
    IsStuck,
}

/// The cluster around `beta`, which types the command.
struct Play {
    saved: OfflineDaemon,
    old: Old,
    /// Every value the designation has had.
    designations: Vec<String>,
}

impl Play {
    /// Two healthy members; the device on `alpha` is closed.
    fn new(old: Old) -> Play {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/trees/391cbd3814.txt");
        let text = std::fs::read_to_string(file).expect("a tree of two healthy members");
        let tree =
            Snapshot::parse(&text, "beta", Time::from_secs(1_700_000_000)).expect("a valid tree");
        let mut saved = OfflineDaemon::new(tree);
        saved.set_from_outside("resource-data/actual-alpha/open-count", "0");
        Play {
            saved,
            old,
            designations: Vec::new(),
        }
    }

    /// What the other hosts do in a second.
    fn react(&mut self) {
        let tree = self.saved.snapshot().expect("a saved tree can be read");
        let mut set = |path: &str, value: &str| self.saved.set_from_outside(path, value);
        set("actual-alpha/time", &tree.now.to_string());
        let designated = tree.text("resource-data/primary").to_owned();
        if self.old == Old::StepsDown && designated != "alpha" {
            set("resource-data/actual-alpha/is-primary", "0");
            set("resource-data/actual-alpha/if-on", "0");
        }
        if designated == "beta" {
            set("resource-data/actual-beta/is-primary", "1");
            set("resource-data/actual-beta/if-on", "1");
        }
    }
}

impl Daemon for Play {
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError> {
        self.saved.snapshot()
    }
    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        trigger: Trigger,
    ) -> Result<Time, DaemonError> {
        let designation = changes
            .iter()
            .find(|change| change.path == "resource-data/primary");
        self.designations
            .extend(designation.map(|change| change.value.clone()));
        self.saved.commit(changes, stamp, trigger)
    }
    fn trigger(&mut self, trigger: Trigger) -> Result<(), DaemonError> {
        self.saved.trigger(trigger)
    }
    fn forget(&mut self, paths: &[String]) -> Result<bool, DaemonError> {
        self.saved.forget(paths)
    }
    fn pause(&mut self, at_most: Duration) -> Result<(), DaemonError> {
        self.saved.pause(at_most)?;
        self.react();
        Ok(())
    }
    fn elapsed(&self) -> Duration {
        self.saved.elapsed()
    }
}

/// Types `line` on `beta`. Answers success, everything said, and the values the designation has had.
fn type_at_beta(play: &mut Play, line: &str) -> (bool, String) {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let mut console = Recorder::default();
    let exit = marsadm::run(&words, "beta", play, &mut console);
    (exit == 0, console.0.stdout + &console.0.stderr)
}

#[test]
fn the_designation_is_taken_away_before_it_is_given() {
    let mut play = Play::new(Old::StepsDown);
    let (success, said) = type_at_beta(&mut play, "--timeout=5 primary data");
    assert!(success, "{said}");
    assert_eq!(play.designations, ["(none)", "beta"]);
}

#[test]
fn nobody_designated_loses_against_a_real_designation_at_the_same_time() {
    let mut play = Play::new(Old::StepsDown);
    let before = play
        .saved
        .tree()
        .stamp("resource-data/primary")
        .expect("alpha is designated");
    type_at_beta(&mut play, "--timeout=5 secondary data");
    let after = play
        .saved
        .tree()
        .stamp("resource-data/primary")
        .expect("nobody is designated");
    assert_eq!(after.as_ns(), before.as_ns() + 1);
}

#[test]
fn when_the_old_primary_does_not_step_down_it_is_designated_again() {
    let mut play = Play::new(Old::IsStuck);
    let (success, said) = type_at_beta(&mut play, "--timeout=5 primary data");
    assert!(
        !success && said.contains("not reached within 5 s"),
        "{said}"
    );
    assert_eq!(play.designations, ["(none)", "alpha"]);
}

#[test]
fn different_contents_at_equal_positions_are_reported_as_split_brain() {
    let mut play = Play::new(Old::StepsDown);
    let key = "resource-data/version-000000002-beta";
    let other = play
        .saved
        .tree()
        .text(key)
        .replacen(|c: char| c.is_ascii_hexdigit(), "f", 8);
    play.saved.set_from_outside(key, &other);
    let (_, said) = type_at_beta(&mut play, "--timeout=2 view-role data");
    assert!(said.contains("SPLIT BRAIN"), "{said}");
}

#[test]
fn a_forced_takeover_needs_the_fetch_switch_off_and_designates_at_once() {
    let mut play = Play::new(Old::IsStuck);
    let (success, said) = type_at_beta(&mut play, "--timeout=5 primary --force data");
    assert!(
        !success && said.contains("todo-switch 'fetch' must be off"),
        "{said}"
    );
    assert!(play.designations.is_empty());
    play.saved
        .set_from_outside("resource-data/todo-beta/connect", "0");
    play.saved
        .set_from_outside("resource-data/actual-beta/is-copying", "0");
    let (success, said) = type_at_beta(&mut play, "--timeout=5 primary --force data");
    assert!(success, "{said}");
    assert_eq!(play.designations, ["beta"]);
}
