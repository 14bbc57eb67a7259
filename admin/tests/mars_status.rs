//! `mars-status` as a program: exit codes, refusals, and that it never writes.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use assert_cmd::Command;

fn mars_status(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("mars").expect("the binary is built with the tests");
    command
        .arg("status")
        .args(args)
        .env("TZ", "UTC")
        .env_remove("MARS_DIR");
    command
}

fn tree_file() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/trees");
    dir.join("391cbd3814.txt").display().to_string()
}

#[test]
fn a_saved_tree_is_reported_and_not_touched() {
    let file = tree_file();
    let before = std::fs::read(&file).expect("tree");
    let args = ["--tree-file", &file, "--host", "beta", "--now=1700000000"];
    let out = mars_status(&args)
        .args(["--history", "--status", "--system", "--debug", "--ascii"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(out).expect("text");
    assert!(text.starts_with("MARS Status - beta, "), "{text}");
    assert!(
        text.contains("-> check resource data, with 0.001TB, Primary Node is alpha"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no colours outside a terminal");
    assert!(!text.contains('═'), "no box characters with --ascii");
    assert_eq!(std::fs::read(&file).expect("tree"), before);
}

#[test]
fn json_is_json() {
    let file = tree_file();
    let args = [
        "--tree-file",
        &file,
        "--host",
        "beta",
        "--now=1700000000",
        "--json",
    ];
    let out = mars_status(&args)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(json["resources"][0]["nodes"][1]["host"], "alpha");
}

#[test]
fn what_cannot_be_done_is_said_and_fails() {
    let file = tree_file();
    for (args, said) in [
        (&["--nosuch"][..], "unknown option '--nosuch'"),
        (&["data"][..], "unknown option 'data'"),
        (&["--interval", "0"][..], "is not a number of seconds"),
        (&["--tree-file", &file][..], "--host="),
        (
            &["--tree-file", "/nonexistent/tree", "--host=a"][..],
            "cannot read '/nonexistent/tree'",
        ),
        (
            &["--tree-file", &file, "--host=beta", "--resource=nosuch"][..],
            "resource 'nosuch' does not exist",
        ),
        (&["--dir", "/nonexistent"][..], ""),
    ] {
        let out = mars_status(args).assert().failure().get_output().clone();
        let stderr = String::from_utf8(out.stderr).expect("text");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_need_no_daemon() {
    mars_status(&["--help"]).assert().success();
    mars_status(&["-h", "--history"]).assert().success();
}

#[test]
fn an_interval_repeats_until_somebody_interrupts_and_leaves_the_terminal_clean() {
    let file = tree_file();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mars"))
        .args(["status", "--interval=1", "--tree-file", &file])
        .args(["--host=beta", "--now=1700000000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mars runs");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut seen = String::new();
    let mut part = [0; 4096];
    while seen.matches("MARS Status - beta").count() < 2 {
        let count = stdout.read(&mut part).expect("it goes on");
        assert!(count > 0, "it ended by itself: {seen}");
        seen.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    stdout.read_to_string(&mut seen).expect("text");
    assert!(child.wait().expect("it ends").success());
    assert!(seen.starts_with("\x1b[H\x1b[2J"), "{seen:?}");
    assert!(seen.ends_with("\x1b[0m\x1b[H\x1b[2J"), "{seen:?}");
}
