//! Does `marsadm` print, refuse and change what the original did? See `tests/vectors/README.md`.
//!
//! `cargo test -p admin --test vectors -- --nocapture` prints a table; `VECTOR=name` runs the cases whose name contains it and
//! shows what differs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use admin::console::Recorder;
use admin::daemon::Daemon;
use admin::daemon::offline::OfflineDaemon;
use admin::marsadm;
use admin::output::Output;
use admin::snapshot::{Snapshot, Time};
use reacting::Reacting;

mod reacting;

const NOW: u64 = 1_700_000_000;

/// What has to agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    stdout: String,
    refusals: String,
    success: bool,
    delta: BTreeMap<String, String>,
}

struct Case {
    name: String,
    dir: PathBuf,
}

impl Case {
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    fn opts(&self) -> Vec<String> {
        self.read("opts")
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    fn expected(&self) -> Outcome {
        Outcome {
            stdout: self.read("stdout"),
            refusals: refusals(&self.read("stderr")),
            success: self.read("exit").trim() == "0",
            delta: delta(&self.read("delta")),
        }
    }
}

/// The lines of stderr which operators and scripts rely on.
fn refusals(stderr: &str) -> String {
    let kept = |line: &&str| {
        ["WARNING:", "DYING:", "   HINT:", "SKIPPING:"]
            .iter()
            .any(|word| line.starts_with(word))
    };
    stderr
        .lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Changed keys with their values. Directories do not exist here, half-finished `.tmp.` keys neither.
fn delta(text: &str) -> BTreeMap<String, String> {
    let mut changes = BTreeMap::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("- ") {
            changes.insert(path.to_owned(), ".deleted".to_owned());
        } else if let Some(line) = line.strip_prefix("+ ") {
            let columns: Vec<&str> = line.split('\t').collect();
            let is_dir = columns.get(3) == Some(&"d");
            if !is_dir && !columns[0].contains("/.tmp.PID.") {
                changes.insert(columns[0].to_owned(), columns[1].to_owned());
            }
        }
    }
    changes
}

/// One second of the life of a cluster: everybody who lives says so, indicators follow the switches.
fn live_on(saved: &mut OfflineDaemon) {
    let tree = saved.snapshot().expect("a saved tree can always be read");
    let mut set: Vec<(String, String)> = Vec::new();
    for (path, item) in tree.entries.iter() {
        if path.starts_with("actual-")
            && path.ends_with("/time")
            && item.time().is_recent(tree.now, 60)
        {
            set.push((path.clone(), tree.now.to_string()));
        }
        if let Some(dir) = path.strip_suffix("/attach")
            && dir.contains("/todo-")
        {
            set.push((
                format!("{}/is-attached", dir.replace("/todo-", "/actual-")),
                item.value.clone(),
            ));
        }
    }
    for res in tree.resources() {
        if tree.live(&format!("resource-{res}/primary")) == Some("(none)") {
            for host in tree.owners(&format!("resource-{res}/data-")) {
                set.push((
                    format!("resource-{res}/actual-{host}/if-on"),
                    "0".to_owned(),
                ));
                set.push((
                    format!("resource-{res}/actual-{host}/is-primary"),
                    "0".to_owned(),
                ));
            }
        }
    }
    for (path, value) in set {
        saved.set_from_outside(&path, &value);
    }
}

/// Nobody does anything.
fn rest(_: &mut OfflineDaemon) {}

fn run(case: &Case) -> Outcome {
    let root = case
        .dir
        .parent()
        .and_then(Path::parent)
        .expect("cases lie two levels deep");
    let text = fs::read_to_string(root.join("trees").join(case.read("tree").trim()))
        .expect("the tree of the case");
    let host = case.read("host").trim().to_owned();
    let mut tree = Snapshot::parse(&text, &host, Time::from_secs(NOW)).expect("a valid tree");
    let opts = case.opts();
    tree.daemon_runs = !opts.iter().any(|opt| opt == "-n");
    let mut saved = OfflineDaemon::new(tree);
    for pair in opts.windows(2) {
        let (path, what) = pair[1].split_once(':').unwrap_or((&pair[1], ""));
        match pair[0].as_str() {
            "-b" => drop(saved.disks.insert(path.to_owned(), 0)),
            "-l" => drop(saved.disks.insert(
                path.to_owned(),
                admin::human::parse_size(what).expect("a size"),
            )),
            "-F" => drop(saved.disks.insert(path.to_owned(), what.len() as u64)),
            _ => {}
        }
    }
    let reacts = opts.iter().any(|opt| opt == "-S");
    let mut cluster = Reacting {
        saved,
        react: if reacts { live_on } else { rest },
    };
    let words = shell_words(case.read("cmd").trim_end_matches('\n'));
    let mut console = Recorder::default();
    let before = cluster.saved.tree().clone();
    let exit = marsadm::run(&words[1..], &host, &mut cluster, &mut console);
    let Output { stdout, stderr, .. } = console.0;
    let mut changes = delta(&cluster.saved.delta());
    if reacts {
        // What the rest of the cluster did is not the doing of the command.
        changes.retain(|path, _| !path.contains("actual-") || !before.entries.contains_key(path));
    }
    Outcome {
        stdout,
        refusals: refusals(&stderr),
        success: exit == 0,
        delta: changes,
    }
}

/// Words as a shell takes them apart; single quotes only.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}

/// What is wanted instead, for the deliberate differences.
fn with_differences(
    case: &Case,
    mut expected: Outcome,
    got: &Outcome,
    list: &toml::Table,
) -> Outcome {
    let Some(entry) = list.get(&case.name) else {
        return expected;
    };
    assert!(
        entry.get("reason").is_some(),
        "{}: a difference needs a reason",
        case.name
    );
    let text = |key: &str| entry.get(key).and_then(|value| value.as_str());
    if let Some(stdout) = text("stdout") {
        expected.stdout = stdout.to_owned();
    }
    // The help is our own text; only how it begins can be compared.
    if text("stdout_begins").is_some_and(|begin| got.stdout.starts_with(begin)) {
        expected.stdout = got.stdout.clone();
    }
    if let Some(stderr) = text("stderr") {
        expected.refusals = refusals(stderr);
    }
    if let Some(success) = entry.get("success").and_then(|value| value.as_bool()) {
        expected.success = success;
    }
    if let Some(changes) = text("delta") {
        expected.delta = delta(changes);
    }
    expected
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cases");
    let mut cases: Vec<Case> = fs::read_dir(root)
        .expect("the cases")
        .map(|entry| entry.expect("a readable directory"))
        .map(|entry| Case {
            name: entry.file_name().to_string_lossy().into_owned(),
            dir: entry.path(),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn differences() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected_differences.toml");
    fs::read_to_string(path)
        .expect("the list")
        .parse()
        .expect("valid TOML")
}

/// Names of the aspects that differ, for the table.
fn compare(got: &Outcome, want: &Outcome) -> Vec<&'static str> {
    let mut differing = Vec::new();
    if got.stdout != want.stdout {
        differing.push("stdout");
    }
    if got.refusals != want.refusals {
        differing.push("stderr");
    }
    if got.success != want.success {
        differing.push("exit");
    }
    if got.delta != want.delta {
        differing.push("delta");
    }
    differing
}

fn show(got: &Outcome, want: &Outcome) {
    for (what, got, want) in [
        ("stdout", &got.stdout, &want.stdout),
        ("stderr", &got.refusals, &want.refusals),
    ] {
        if got != want {
            println!("---- {what} wanted\n{want}---- {what} got\n{got}----");
        }
    }
    if got.success != want.success {
        println!("---- success wanted {} got {}", want.success, got.success);
    }
    for path in got
        .delta
        .keys()
        .chain(want.delta.keys())
        .collect::<std::collections::BTreeSet<_>>()
    {
        let (got, want) = (got.delta.get(path), want.delta.get(path));
        if got != want {
            println!("---- {path}: wanted {want:?} got {got:?}");
        }
    }
}

#[test]
fn every_measured_case_comes_out_as_the_original_or_as_the_list_of_differences_says() {
    let only = std::env::var("VECTOR").unwrap_or_default();
    let list = differences();
    let mut failed = Vec::new();
    for case in cases().iter().filter(|case| case.name.contains(&only)) {
        let got = run(case);
        let want = with_differences(case, case.expected(), &got, &list);
        let differing = compare(&got, &want);
        println!(
            "{:45} {}",
            case.name,
            if differing.is_empty() {
                "same".to_owned()
            } else {
                differing.join(" ")
            }
        );
        if !differing.is_empty() {
            if !only.is_empty() {
                show(&got, &want);
            }
            failed.push(case.name.clone());
        }
    }
    assert!(
        failed.is_empty(),
        "{} cases differ: {}",
        failed.len(),
        failed.join(" ")
    );
}

#[test]
fn every_expected_difference_belongs_to_a_case() {
    let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    for name in differences().keys() {
        assert!(names.contains(name), "{name} is no case");
    }
}

#[test]
fn every_reason_is_explained_in_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let text = fs::read_to_string(path).expect("docs/differences.md");
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    for (case, entry) in &differences() {
        let reason = entry
            .get("reason")
            .and_then(|value| value.as_str())
            .unwrap_or_default();
        assert!(
            headings.contains(&reason),
            "{case}: no heading for the reason '{reason}'"
        );
    }
}
