//! `mars tree …` and `mars cluster token` against a real daemon, and against the state directory it leaves behind.

use admin::demo::cluster::Ran;

use crate::lab::Lab;

/// Runs `mars` on the only host: exit code and what it printed.
fn mars(lab: &Lab, line: &[&str]) -> (Option<i32>, String) {
    let Ran {
        stdout,
        stderr,
        code,
    } = lab.hosts[0].mars(line).expect("mars runs");
    (code, stdout + &stderr)
}

fn check(lab: &Lab, line: &[&str], code: i32, printed: &str) {
    assert_eq!(
        mars(lab, line),
        (Some(code), printed.to_owned()),
        "{line:?}"
    );
}

/// What bash offers behind these words, asked of the running node.
fn completed(lab: &Lab, function: &str, words: &[&str]) -> String {
    let mars = env!("CARGO_BIN_EXE_mars");
    let dir = std::path::Path::new(mars).parent().expect("a directory");
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").expect("PATH"));
    let script = format!(
        "source <(mars completions bash); COMP_WORDS=({}); COMP_CWORD={}; {function}; echo \"${{COMPREPLY[*]}}\"",
        words.join(" "),
        words.len() - 1
    );
    let out = std::process::Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .env("MARS_DIR", lab.hosts[0].dir())
        .output()
        .expect("bash runs");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[test]
fn the_key_tree_is_read_and_written_by_short_commands() {
    let mut lab = Lab::new(&["alpha"], 1 << 20);
    check(&lab, &["tree", "get", "userspace/x"], 1, "");
    check(
        &lab,
        &["tree", "set", "/mars/userspace/x", "two words"],
        0,
        "",
    );
    check(&lab, &["tree", "get", "userspace/x"], 0, "two words\n");
    check(&lab, &["tree", "set", "userspace/dir/y", "1"], 0, "");
    check(&lab, &["tree", "ls", "userspace"], 0, "dir/\nx\n");
    check(
        &lab,
        &["tree", "ls", "-r", "userspace"],
        0,
        "userspace/dir/y\t1\nuserspace/x\ttwo words\n",
    );
    let (_, json) = mars(&lab, &["tree", "stat", "userspace/x", "--json"]);
    let stat: serde_json::Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(
        (stat["value"].as_str(), stat["writer"].as_str()),
        (Some("two words"), Some("alpha"))
    );
    check(&lab, &["tree", "del", "userspace/x"], 0, "");
    check(&lab, &["tree", "get", "userspace/x"], 1, "");
    let (_, stat) = mars(&lab, &["tree", "stat", "userspace/x"]);
    assert!(stat.starts_with("value\t.deleted\nstamp\t"), "{stat}");
    let (code, said) = mars(&lab, &["tree", "set", "userspace/../uuid", "x"]);
    assert!(
        code == Some(2) && said.contains("expected only real names"),
        "{said}"
    );
    let (code, said) = mars(&lab, &["tree", "set", "uuid", "nonsense"]);
    assert!(
        code == Some(2) && said.contains("expected a cluster id"),
        "{said}"
    );
    let (code, token) = mars(&lab, &["cluster", "token", "--ttl", "5m", "--uses", "2"]);
    assert!(
        code == Some(0) && token.trim().lines().count() == 1,
        "{token}"
    );
    let (_, names) = mars(&lab, &["words", "names"]);
    assert_eq!(names, "all\nalpha\n");
    assert_eq!(
        completed(&lab, "_marsadm", &["marsadm", "view", "al"]),
        "all alpha"
    );
    let line = ["mars-status", "--resource", "alp"];
    assert_eq!(completed(&lab, "_mars_status", &line), "alpha");
    lab.hosts[0].stop().expect("clean stop");
    check(&lab, &["tree", "get", "userspace/dir/y"], 0, "1\n");
    let (code, said) = mars(&lab, &["tree", "set", "userspace/x", "1"]);
    assert!(code == Some(2) && said.contains("is not running"), "{said}");
    let (_, dump) = mars(&lab, &["tree", "dump"]);
    let line = dump
        .lines()
        .find(|line| line.starts_with("userspace/dir/y\t"))
        .expect("the key is stored");
    assert_eq!(line.split('\t').count(), 4, "{line}");
}

#[test]
fn a_node_is_made_once_and_says_what_is_missing() {
    let mut lab = Lab::new(&["alpha"], 1 << 20);
    lab.refused(0, &["--host=alpha", "create-cluster"]);
    lab.hosts[0].stop().expect("clean stop");
    let said = lab.refused(0, &["--host=alpha", "create-cluster"]);
    assert!(said.contains("cluster is already created"), "{said}");
    let said = lab.refused(0, &["join-cluster", "beta"]);
    assert!(said.contains("belongs to the cluster"), "{said}");
    let said = lab.refused(0, &["up", "data"]);
    assert!(said.contains("is not running"), "{said}");
    lab.ok(0, &["view", "all"]);
}
