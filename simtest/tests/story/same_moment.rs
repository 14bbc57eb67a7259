//! Two operators press the return key in the same nanosecond. Everybody keeps the same of both values (requirement L-A5).

use simtest::promises::trees;

use crate::story::{seconds, story};

#[test]
fn of_two_values_set_in_the_same_moment_all_hosts_keep_the_same_one() {
    story(2700, async |w| {
        let names = ["alpha", "beta", "gamma"];
        w.cluster(&names).await.expect("cluster");
        w.run_for(seconds(10)).await;
        for round in 0..10 {
            for name in ["beta", "alpha"] {
                let set = format!("mars tree set userspace/note {round}-of-{name}");
                w.type_later(name, &set);
            }
            w.run_for(seconds(3)).await;
            trees::must_converge(w).await.expect("one value everywhere");
            let note = |name: &str| {
                let node = w.host(name).node().expect("runs");
                let tree = node.keys().read();
                tree.text("userspace/note").map(str::to_owned)
            };
            let kept = note("gamma");
            assert!(kept.is_some() && kept == note("alpha") && kept == note("beta"));
        }
    });
}
