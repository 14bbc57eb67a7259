//! What the tabulator key offers in bash, zsh and fish beside a running node: commands, options, resources, hosts.
//!
//! In fish the shell itself is asked; in bash and zsh our functions are called with what the shell would hand them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::clients::have;
use crate::lab::{Lab, RES};

struct Desk {
    lab: Lab,
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Desk {
        let lab = Lab::new(&["alpha"], 1 << 20);
        lab.create_resource();
        let dir = tempfile::tempdir().expect("a temporary directory");
        Desk { lab, dir }
    }

    /// The completion script for a shell, in a file.
    fn script(&self, shell: &str) -> PathBuf {
        let made = Command::new(env!("CARGO_BIN_EXE_mars"))
            .args(["completions", shell])
            .output()
            .expect("mars runs");
        assert!(made.status.success(), "{made:?}");
        let file = self.dir.path().join(shell);
        std::fs::write(&file, made.stdout).expect("written");
        file
    }

    /// The lines which a shell prints for this program of its own.
    fn run(&self, shell: &str, program: &str) -> Vec<String> {
        let mars = PathBuf::from(env!("CARGO_BIN_EXE_mars"));
        let bin = mars.parent().expect("a directory").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(shell);
        if shell == "zsh" {
            command.arg("-f");
        }
        let ran = command
            .args(["-c", program])
            .env("PATH", format!("{bin}:{path}"))
            .env("HOME", self.dir.path())
            .env("MARS_DIR", self.lab.hosts[0].dir())
            .output()
            .expect("the shell runs");
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() && errors.is_empty(),
            "{shell}: {errors}"
        );
        let lines = String::from_utf8_lossy(&ran.stdout);
        lines.split_whitespace().map(str::to_owned).collect()
    }
}

/// What each shell offers behind these words, the last of which is being typed.
fn offers(desk: &Desk, shell: &str, words: &[&str]) -> Vec<String> {
    let script = desk.script(shell).display().to_string();
    let function = match words[0] {
        "marsadm" => "_marsadm",
        _ => "_mars_status",
    };
    let last = words[words.len() - 1];
    let list = words.iter().map(|word| format!("'{word}'"));
    let list = list.collect::<Vec<_>>().join(" ");
    let program = match shell {
        "bash" => format!(
            ". {script}; COMP_WORDS=({list}); COMP_CWORD={}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.len() - 1
        ),
        "zsh" => format!(
            "compdef() {{ }}; _mars() {{ }}; . {script}; words=({list}); CURRENT={}; PREFIX='{last}'; compadd() {{ shift; print -l -- $@ }}; {function}",
            words.len()
        ),
        _ => format!(
            ". {script}; complete -C '{}' | string split -f 1 \\t; true",
            words.join(" ")
        ),
    };
    let offered = desk.run(shell, &program);
    // The shell does this by itself with what `compadd` is given.
    let fits = offered.into_iter().filter(|word| word.starts_with(last));
    fits.collect::<BTreeSet<_>>().into_iter().collect()
}

fn check(shell: &str) {
    if !have(shell) {
        return;
    }
    let desk = Desk::new();
    let one = |words: &[&str], wanted: &[&str]| {
        assert_eq!(offers(&desk, shell, words), wanted, "{shell}: {words:?}");
    };
    one(
        &["marsadm", "resume-r"],
        &[
            "resume-replay",
            "resume-replay-global",
            "resume-replay-local",
        ],
    );
    one(&["marsadm", "up", &RES[..2]], &[RES]);
    one(&["marsadm", "--force", "up", &RES[..2]], &[RES]);
    one(&["marsadm", "wait-cluster", "al"], &["all", "alpha"]);
    one(&["marsadm", "up", "--dry"], &["--dry-run"]);
    one(&["mars-status", "--resource", &RES[..2]], &[RES]);
    one(&["mars-status", "--hist"], &["--history"]);
}

#[test]
fn bash_completes_commands_and_names_of_the_running_node() {
    check("bash");
}

#[test]
fn zsh_completes_commands_and_names_of_the_running_node() {
    check("zsh");
}

#[test]
fn fish_completes_commands_and_names_of_the_running_node() {
    check("fish");
}
