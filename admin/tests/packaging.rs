//! What a package is built from: man pages and completions are printed by the program itself.

use assert_cmd::Command;

fn printed(words: &[&str]) -> String {
    let mut command = Command::cargo_bin("mars").expect("the binary is built with the tests");
    let out = command
        .args(words)
        .env_remove("MARS_DIR")
        .assert()
        .success();
    String::from_utf8(out.get_output().stdout.clone()).expect("text")
}

#[test]
fn every_man_page_is_printed_and_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    printed(&["man", &dir.path().display().to_string()]);
    for (page, file, says) in [
        ("mars", "mars.1", "Asynchronous block replication"),
        ("marsadm", "marsadm.8", "pause\\-fetch"),
        ("mars-status.8", "mars-status.8", "mars\\-status"),
        ("mars.toml", "mars.toml.5", "logrot_auto_gb"),
    ] {
        let text = printed(&["man", "--print", page]);
        assert!(
            text.contains(".TH") && text.contains(says),
            "{page}: {text}"
        );
        let written = std::fs::read_to_string(dir.path().join(file)).expect("written");
        assert!(written.contains(says), "{file}");
    }
    let mut command = Command::cargo_bin("mars").expect("the binary");
    command
        .args(["man", "--print", "nosuch"])
        .assert()
        .failure();
}

#[test]
fn completions_exist_for_every_shell_and_both_command_lines() {
    for (shell, hook) in [
        ("bash", "complete -F _marsadm marsadm"),
        ("zsh", "compdef _marsadm marsadm"),
        ("fish", "complete -c marsadm"),
    ] {
        let script = printed(&["completions", shell]);
        assert!(
            script.contains(hook)
                && script.contains("mars words")
                && script.contains("status-options"),
            "{shell}"
        );
    }
    assert!(
        printed(&["words", "commands"])
            .lines()
            .any(|word| word == "pause-fetch")
    );
    assert!(
        printed(&["words", "options"])
            .lines()
            .any(|word| word == "--timeout=")
    );
}

#[test]
fn the_bash_script_is_understood_by_bash() {
    let script = printed(&["completions", "bash"]);
    let check = std::process::Command::new("bash")
        .args(["-n", "-c", &script])
        .output();
    let check = check.expect("bash runs");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
}
