//! After healing all trees become equal, entries and hashes, and no deleted key comes back (requirements
//! L-A1, L-A5).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::World;

/// Heartbeats go on for ever, so trees are equal only between two of them.
const LIMIT: Duration = Duration::from_secs(90);

/// Waits until all running hosts have the same tree.
///
/// # Errors
/// Which entries differ after a bounded time.
pub async fn must_converge(w: &World) -> Result<(), String> {
    let deadline = w.now() + LIMIT;
    while w.now() < deadline {
        if digests(w).len() <= 1 {
            return Ok(());
        }
        w.run_for(Duration::from_millis(37)).await;
    }
    Err(format!("trees do not become equal: {}", differences(w)))
}

fn digests(w: &World) -> BTreeSet<[u8; 16]> {
    let nodes = w.hosts.values().filter_map(|host| host.node());
    nodes.map(|node| node.keys().read().digest()).collect()
}

fn differences(w: &World) -> String {
    let trees: Vec<_> = w
        .hosts
        .iter()
        .filter_map(|(n, h)| Some((n, h.node()?.keys().read())))
        .collect();
    let Some((first, tree)) = trees.first() else {
        return String::new();
    };
    let mut text = String::new();
    for (name, other) in &trees[1..] {
        let paths: BTreeSet<&str> = tree
            .iter()
            .chain(other.iter())
            .map(|(p, _)| p.as_str())
            .collect();
        for path in paths {
            let (a, b) = (tree.entry(path), other.entry(path));
            if a != b {
                text += &format!("{path}: {first} has {a:?}, {name} has {b:?}; ");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_hosts_that_do_not_hear_each_other_are_told_apart() {
        crate::world::run(2890, false, |mut w| async move {
            w.cluster(&["alpha", "beta"]).await.expect("cluster");
            assert_eq!(must_converge(&w).await, Ok(()));
            let [alpha, beta] = ["alpha", "beta"].map(|name| w.host(name).name.clone());
            w.net.cut(&alpha, &beta);
            w.must("alpha", "mars tree set defaults/sync-limit 7").await;
            let error = must_converge(&w).await.expect_err("beta does not know it");
            assert!(error.contains("defaults/sync-limit"), "{error}");
            w.net.heal();
            assert_eq!(must_converge(&w).await, Ok(()));
        });
    }
}
