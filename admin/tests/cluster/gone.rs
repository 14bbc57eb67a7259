//! A host dies for good, and another one takes it out of the cluster.

use crate::lab::Lab;

#[test]
fn a_dead_host_is_removed_by_another_one_and_nobody_waits_for_it_any_more() {
    let mut lab = Lab::new(&["alpha", "beta", "gamma"], 8 << 20);
    lab.replicate_everywhere();
    lab.hosts[2].kill().expect("it dies");
    let said = lab.refused(
        0,
        &["--host=gamma", "--timeout=1", "leave-resource", "data"],
    );
    assert!(
        said.contains("ATTENTION: acting as if I were host 'gamma'"),
        "{said}"
    );
    assert!(said.contains("has not become stable"), "{said}");
    for command in [
        &["down", "data"][..],
        &["leave-resource", "data"],
        &["leave-cluster"],
    ] {
        let words: Vec<&str> = ["--host=gamma", "--force", "--timeout=5"]
            .iter()
            .chain(command)
            .copied()
            .collect();
        lab.ok(0, &words);
    }
    for host in [0, 1] {
        lab.wait_view(host, "count-resource-peers", |count| count == "2");
        lab.wait_view(host, "count-configured-peers", |count| count == "2");
        lab.wait_up_to_date(host);
    }
    let said = lab.ok(0, &["--timeout=30", "wait-cluster"]);
    assert!(said.contains("1/1 peer(s) seem to be alive"), "{said}");
    // Its logs would hold up everybody if it still counted.
    lab.ok(0, &["--timeout=30", "log-rotate", "data"]);
    lab.ok(0, &["--timeout=30", "cron"]);
    lab.ok(1, &["--timeout=60", "primary", "data"]);
    lab.wait_view(1, "role", |role| role == "Primary");
}
