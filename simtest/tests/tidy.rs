//! The house plan, checked: who imports whom, what pure files may not name, a header on every file.

use std::fs;
use std::path::{Path, PathBuf};

/// Each package of ours and which others of ours its sources may name.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("tree", &[]),
    ("certs", &[]),
    ("storage", &["tree"]),
    ("transport", &["tree", "certs"]),
    ("node", &["tree", "storage", "transport", "certs"]),
    ("admin", &["tree", "transport", "certs", "node", "storage"]),
];

const OURS: &[&str] = &[
    "tree",
    "certs",
    "storage",
    "transport",
    "node",
    "admin",
    "simtest",
];

/// Imports that only some files of a package may have.
const ONLY_IN: &[(&str, &str, &[&str])] = &[
    (
        "admin",
        "node",
        &["mars.rs", "front.rs", "main.rs", "node_cmd.rs", "decide.rs"],
    ),
    ("admin", "storage", &["offline.rs"]),
];

/// Files that must be pure: no waiting, no files, no sockets, no threads.
const PURE: &[&str] = &[
    "tree/src",
    "node/src/plan",
    "transport/src/peers.rs",
    "node/src/export/nbd_handshake.rs",
];

const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "tokio::",
    "Instant::now",
    "SystemTime",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if dir.is_file() {
        return vec![dir.to_owned()];
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Lines that are code, not comments, and not the tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|l| *l != "#[cfg(test)]")
        .enumerate()
        .filter(|(_, l)| !l.trim_start().starts_with("//"))
}

fn names_package(line: &str, package: &str) -> bool {
    let line = line.trim_start();
    let import = line
        .strip_prefix("pub ")
        .unwrap_or(line)
        .strip_prefix("use ");
    let path = format!("{package}::");
    import.is_some_and(|rest| rest.starts_with(&path))
        || line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
}

#[test]
fn packages_import_only_what_the_house_plan_allows() {
    let mut wrong = Vec::new();
    for (package, allowed) in MAY_IMPORT {
        for file in sources(&root().join(package).join("src")) {
            let text = fs::read_to_string(&file).expect("read");
            for (line, content) in code(&text) {
                for other in OURS
                    .iter()
                    .filter(|o| *o != package && !allowed.contains(o))
                {
                    if names_package(content, other) && !shadowed(&text, other) {
                        wrong.push(format!(
                            "{}:{}: {package} names {other}",
                            file.display(),
                            line + 1
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A module of the same name as one of our packages is not that package.
fn shadowed(text: &str, name: &str) -> bool {
    text.contains(&format!("mod {name};")) || text.contains(&format!("crate::{name}"))
}

#[test]
fn the_command_lines_start_the_daemon_and_touch_storage_only_in_named_files() {
    let mut wrong = Vec::new();
    for (package, other, files) in ONLY_IN {
        for file in sources(&root().join(package).join("src")) {
            let name = file
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            let text = fs::read_to_string(&file).expect("read");
            let named =
                code(&text).any(|(_, l)| names_package(l, other)) && !shadowed(&text, other);
            if named && !files.contains(&name) {
                wrong.push(format!("{} names {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_name_nothing_that_waits_or_touches_the_world() {
    let mut wrong = Vec::new();
    for place in PURE {
        let files = sources(&root().join(place));
        assert!(!files.is_empty(), "{place} does not exist");
        for file in files {
            let text = fs::read_to_string(&file).expect("read");
            for (line, content) in code(&text) {
                for word in IMPURE.iter().filter(|w| content.contains(**w)) {
                    wrong.push(format!("{}:{}: {word}", file.display(), line + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let mut wrong = Vec::new();
    for package in OURS {
        for file in sources(&root().join(package).join("src")) {
            let text = fs::read_to_string(&file).expect("read");
            if !text.starts_with("//!") {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "no header in:\n{}", wrong.join("\n"));
}
