//! Several resources with one command: one after the other, each in a process of its own, and step by step at a terminal.

use std::io::Write;
use std::process::{Command, Stdio};

use admin::demo::cluster::make_disk;

use crate::lab::Lab;

/// One host with the resources `data` and `mail`.
fn lab() -> Lab {
    let lab = Lab::new(&["alpha"], 1 << 20);
    lab.create_resource();
    let disk = lab.disk(0).with_extension("mail");
    make_disk(&disk, 1 << 20).expect("disk");
    lab.ok(0, &["create-resource", "mail", &disk.display().to_string()]);
    for res in ["data", "mail"] {
        lab.ok(0, &["wait-resource", res, "is-device-on"]);
    }
    lab
}

fn switch(lab: &Lab, res: &str, name: &str) -> Option<String> {
    let key = format!("resource-{res}/todo-alpha/{name}");
    lab.hosts[0].key(&key).expect("a daemon")
}

#[test]
fn resources_are_worked_on_in_processes_of_their_own() {
    let lab = lab();
    for parallel in ["--parallel", "--parallel=1"] {
        let ran = lab.hosts[0].marsadm(&[parallel, "pause-sync", "all"]);
        let ran = ran.expect("run marsadm");
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        for res in ["data", "mail"] {
            let line = format!("CHILD {res}: successfully started pause-sync on resource {res}\n");
            assert!(ran.stdout.contains(&line), "{}", ran.stdout);
            for part in ["starting CHILD ", "terminated successfully"] {
                let told = |line: &&str| line.starts_with(&format!("RESOURCE {res} "));
                let mut lines = ran.stderr.lines().filter(told);
                assert!(lines.any(|line| line.contains(part)), "{}", ran.stderr);
            }
            assert_eq!(switch(&lab, res, "sync").as_deref(), Some("0"));
        }
        assert!(ran.stderr.starts_with("FORKING (error_count=0)\n"));
        lab.ok(0, &["resume-sync", "data,mail"]);
    }
    // One at a time: the second one begins when the first one has ended.
    let ran = lab.hosts[0].marsadm(&["--parallel=1", "pause-sync", "data,mail"]);
    let said = ran.expect("run marsadm").stderr;
    let at = |part: &str| {
        said.find(part)
            .unwrap_or_else(|| panic!("no '{part}' in {said}"))
    };
    assert!(at("terminated successfully") < at("RESOURCE mail starting"));
    // Each child that fails counts, and the others go on.
    let ran = lab.hosts[0].marsadm(&["--parallel", "resume-sync", "data,nosuch"]);
    let ran = ran.expect("run marsadm");
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stderr
            .contains("CHILD nosuch: DYING: resource 'nosuch' does not exist")
    );
    assert_eq!(switch(&lab, "data", "sync").as_deref(), Some("1"));
}

/// `marsadm` at a terminal where somebody types `typed`.
fn at_terminal(lab: &Lab, line: &str, typed: &str) -> (bool, String) {
    let marsadm = format!("{} marsadm {line}", env!("CARGO_BIN_EXE_mars"));
    let mut terminal = Command::new("script")
        .args(["-q", "-e", "-c", &marsadm, "/dev/null"])
        .env("MARS_DIR", lab.hosts[0].dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a terminal");
    let mut keyboard = terminal.stdin.take().expect("a pipe");
    keyboard.write_all(typed.as_bytes()).expect("typed");
    let out = terminal.wait_with_output().expect("it ends");
    drop(keyboard);
    let said = String::from_utf8_lossy(&out.stdout).replace('\r', "");
    (out.status.success(), said)
}

#[test]
fn a_single_step_waits_for_somebody_at_the_terminal() {
    let lab = lab();
    let (ok, said) = at_terminal(&lab, "--singlestep up data", "\n\n\n");
    assert!(ok, "{said}");
    for head in ["check preconditions", "switch state", "wait for effect"] {
        assert!(said.contains(head), "no '{head}' in {said}");
    }
    assert_eq!(said.matches("press RETURN to go on").count(), 3, "{said}");
    // Without a terminal nobody can press it, and nothing has happened.
    let said = lab.refused(0, &["--singlestep", "down", "data"]);
    assert!(said.contains("--singlestep needs a terminal"), "{said}");
    assert_eq!(switch(&lab, "data", "attach").as_deref(), Some("1"));
}
