//! Trees nobody would write: keys missing, deleted, with rubbish in them. Nothing panics and everything ends, whatever is asked.

use std::path::{Path, PathBuf};

use admin::console::Recorder;
use admin::daemon::offline::OfflineDaemon;
use admin::marsadm;
use admin::snapshot::{Kind, Snapshot, TOMBSTONE, Time};
use admin::status::{self, Environment, Paint, StatusOptions};
use admin::verbs::VERBS;
use admin::view;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000;

/// What stands in a key instead of what should.
const RUBBISH: &[&str] = &[
    "",
    "-1",
    "0",
    "1",
    "99999999999999999999999",
    "18446744073709551615",
    "9223372036854775807",
    "1e308",
    "nan",
    "(none)",
    ".deleted",
    "log-",
    "log-000000000-,0,0",
    "log-18446744073709551615-alpha,18446744073709551615,18446744073709551615",
    "log-000000002-alpha,-5,-5",
    "log-000000001-beta,7,9",
    ",,,:,,,",
    ":",
    "1699999999.000000000",
    "99999999999.999999999",
    "text:a\\nb",
    "ä\u{1F600}",
    "%{x}",
    "alpha",
    "nosuch",
];

fn trees() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/trees");
    let files = std::fs::read_dir(dir).expect("trees").flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.sort();
    files
}

fn load(file: &Path, host: &str) -> Snapshot {
    let text = std::fs::read_to_string(file).expect("a tree");
    Snapshot::parse(&text, host, Time::from_secs(NOW)).expect("a valid tree")
}

#[derive(Clone, Debug)]
enum Damage {
    Forget(prop::sample::Index),
    Delete(prop::sample::Index),
    Spoil(prop::sample::Index, &'static str),
    Age(prop::sample::Index, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        1 => at().prop_map(Damage::Forget),
        1 => at().prop_map(Damage::Delete),
        4 => (at(), prop::sample::select(RUBBISH)).prop_map(|(at, value)| Damage::Spoil(at, value)),
        1 => (at(), prop::sample::select(vec![0, 1, NOW - 1, NOW + 1_000_000, u64::MAX])).prop_map(|(at, sec)| Damage::Age(at, sec)),
    ]
}

fn apply(tree: &mut Snapshot, damage: &Damage) {
    let (Damage::Forget(at) | Damage::Delete(at) | Damage::Spoil(at, _) | Damage::Age(at, _)) =
        damage;
    if tree.entries.is_empty() {
        return;
    }
    let path = tree
        .entries
        .keys()
        .nth(at.index(tree.entries.len()))
        .expect("inside")
        .clone();
    let item = tree.entries_mut().get_mut(&path).expect("there");
    match damage {
        Damage::Forget(_) => drop(tree.entries_mut().remove(&path)),
        Damage::Delete(_) => {
            item.value = TOMBSTONE.to_owned();
            item.kind = Kind::Key;
        }
        Damage::Spoil(_, value) => item.value = (*value).to_owned(),
        Damage::Age(_, sec) => item.sec = *sec,
    }
}

fn commands() -> Vec<String> {
    let verbs = VERBS.iter().map(|verb| format!("{} data", verb.name));
    let plain = VERBS
        .iter()
        .filter(|verb| verb.words_max() == Some(0))
        .map(|verb| verb.name.to_owned());
    let macros = view::macro_table().into_iter().filter(|line| line.view);
    let views = macros.map(|line| format!("view-{} data", line.name));
    let others = [
        "view all",
        "view",
        "show",
        "cron --autoclean=1 --force",
        "primary --force data",
        "set-replay data 1",
        "resize data 2G",
        "resize data",
        "set-emergency-limit data 7",
        "wait-resource data is-primary",
        "leave-cluster --force",
        "join-resource data /dev/null",
        "create-resource data /dev/null --force",
        "log-delete data --force",
        "log-purge-all data --force",
        "delete-resource data --force",
        "link-purge-all data --force",
        "--host=beta --force leave-resource data",
        "set-systemd-want data beta",
        "invalidate data --force",
    ];
    verbs
        .chain(plain)
        .chain(views)
        .chain(others.map(str::to_owned))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_command_panics_on_a_damaged_tree(
        file in prop::sample::select(trees()), damages in prop::collection::vec(damage(), 1..12),
        command in prop::sample::select(commands()), host in prop::sample::select(vec!["alpha", "beta", "gamma"]),
    ) {
        let mut tree = load(&file, host);
        for damage in &damages {
            apply(&mut tree, damage);
        }
        let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        words.push("--timeout=2".to_owned());
        let mut console = Recorder::default();
        marsadm::run(&words, host, &mut OfflineDaemon::new(tree), &mut console);
    }

    #[test]
    fn mars_status_reports_a_damaged_tree(
        file in prop::sample::select(trees()), damages in prop::collection::vec(damage(), 1..12), json in any::<bool>(),
        host in prop::sample::select(vec!["alpha", "beta", "gamma"]),
    ) {
        let mut tree = load(&file, host);
        for damage in &damages {
            apply(&mut tree, damage);
        }
        let mut words = ["--history", "--status", "--system", "--debug"].map(str::to_owned).to_vec();
        if json {
            words.push("--json".to_owned());
        }
        let options = StatusOptions::parse(&words).expect("known options");
        status::run(&tree, &options, &Environment::default(), &TimeZone::UTC, Paint { on: false });
    }
}
