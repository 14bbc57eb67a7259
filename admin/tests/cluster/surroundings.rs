//! What surrounds a command on a real node: hooks, the system log, the owner and mode of the state directory, other users, what
//! `mars-status` hears of the daemon.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::lab::Lab;

/// The user nobody is.
const NOBODY: u32 = 65534;

struct Desk {
    lab: Lab,
    hooks: tempfile::TempDir,
}

impl Desk {
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mars"));
        command.args(words).env("MARS_DIR", self.lab.hosts[0].dir());
        command.env("MARS_PATH", self.hooks.path());
        command.output().expect("mars runs")
    }

    fn marsadm(&self, line: &str) -> (bool, String) {
        let words = std::iter::once("marsadm").chain(line.split_whitespace());
        let out = self.run(&words.collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        (out.status.success(), said.into_owned())
    }

    fn script(&self, name: &str, body: &str) -> PathBuf {
        let file = self.hooks.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).expect("written");
        set_mode(&file, 0o700);
        file
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("own file");
}

fn desk() -> Desk {
    let lab = Lab::new(&["alpha"], 1 << 20);
    lab.create_resource();
    Desk {
        lab,
        hooks: tempfile::tempdir().expect("a temporary directory"),
    }
}

#[test]
fn hooks_run_around_a_command_and_may_refuse_it() {
    let desk = desk();
    let heard = desk.hooks.path().join("heard");
    let tell =
        |name: &str| desk.script(name, &format!("echo {name} \"$@\" >> {}", heard.display()));
    for name in [
        "hook-pre",
        "hook-post-pause-sync",
        "hook-all-pre",
        "hook-all-post",
    ] {
        tell(name);
    }
    let (ok, said) = desk.marsadm("pause-sync all");
    assert!(ok, "{said}");
    let lines = || std::fs::read_to_string(&heard).unwrap_or_default();
    assert_eq!(
        lines(),
        "hook-all-pre pause-sync all\nhook-pre pause-sync data\nhook-post-pause-sync pause-sync data\nhook-all-post pause-sync all\n"
    );
    for line in [
        "pause-sync data --dry-run",
        "view data",
        "get-link /mars/uuid",
    ] {
        assert!(desk.marsadm(line).0, "{line}");
    }
    assert_eq!(lines().lines().count(), 4, "{}", lines());

    let guard = desk.script("hook-pre-pause-fetch", "exit 3");
    let fetches = || {
        desk.lab.hosts[0]
            .key("resource-data/todo-alpha/connect")
            .expect("key")
    };
    let (ok, said) = desk.marsadm("pause-fetch data");
    assert!(!ok && said.contains("was refused by hook"), "{said}");
    assert_eq!(fetches().as_deref(), Some("1"));
    set_mode(&guard, 0o777);
    let (ok, said) = desk.marsadm("pause-fetch data");
    assert!(ok && said.contains("others may write it"), "{said}");
    set_mode(&guard, 0o700);
    let (ok, said) = desk.marsadm("resume-fetch data --force");
    assert!(ok, "{said}");
    let (ok, said) = desk.marsadm("pause-fetch data --force");
    assert!(ok && said.contains("ended with exit status: 3"), "{said}");
    assert_eq!(fetches().as_deref(), Some("0"));
}

#[test]
fn a_command_speaks_to_the_system_log_and_closes_its_directory_to_others() {
    let desk = desk();
    let log = desk.hooks.path().join("log");
    let logger = desk.script(
        "logger",
        &format!("echo \"$@\" > {0}; cat >> {0}", log.display()),
    );
    let (ok, said) = desk.marsadm(&format!("pause-sync data --logger={}", logger.display()));
    assert!(ok, "{said}");
    assert_eq!(
        std::fs::read_to_string(&log).expect("logged"),
        "-t marsadm\n(cmd: pause-sync) successfully started pause-sync on resource data\n"
    );

    let dir = desk.lab.hosts[0].dir();
    set_mode(dir, 0o750);
    let (ok, said) = desk.marsadm("pause-sync data");
    assert!(ok, "{said}");
    assert!(
        said.contains("WARNING: /mars has the mode 0750 instead of 0700\n"),
        "{said}"
    );
    assert!(
        said.contains("WARNING: /mars has the mode 0700 now\n"),
        "{said}"
    );
    assert!(!desk.marsadm("pause-sync data").1.contains("WARNING"));
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let desk = desk();
    let program = desk.hooks.path().join("mars");
    std::fs::copy(env!("CARGO_BIN_EXE_mars"), &program).expect("copied");
    for (path, mode) in [(desk.hooks.path(), 0o755), (&program, 0o755)] {
        set_mode(path, mode);
    }
    for line in ["pause-sync data", "leave-cluster", "view data"] {
        let mut command = Command::new(&program);
        command.arg("marsadm").args(line.split_whitespace());
        command
            .env("MARS_DIR", desk.lab.hosts[0].dir())
            .current_dir("/");
        let out = command.uid(NOBODY).gid(NOBODY).output().expect("mars runs");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            !out.status.success() && said.starts_with("DYING: only root, or whoever owns"),
            "{line}: {said}"
        );
    }
    let sync = desk.lab.hosts[0]
        .key("resource-data/todo-alpha/sync")
        .expect("key");
    assert_eq!(sync.as_deref(), Some("1"));
}

#[test]
fn mars_status_shows_what_the_daemon_tells() {
    let desk = desk();
    desk.lab.wait_up_to_date(0);
    let out = desk.run(&["status", "--system", "--debug"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let port = desk.lab.hosts[0]
        .listen()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    for part in [
        "-> Memory Limit is set to 1 gb, actually used ",
        "-> FreeSpaceLimit LogRotate is set to 4 gb,",
        "-> Network-IO-Timeout is set to ",
        "Fast Full Sync is actually on, AIO Sync is actually on,",
        &format!("Mars Port is set to {port} ,"),
        "-> Debug for resource-data\n",
        "logger runs: ",
        "LamportClockDifferenz 0.0",
        "-> Copy Read: Prio is now unused, Flying IO is actually null\n",
    ] {
        assert!(said.contains(part), "no '{part}' in\n{said}");
    }
}
