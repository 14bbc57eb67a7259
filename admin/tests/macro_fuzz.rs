//! Macro text comes from operators and from files: whatever it is, evaluating it ends, and ends without a panic.

use std::sync::LazyLock;

use admin::options::Options;
use admin::snapshot::{Item, Kind, Snapshot, Time};
use admin::view::{self, Surroundings};
use proptest::prelude::*;

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let names = view::macro_table().into_iter().map(|line| line.name);
    // Endless loops end at a bound of many steps; the golden scripts show that once.
    names
        .filter(|name| {
            !matches!(
                name.as_str(),
                "while" | "until" | "for" | "eval" | "eval-down"
            )
        })
        .collect()
});

/// A tree with odd values in the places which are read most.
fn odd_tree(values: &[String]) -> Snapshot {
    let keys = [
        "resource-r/replay-a",
        "resource-r/version-000000001-a",
        "resource-r/log-000000001-a",
        "resource-r/size",
        "resource-r/primary",
        "resource-r/data-a",
        "resource-r/device-a",
        "resource-r/syncpos-a",
        "resource-r/actual-a/replay-code",
        "resource-r/actual-a/msg-err-x",
        "resource-r/todo-a/attach",
        "actual-a/time",
        "actual-a/usable",
        "actual-a/rest-space",
        "ips/ip-a",
    ];
    let items = keys.iter().zip(values).map(|(key, value)| {
        let item = Item {
            value: value.replace(['\t', '\n'], " "),
            sec: 5,
            nsec: 0,
            kind: if key.contains("/log-") {
                Kind::File
            } else {
                Kind::Key
            },
        };
        ((*key).to_owned(), item)
    });
    Snapshot {
        host: "a".to_owned(),
        now: Time::from_secs(1000),
        entries: std::sync::Arc::new(items.collect()),
        daemon_runs: true,
    }
}

fn call() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<prop::sample::Index>().prop_map(|at| format!("%{}{{}}", at.get(&NAMES[..]))),
        "[ -~]{0,8}",
        "-?[0-9]{1,20}(\\.[0-9]{1,3})?",
        Just("\\".to_owned()),
        Just("{".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let args = prop::collection::vec(inner, 1..5);
        (any::<prop::sample::Index>(), args).prop_map(|(at, args)| {
            let args: String = args.iter().map(|arg| format!("{{{arg}}}")).collect();
            format!("%{}{args}", at.get(&NAMES[..]))
        })
    })
}

fn odd_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "log-[0-9]{1,12}-a,[0-9]{1,20},-?[0-9]{1,20}",
        "[0-9a-f]{0,33},log-[0-9]{1,9}-a,[0-9]{1,20}:[0-9a-f]{0,4},log-[0-9]{1,9}-a,[0-9]{1,20}",
        "-?[0-9]{0,25}(\\.[0-9]{0,12})?",
        "\\PC{0,12}",
        Just(".deleted".to_owned()),
        Just("(none)".to_owned()),
    ]
}

fn check_ends(text: String, values: &[String]) {
    let options = Options {
        macro_text: Some(text),
        ..Options::default()
    };
    let words = ["view".to_owned(), "r".to_owned()];
    view::evaluate(&odd_tree(values), &options, &Surroundings::none(), &words);
}

proptest! {
    #[test]
    fn random_calls_end(calls in prop::collection::vec(call(), 1..4), values in prop::collection::vec(odd_value(), 15)) {
        check_ends(calls.concat(), &values);
    }

    #[test]
    fn random_bytes_end(text in "\\PC{0,60}", values in prop::collection::vec(odd_value(), 15)) {
        check_ends(text, &values);
    }

    #[test]
    fn every_view_survives_odd_values(at in any::<prop::sample::Index>(), values in prop::collection::vec(odd_value(), 15)) {
        let words = [format!("view-{}", at.get(&NAMES[..])), "r".to_owned()];
        view::evaluate(&odd_tree(&values), &Options::default(), &Surroundings::none(), &words);
    }
}
