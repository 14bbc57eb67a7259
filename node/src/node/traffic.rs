//! How fast may this host send, by class of traffic?
//!
//! `mars.toml` says it for a start, keys say it while the daemon runs: `defaults-<host>/log-ratelimit-kb` for one host,
//! `defaults/log-ratelimit-kb` for all, the same with `sync-`; KiB per second to all peers together, 0 for no limit. The
//! exchange of keys is never limited.

use std::collections::BTreeMap;

use transport::Class;
use tree::{Host, Tree};

use crate::config::NodeConfig;

/// Prefix of the keys which are read here.
pub(super) const KEYS: &str = "defaults";

/// Limits of the classes that have one, in bytes per second; `None` lifts it.
pub(super) fn limits(tree: &Tree, here: &Host, config: &NodeConfig) -> [(Class, Option<u64>); 2] {
    let limit = |class: Class, name: &str, configured: Option<u64>| {
        let of_host = tree.text(&format!("defaults-{here}/{name}"));
        let said = of_host.or_else(|| tree.text(&format!("defaults/{name}")));
        // A text that is no number limits nothing and lifts nothing.
        let said = said.and_then(|text| text.trim().parse::<u64>().ok());
        let rate = said.map_or(configured, |kib| Some(kib.saturating_mul(1024)));
        (class, rate.filter(|rate| *rate > 0))
    };
    [
        limit(Class::Log, "log-ratelimit-kb", config.log_rate),
        limit(Class::Sync, "sync-ratelimit-kb", config.sync_rate),
    ]
}

/// Which of the `limits` differ from those `in_force`, which is brought up to date. A class that is not in it has no limit.
pub(super) fn changes(
    in_force: &mut BTreeMap<Class, u64>,
    limits: [(Class, Option<u64>); 2],
) -> Vec<(Class, Option<u64>)> {
    let mut changed = Vec::new();
    for (class, rate) in limits {
        let before = match rate {
            Some(rate) => in_force.insert(class, rate),
            None => in_force.remove(&class),
        };
        if before != rate {
            changed.push((class, rate));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Entry, Issue, Path, Stamp, Value};

    fn check(keys: &[(&str, &str)], expected: [Option<u64>; 2]) {
        let here = Host::new("beta").expect("name");
        let mut tree = Tree::new();
        for (path, text) in keys {
            let entry = Entry {
                value: Value::text(text).expect("value"),
                stamp: Stamp::new(1, &here),
                issue: Issue {
                    nr: 1,
                    writer: here.clone(),
                },
                lazy: false,
            };
            tree.merge(Path::new(path).expect("path"), entry);
        }
        let config = NodeConfig {
            log_rate: Some(7),
            ..NodeConfig::default()
        };
        let [(_, log), (_, sync)] = limits(&tree, &here, &config);
        assert_eq!([log, sync], expected);
    }

    #[test]
    fn a_key_of_the_host_is_stronger_than_one_for_all_and_both_than_the_file() {
        let (all, own) = (
            "defaults/log-ratelimit-kb",
            "defaults-beta/log-ratelimit-kb",
        );
        check(&[], [Some(7), None]);
        check(&[(all, "2")], [Some(2048), None]);
        check(&[(all, "2"), (own, "3")], [Some(3072), None]);
        check(&[(all, "2"), (own, "0")], [None, None]);
        check(&[("defaults-alpha/log-ratelimit-kb", "2")], [Some(7), None]);
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        check(&[("defaults/log-ratelimit-kb", "fast")], [Some(7), None]);
        check(&[("defaults/sync-ratelimit-kb", "-1")], [Some(7), None]);
    }

    #[test]
    fn a_limit_counts_when_it_is_set_changed_or_lifted() {
        let mut in_force = BTreeMap::new();
        let mut changed =
            |log, sync| changes(&mut in_force, [(Class::Log, log), (Class::Sync, sync)]);
        assert_eq!(changed(None, None), []);
        assert_eq!(changed(Some(7), None), [(Class::Log, Some(7))]);
        assert_eq!(changed(Some(7), None), []);
        assert_eq!(
            changed(Some(8), Some(1)),
            [(Class::Log, Some(8)), (Class::Sync, Some(1))]
        );
        assert_eq!(changed(None, Some(1)), [(Class::Log, None)]);
        assert_eq!(changed(None, Some(1)), []);
    }
}
