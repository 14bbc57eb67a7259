//! Command lines nobody would type: whatever is refused has changed nothing, nothing panics, and what is not understood exits
//! non-zero.

use std::path::Path;

use admin::console::Recorder;
use admin::daemon::offline::OfflineDaemon;
use admin::marsadm;
use admin::snapshot::{Snapshot, Time};
use admin::verbs::{self, VERBS};
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000;

fn tree() -> Snapshot {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/trees/391cbd3814.txt");
    let text = std::fs::read_to_string(file).expect("a tree of two healthy members");
    Snapshot::parse(&text, "alpha", Time::from_secs(NOW)).expect("a valid tree")
}

/// Exit code, text on both streams, and what has changed.
fn run(words: &[String], host: &str) -> (u32, String, String) {
    let mut daemon = OfflineDaemon::new(tree());
    let mut console = Recorder::default();
    let exit = marsadm::run(words, host, &mut daemon, &mut console);
    (exit, console.0.stdout + &console.0.stderr, daemon.delta())
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn check_refused(line: &str, with: &str) {
    let (exit, said, delta) = run(&words(line), "alpha");
    assert_ne!(exit, 0, "{line}: {said}");
    assert!(said.contains(with), "{line}: {said}");
    assert_eq!(delta, "", "{line}");
}

#[test]
fn what_is_not_understood_exits_non_zero_and_changes_nothing() {
    check_refused("", "ERROR: command argument is missing");
    check_refused("nosuch data", "unknown command 'nosuch'");
    check_refused("nosuch", "unknown command 'nosuch'");
    check_refused("up", "ERROR: resource argument is missing");
    check_refused("up --forec data", "unrecognized argument '--forec'");
    check_refused("up nosuch", "resource 'nosuch' does not exist");
    check_refused("up ../data", "disallowed characters");
    check_refused("join-cluster", "ERROR: peer argument is missing");
    check_refused(
        "set-global-sync-limit-value",
        "ERROR: numeric argument is missing",
    );
    check_refused("set-global-sync-limit-value two", "isn't a number");
    check_refused(
        "create-resource all /dev/null",
        "cannot be combined with 'all'",
    );
    check_refused("create-resource a,b /dev/null", "one resource only");
    check_refused("create-resource new disk", "absolute path");
    check_refused("pause-fetch data mail", "unexpected argument 'mail'");
    check_refused("wait-umount data is-off", "unexpected argument 'is-off'");
    check_refused("lowlevel-ls-host-ips data", "unexpected argument 'data'");
    check_refused("set-global-sync-limit-value 1 2", "unexpected argument '2'");
    check_refused("set-emergency-limit data 101", "between 0 and 100");
    check_refused("wait-resource data is-nonsense", "unknown condition");
    check_refused("verify data", "forbidden");
    check_refused("merge-cluster delta", "not available");
    check_refused("pause-fetch any", "reserved names are dangerous.");
    check_refused("set-link v /mars/uuid", "must be inside /mars/userspace/");
}

#[test]
fn a_dry_run_of_any_verb_changes_nothing() {
    for verb in VERBS {
        for host in ["alpha", "beta"] {
            let line = format!("{} data /dev/null --dry-run --timeout=2 --force", verb.name);
            let (_, said, delta) = run(&words(&line), host);
            assert_eq!(delta, "", "{line} on {host}: {said}");
        }
    }
}

#[test]
fn every_verb_has_its_own_help() {
    for verb in VERBS {
        let (exit, said, _) = run(&words(&format!("help {}", verb.name)), "alpha");
        assert_eq!(exit, 0);
        assert!(
            said.contains(verb.name) && said.len() > verb.name.len() + 20,
            "{said}"
        );
    }
}

/// Words which mean something somewhere, words which never do, and rubbish.
fn word() -> impl Strategy<Value = String> {
    let verbs: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    prop_oneof![
        4 => prop::sample::select(verbs).prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            "data", "mail", "all", "data,mail", "alpha", "beta", "(none)", "1G", "0", "/dev/null", "/mars/userspace/x", "is-attach-on",
            "view", "view-role", "force-up", "-", "", "COMPRESS_LZO", "DEFAULT",
        ]).prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            "--force", "--dry-run", "--timeout=1", "--timeout=-1x", "--host=beta", "--host=", "--window=0", "--verbose", "--ip=1.2.3.4",
            "--ignore-sync", "--error-injection-phase=1", "--parallel=2", "--no-such-option", "--macro=%role{}", "-v", "-x", "--",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn refused_argument_lists_change_nothing_and_nothing_panics(
        list in prop::collection::vec(word(), 0..6), host in prop::sample::select(vec!["alpha", "beta", "gamma"])
    ) {
        // Waiting forever is allowed to take forever.
        let list: Vec<String> = list.into_iter().filter(|word| word != "--timeout=-1").collect();
        let (exit, said, delta) = run(&list, host);
        let not_understood = ["unrecognized argument", "unknown command", "unexpected argument", "argument is missing", "not found"];
        if list.is_empty() || not_understood.iter().any(|words| said.contains(words)) {
            prop_assert_ne!(exit, 0, "{:?}: {}", list, said);
            prop_assert_eq!(&delta, "", "{:?}", list);
        }
        // A refusal before the first phase ends the program; only what has begun may have changed something.
        let has_begun = ["FAILURE", "PHASE", "--------- "].iter().any(|mark| said.contains(mark));
        if exit != 0 && !has_begun {
            prop_assert_eq!(&delta, "", "{:?}: {}", list, said);
        }
        if list.iter().any(|word| word == "--dry-run") {
            prop_assert_eq!(&delta, "", "{:?}: {}", list, said);
        }
    }

    #[test]
    fn one_word_too_many_or_a_wrong_letter_is_refused_by_every_verb(at in 0..VERBS.len(), letter in "[a-z]", place in 0..40usize) {
        let verb = &VERBS[at];
        let mut line = vec![verb.name.to_owned()];
        if let Some(max) = verb.words_max() {
            line.extend(std::iter::repeat_n("data".to_owned(), max + 1));
            let (exit, said, delta) = run(&line, "beta");
            prop_assert!(exit != 0 && delta.is_empty() && said.contains("unexpected argument"), "{:?}: {}", line, said);
        }
        let mut wrong = verb.name.to_owned();
        wrong.insert_str(place.min(wrong.len()), &letter);
        if verbs::find(&wrong).is_none() && !marsadm::is_view(&wrong) && !wrong.starts_with("force-") {
            let (exit, said, delta) = run(&[wrong.clone(), "data".to_owned()], "beta");
            prop_assert!(exit != 0 && delta.is_empty(), "{}: {}", wrong, said);
        }
    }
}

/// `PROPTEST_CASES` cases, where somebody wants fewer.
fn cases() -> u32 {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// Whatever the words are, a program gets one document, whose exit code is that of the process, and which says why.
#[test]
fn every_command_line_is_answered_by_one_document_when_a_program_asks() {
    let lines = [
        "",
        "nosuch",
        "up --forec data",
        "up nosuch",
        "view-diskstate data",
        "view all",
        "pause-sync data --dry-run",
        "help",
        "--version",
    ];
    for line in lines {
        let (exit, said, _) = run(&words(&format!("--json {line}")), "alpha");
        let document: serde_json::Value = serde_json::from_str(&said).expect(line);
        assert_eq!(document["exit"], exit, "{line}: {said}");
        let kind = |kind: &str| {
            let messages = document["messages"].as_array().expect("messages");
            messages.iter().any(|message| message["kind"] == kind)
        };
        assert_eq!(kind("dying"), exit > 0, "{line}: {said}");
    }
}
