//! Is `docs/commands.md` what the tables of verbs and macros say? `UPDATE_DOCS=1 cargo test -p admin --test docs` writes it anew.

use std::path::{Path, PathBuf};

use admin::verbs::{VERBS, Verb};
use admin::view;

/// Verbs which do something else than in the original, with the heading in `differences.md`.
const DIFFERENT: &[(&str, &str)] = &[
    ("primary", "time-outs are errors"),
    ("secondary", "time-outs are errors"),
    ("wait-cluster", "wait-cluster and update-cluster"),
    ("update-cluster", "wait-cluster and update-cluster"),
    ("wait-resource", "wait-resource"),
    ("get-link", "single keys"),
    ("set-link", "single keys"),
    ("create-resource", "image files"),
    ("join-resource", "image files"),
    ("leave-resource", "no directories"),
    ("delete-resource", "no directories"),
    ("resize", "size of the device"),
    ("show-errors", "show-errors"),
    ("log-purge-all", "young logs are not purged"),
    ("cron", "tombstones"),
    ("link-purge-all", "tombstones"),
    ("create-cluster", "the daemon has to run"),
    ("join-cluster", "joining needs a token"),
    ("merge-cluster-check", "merge and split of clusters"),
    ("set-systemd-want", "systemd"),
    ("set-systemd-unit", "systemd"),
];

/// Verbs which refuse what they cannot do yet, with the heading in `differences.md`.
const NOT_YET: &[(&str, &str)] = &[
    ("merge-cluster", "merge and split of clusters"),
    ("split-cluster", "merge and split of clusters"),
    ("systemd-trigger", "systemd"),
    ("systemd-trigger-extern", "systemd"),
];

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

fn status(verb: &Verb) -> String {
    let heading = |list: &[(&'static str, &'static str)]| {
        list.iter()
            .find(|(name, _)| *name == verb.name)
            .map(|found| found.1)
    };
    match (heading(DIFFERENT), heading(NOT_YET)) {
        (Some(heading), _) => format!("different: {heading}"),
        (_, Some(heading)) => format!("not yet: {heading}"),
        _ => "same".to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn table() -> String {
    let mut text = String::from(
        "# Every command and macro\n\nGenerated from the tables in `admin/src/verbs.rs` and `admin/src/view/`; \
         see `admin/tests/docs.rs`. What differs from the original is\nexplained in `differences.md` under the heading named here. For all commands alike: \
         \"usage errors are errors\", \"time-outs are\nerrors\", \"the daemon has to run\", \"state directory\", \"parallel\", \"hooks\".\n\n\
         ## Commands\n\n| command | | what it does |\n|---|---|---|\n",
    );
    let mut verbs: Vec<&Verb> = VERBS.iter().collect();
    verbs.sort_by_key(|verb| verb.name);
    for verb in verbs {
        let usage = cell(&verb.usage_line());
        text.push_str(&format!(
            "| `{usage}` | {} | {} |\n",
            status(verb),
            cell(verb.about)
        ));
    }
    text.push_str(
        "\n## Macros\n\nWith `view-<macro>` where that is said. Differences are under \"view and macros\".\n\n\
         | macro | view | | what it gives |\n|---|---|---|---|\n",
    );
    for line in view::macro_table() {
        let name = if line.name.is_empty() {
            "(empty)"
        } else {
            &line.name
        };
        let view = if line.view { "yes" } else { "" };
        let status = line
            .differs
            .map_or("same".to_owned(), |what| format!("different: {what}"));
        text.push_str(&format!(
            "| `{}` | {view} | {} | {} |\n",
            cell(name),
            cell(&status),
            cell(&line.about)
        ));
    }
    text
}

#[test]
fn the_table_of_commands_and_macros_is_current() {
    let file = docs("commands.md");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &table).expect("docs can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == table,
        "docs/commands.md is not current: run UPDATE_DOCS=1 cargo test -p admin --test docs"
    );
}

#[test]
fn every_difference_named_in_the_table_is_explained() {
    let differences = std::fs::read_to_string(docs("differences.md")).expect("docs/differences.md");
    for (verb, heading) in DIFFERENT.iter().chain(NOT_YET) {
        assert!(admin::verbs::find(verb).is_some(), "{verb} is no verb");
        assert!(
            differences.contains(&format!("\n## {heading}\n")),
            "{verb}: no heading '{heading}'"
        );
    }
}
