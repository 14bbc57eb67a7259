//! Golden scripts: text in, text out. Each file in `tests/script/` holds commands, a line `----`, and what they print.
//! `UPDATE_SCRIPTS=1 cargo test -p tree --test script` writes the output anew; review the change as prose.
//!
//! ```text
//! set  PATH = VALUE            a key, stamped one second after the one before
//! del  PATH                    its deletion
//! key  PATH                    which line of the key table it is
//! check PATH = VALUE           may the key hold that?
//! dump                         all live values
//! relation RES                 how the histories of all members lie to each other
//! lineage RES                  ancestor, split brain, chains, what nobody needs
//! next HOST in RES             which log comes next for it, or why none
//! disk HOST in RES holds LOG=LEN …   what the replica is worth; `nothing` for no logs
//! ```
//!
//! `<a>` stands for a digest of 32 times `a`.

#![expect(clippy::panic, reason = "a script that cannot be read ends the test")]

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::path;
use tree::disk_state::DiskFacts;
use tree::*;

#[test]
fn golden_scripts_print_what_they_printed_before() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/script");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("folder of scripts")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 5, "scripts are missing");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable script");
        let (script, expected) = text.split_once("----\n").expect("a line ----");
        let printed = World::default().run(script);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&file, format!("{script}----\n{printed}")).expect("writable script");
        } else {
            assert_eq!(printed, expected, "{}", file.display());
        }
    }
}

/// A tree, and what was printed about it.
#[derive(Default)]
struct World {
    tree: Tree,
    seconds: u64,
    out: String,
}

impl World {
    fn run(mut self, script: &str) -> String {
        for line in script.lines() {
            let line = expand_digests(line.trim());
            if !line.is_empty() && !line.starts_with('#') {
                let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
                self.command(verb, rest.trim());
            }
        }
        self.out
    }

    fn command(&mut self, verb: &str, rest: &str) {
        match verb {
            "set" => {
                let (key, value) = rest.split_once('=').expect("PATH = VALUE");
                self.write(key.trim(), Value::text(value.trim()).expect("valid value"));
            }
            "del" => self.write(rest, Value::Tombstone),
            "key" => self.key(rest),
            "check" => self.check(rest),
            "dump" => self.dump(),
            "relation" => self.relation(rest),
            "lineage" => self.lineage(rest),
            "next" => self.next(rest),
            "disk" => self.disk(rest),
            other => panic!("unknown command {other}"),
        }
    }

    fn write(&mut self, key: &str, value: Value) {
        self.seconds += 1;
        let writer = Host::new("operator").expect("valid");
        let nr = self.seconds * 1_000_000_000;
        let entry = Entry {
            value,
            stamp: Stamp::new(nr, &writer),
            issue: Issue { nr, writer },
            lazy: false,
        };
        self.tree.merge(path(key), entry);
    }

    fn key(&mut self, text: &str) {
        match Key::parse(&path(text)) {
            None => writeln!(self.out, "{text}: free"),
            Some((key, parts)) => {
                let def = key.def();
                let (writer, kind, haste) = (def.writer, def.kind, def.haste);
                writeln!(
                    self.out,
                    "{text}: {key:?}, {kind:?}, by {writer:?}, {haste:?}: {}",
                    def.meaning
                )
                .expect("a string takes all");
                let parts = [
                    parts.res.map(|res| format!("res {res}")),
                    parts.host.map(|host| format!("host {host}")),
                    parts.peer.map(|peer| format!("peer {peer}")),
                    parts.seq.map(|seq| format!("seq {seq}")),
                    parts.name.map(|name| format!("name {name}")),
                ];
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                writeln!(self.out, "    {}", parts.join(", "))
            }
        }
        .expect("a string takes all");
    }

    fn check(&mut self, rest: &str) {
        let (key, value) = rest.split_once('=').expect("PATH = VALUE");
        let (key, _) = Key::parse(&path(key.trim())).expect("a key of the table");
        match key.def().kind.check(value.trim()) {
            Ok(()) => self.say(&format!("{key:?}: {} is fine", value.trim())),
            Err(error) => self.say(&format!("{key:?}: {error}")),
        }
    }

    fn dump(&mut self) {
        for (path, text) in self.tree.clone().texts("") {
            self.say(&format!("{path} = {text}"));
        }
    }

