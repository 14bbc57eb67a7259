//! Readers of many keys do not ask the key table for each; they must say what it says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tree::view::ResourceView;
use tree::{Entry, Host, Issue, Key, Lineage, LogName, Path, Resource, Stamp, Tree, Value};

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

/// A value some key of a resource may have; `None` deletes it.
fn values() -> impl Strategy<Value = Option<String>> {
    let log = "log-00000000[1-3]-[ab]";
    let link = (log, "[01]", 0u64..3).prop_map(|(log, digit, len)| {
        let digest = digit.repeat(32);
        format!("{digest},{log},{len}:")
    });
    let chained = (link.clone(), link.clone())
        .prop_map(|(own, pred)| format!("{own}{}", pred.trim_end_matches(':')));
    let replay = (log, 0u64..3).prop_map(|(log, at)| format!("{log},{at},0"));
    prop_oneof![
        2 => Just(None),
        2 => link.prop_map(Some),
        3 => chained.prop_map(Some),
        3 => replay.prop_map(Some),
        2 => "[01]|[abc]|\\(none\\)|garbage".prop_map(Some),
    ]
}

fn changes() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let key = "resource-(x|x|x|xy)/(primary|(data|replay|device)-[abc]|version-00000000[1-3]-[ab]|log-00000000[1-3]-[ab]|actual-[ab]/is-primary|replay-.|version-1-a|todo-a/sync)";
    prop::collection::vec((key, values()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_lineage_renewed_by_the_changed_keys_is_the_one_read_anew(
        rounds in prop::collection::vec(changes(), 1..8)
    ) {
        let (writer, res) = (Host::new("a").expect("valid"), Resource::new("x").expect("valid"));
        let mut tree = Tree::new();
        let mut lineage = Lineage::default();
        let mut nr = 0;
        for round in rounds {
            let mut changed = Vec::new();
            for (key, text) in round {
                let Ok(path) = Path::new(&key) else { continue };
                nr += 1;
                let value = text.map_or(Value::Tombstone, |text| Value::text(&text).expect("valid"));
                let stamp = Stamp::new(nr, &writer);
                let issue = Issue { nr, writer: writer.clone() };
                tree.merge(path.clone(), Entry { value, stamp, issue, lazy: false });
                changed.push(path);
            }
            let view = ResourceView::new(&tree, &res);
            lineage.renew(&view, &changed);
            prop_assert_eq!(&lineage, &Lineage::of(&view));
        }
    }
}
