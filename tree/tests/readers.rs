//! Readers of many keys do not ask the key table for each; they must say what it says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tree::view::ResourceView;
use tree::{Entry, Host, Issue, Key, LogName, Path, Resource, Stamp, Tree, Value};

fn tree(keys: &[String], text: &str) -> Tree {
    let mut tree = Tree::new();
    let writer = Host::new("operator").expect("valid name");
    let paths = keys.iter().filter_map(|key| Path::new(key).ok());
    for (nr, path) in (1u64..).zip(paths) {
        let entry = Entry {
            value: Value::text(text).expect("valid value"),
            stamp: Stamp::new(nr, &writer),
            issue: Issue {
                nr,
                writer: writer.clone(),
            },
            lazy: false,
        };
        tree.merge(path, entry);
    }
    tree
}

/// Members, logs and version links by what the table says about each path.
#[derive(Debug, Default, PartialEq)]
struct Found {
    members: BTreeSet<Host>,
    guests: BTreeSet<Host>,
    logs: BTreeSet<LogName>,
    versions: BTreeSet<(u64, Host)>,
}

fn by_the_table(tree: &Tree) -> Found {
    let mut found = Found::default();
    for (path, _) in tree.texts("resource-x/") {
        match Key::parse(path) {
            Some((Key::Data | Key::Replay, parts)) => found.members.extend(parts.host),
            Some((Key::Device, parts)) => found.guests.extend(parts.host),
            Some((Key::Log, parts)) => found.logs.extend(parts.log),
            Some((Key::Version, parts)) => found.versions.extend(parts.seq.zip(parts.host)),
            _ => {}
        }
    }
    found
}

proptest! {
    #[test]
    fn readers_of_many_keys_say_what_the_table_says(
        keys in prop::collection::vec(
            "resource-(x|xy|x-)/(data|replay|device|log|logstatus|version)-(0{7}[0-9]{1,3}-)?[-ab./]{0,3}",
            0..20,
        )
    ) {
        let tree = tree(&keys, &format!("{:032x},log-000000001-a,0:", 1));
        let res = Resource::new("x").expect("valid name");
        let view = ResourceView::new(&tree, &res);
        let found = Found {
            members: view.members(),
            guests: view.with_device(),
            logs: view.logs().into_keys().collect(),
            versions: view.versions().into_keys().collect(),
        };
        prop_assert_eq!(found, by_the_table(&tree));
    }
}