    fn relation(&mut self, res: &str) {
        let lineage = self.lineage_of(res);
        let hosts: Vec<Host> = lineage.members().cloned().collect();
        for (nr, a) in hosts.iter().enumerate() {
            for b in &hosts[nr + 1..] {
                self.say(&format!("{a} to {b}: {}", lineage.relation(a, b)));
            }
        }
    }

    fn lineage(&mut self, res: &str) {
        let lineage = self.lineage_of(res);
        let ancestor = lineage.common_ancestor();
        self.say(&format!("common ancestor: {}", show(ancestor)));
        match lineage.split_brain() {
            None => self.say("split brain: none"),
            Some(split) => {
                self.say(&format!("split brain: {split}"));
                for group in &split.lineages {
                    self.say(&format!("    one lineage: {}", join(group)));
                }
            }
        }
        for host in lineage.members().cloned().collect::<Vec<_>>() {
            self.next_of(&lineage, res, &host);
        }
        self.say(&format!(
            "logs nobody needs: {}",
            join(lineage.unneeded_logs())
        ));
        let versions = lineage.unneeded_versions();
        let versions = versions.iter().map(|(seq, host)| format!("{seq}-{host}"));
        self.say(&format!(
            "version links nobody needs: {}",
            join(versions.collect::<Vec<_>>())
        ));
    }

    fn next(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [host, "in", res] = words[..] else {
            panic!("HOST in RES: {rest}");
        };
        let host = Host::new(host).expect("valid");
        self.next_of(&self.lineage_of(res), res, &host);
    }

    /// With as much of its current log as its version link says.
    fn next_of(&mut self, lineage: &Lineage, res: &str, host: &Host) {
        let res = Resource::new(res).expect("valid");
        let view = ResourceView::new(&self.tree, &res);
        let Some(at) = view.member(host).replay() else {
            return self.say(&format!("{host}: nobody knows where it stands"));
        };
        let link = view.member(host).version(at.log.seq);
        let link = link.filter(|link| link.log == at.log);
        let held = Held {
            log: at.log.clone(),
            len: link.as_ref().map_or(0, |link| link.len),
            digest: link.map(|link| link.digest),
        };
        let primary = view.designated_primary().filter(|other| other != host);
        let next = match lineage.next(host, &held, primary.as_ref()) {
            Next::Open => "nothing yet".to_owned(),
            Next::Unknown { log } => format!("{log}, which does not say what it continues"),
            Next::After { log, len } => format!("{log} once {len} bytes are here"),
            Next::Ready { log, empty: true } => format!("{log}, empty"),
            Next::Ready { log, empty: false } => log.to_string(),
            Next::Fork { after, between } => {
                format!("a fork after {} between {}", show(after), join(between))
            }
            Next::Hole { next } => format!("a hole before number {next}"),
        };
        self.say(&format!("{host} at {}@{}, then {next}", held.log, held.len));
    }

    fn disk(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [host, "in", res, "holds", logs @ ..] = &words[..] else {
            panic!("HOST in RES holds LOG=LEN …: {rest}");
        };
        let held = logs.iter().filter_map(|word| word.split_once('='));
        let held = held.map(|(log, len)| (log.parse().expect("log"), len.parse().expect("length")));
        let facts = DiskFacts {
            disk_present: true,
            held: held.collect(),
        };
        let (host, res) = (
            Host::new(host).expect("valid"),
            Resource::new(res).expect("valid"),
        );
        let state = MemberView::new(&self.tree, &res, &host).disk_state(&facts);
        self.say(&format!("{host}: {state}"));
    }

    fn lineage_of(&self, res: &str) -> Lineage {
        let res = Resource::new(res).expect("valid");
        Lineage::of(&ResourceView::new(&self.tree, &res))
    }

    fn say(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }
}

fn show(at: Option<LogPos>) -> String {
    at.map_or("unknown".to_owned(), |at| at.to_string())
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(" ")
    }
}

/// `<a>` → 32 times `a`.
fn expand_digests(line: &str) -> String {
    let mut line = line.to_owned();
    for digit in "0123456789abcdef".chars() {
        line = line.replace(&format!("<{digit}>"), &digit.to_string().repeat(32));
    }
    line
}
