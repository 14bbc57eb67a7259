//! Golden scripts of `view`, `mars-status` and `marsadm` on a saved tree. Text in, text out.
//!
//! ```text
//! # comment
//! tree FILE                      begin with this tree (golden/FILE.txt), at the time 1714557600
//! set KEY = VALUE [@SECONDS]     set a key, so many seconds ago (default 5)
//! file KEY = VALUE [@SECONDS]    a file held here: its length, or text:…
//! del KEY                        forget a key
//! at HOST                        act as this host
//! daemon off                     the daemon of this host does not run
//! mount DEVICE PATH              something is mounted, as ext4 with rw,noatime
//! fact NAME VALUE                for mars-status
//! worker RESOURCE NAME STATE     for mars-status
//! disk PATH BYTES                an underlying disk for `marsadm`
//! $ COMMAND [~ TEXT]             run it: `view…`, `prettyprint-…`, `mars-status …`, `marsadm …`; with `~` only lines holding TEXT
//! | line of stdout
//! ! line of stderr
//! = exit code, unless 0
//! > + key, value and type of what `marsadm` has changed, with its stamp unless that is the present time; - what it has forgotten
//! ```
//!
//! `UPDATE_GOLDEN=1 cargo test -p admin --test golden` writes what is printed now into the scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use admin::console::Recorder;
use admin::daemon::offline::OfflineDaemon;
use admin::marsadm;
use admin::options::Options;
use admin::output::Output;
use admin::snapshot::{Item, Kind, Snapshot, Time};
use admin::status::{self, Environment, Paint, StatusOptions};
use admin::view;
use jiff::tz::TimeZone;

const NOW: u64 = 1_714_557_600;

/// In front of lines which tell a change; nothing that is printed begins so.
const CHANGED: char = '\u{1}';

/// The state of a script while it runs.
struct Script {
    dir: PathBuf,
    tree: Snapshot,
    env: Environment,
    disks: BTreeMap<String, u64>,
}

impl Script {
    fn directive(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "tree" => {
                let path = self.dir.join(format!("{rest}.txt"));
                let text = std::fs::read_to_string(path).expect("tree of the script");
                self.tree = Snapshot::default();
                self.env = Environment::default();
                self.disks.clear();
                self.tree.daemon_runs = true;
                self.tree.now = Time::from_secs(NOW);
                text.lines().for_each(|line| self.directive(line));
            }
            "set" => self.set(rest, Kind::Key),
            "file" => self.set(rest, Kind::File),
            "del" => drop(self.tree.entries_mut().remove(rest)),
            "at" => self.tree.host = rest.to_owned(),
            "daemon" => self.tree.daemon_runs = rest == "on",
            "mount" => {
                let (device, path) = rest.split_once(' ').expect("mount DEVICE PATH");
                self.env.mounts.insert(device.to_owned(), path.to_owned());
            }
            "disk" => {
                let (path, bytes) = rest.split_once(' ').expect("disk PATH BYTES");
                let bytes = bytes.parse().expect("bytes");
                self.disks.insert(path.to_owned(), bytes);
            }
            "fact" => {
                let (name, value) = rest.split_once(' ').expect("fact NAME VALUE");
                let value = value.parse().expect("a number");
                self.env.parameters.insert(name.to_owned(), value);
            }
            "worker" => {
                let (res, rest) = rest.split_once(' ').expect("worker RESOURCE NAME STATE");
                let (name, state) = rest.split_once(' ').expect("worker RESOURCE NAME STATE");
                let workers = self.env.workers.entry(res.to_owned()).or_default();
                workers.insert(name.to_owned(), state.to_owned());
            }
            _ => assert!(word.is_empty() || word == "#", "unknown line: {line}"),
        }
    }

    fn set(&mut self, text: &str, kind: Kind) {
        let (key, value) = text.split_once(" = ").expect("KEY = VALUE");
        let (value, age) = match value.rsplit_once(" @") {
            Some((value, age)) => (value, age.parse().expect("seconds")),
            None => (value, 5),
        };
        let item = Item {
            value: value.to_owned(),
            sec: NOW - age,
            nsec: 0,
            kind,
        };
        self.tree.entries_mut().insert(key.to_owned(), item);
    }

    fn mounts(&self) -> Vec<view::Mount> {
        let mounts = self.env.mounts.iter();
        mounts
            .map(|(device, path)| view::Mount {
                device: device.clone(),
                path: path.clone(),
                fstype: "ext4".to_owned(),
                flags: "rw,noatime".to_owned(),
            })
            .collect()
    }

    fn run(&self, command: &str) -> Output {
        let mut words = shell_words(command);
        if words[0] == "marsadm" {
            return self.marsadm(&words[1..]);
        }
        if words[0] == "mars-status" {
            let options = StatusOptions::parse(&words[1..]).expect("options of the script");
            let paint = Paint { on: false };
            return status::run(&self.tree, &options, &self.env, &TimeZone::UTC, paint);
        }
        let mut options = Options::default();
        words.retain(|word| !take_option(&mut options, word));
        let mut here = view::Surroundings::none();
        here.mounts = self.mounts();
        view::evaluate(&self.tree, &options, &here, &words).output
    }
}

impl Script {
    /// What changed comes behind the text on stdout, marked for [`shown`].
    fn marsadm(&self, words: &[String]) -> Output {
        let mut daemon = OfflineDaemon::new(self.tree.clone());
        daemon.disks.clone_from(&self.disks);
        let mut console = Recorder::default();
        let exit = marsadm::run(words, &self.tree.host, &mut daemon, &mut console);
        let mut said = console.0;
        said.exit = i32::try_from(exit).expect("a small number");
        let now = format!("\t{NOW}.000000000");
        for line in daemon.delta().lines() {
            said.stdout
                .push_str(&format!("{CHANGED}{}\n", line.replacen(&now, "", 1)));
        }
        said
    }
}

fn take_option(options: &mut Options, word: &str) -> bool {
    if let Some(text) = word.strip_prefix("--macro=") {
        options.macro_text = Some(text.to_owned());
    } else if word == "--verbose" {
        options.verbose += 1;
    } else if let Some(level) = word.strip_prefix("--ignore-deleted-peers=") {
        options.ignore_deleted_peers = level.parse().expect("a level");
    } else {
        return false;
    }
    true
}

/// Words separated by blanks, `'…'` kept together.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 0 {
            let mut inner = part.split(' ');
            // What stands directly before or behind a quote belongs to the same word.
            if let (Some(first), Some(last)) = (inner.next(), words.last_mut()) {
                let last: &mut String = last;
                last.push_str(first);
                words.extend(inner.map(str::to_owned));
            } else {
                words.extend(part.split(' ').map(str::to_owned));
            }
        } else if let Some(last) = words.last_mut() {
            last.push_str(part);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn shown(out: &Output) -> String {
    let mut text = String::new();
    let mut add = |mark: char, lines: &str| {
        for line in lines.lines() {
            text.push_str(
                format!("{mark} {line}").trim_end_matches(if line.is_empty() { ' ' } else { '\0' }),
            );
            text.push('\n');
        }
    };
    let (changes, stdout): (Vec<&str>, Vec<&str>) = out
        .stdout
        .lines()
        .partition(|line| line.starts_with(CHANGED));
    add('|', &stdout.join("\n"));
    add('!', &out.stderr);
    if out.exit != 0 {
        text.push_str(&format!("= {}\n", out.exit));
    }
    for change in changes {
        text.push_str(&format!("> {}\n", change.trim_start_matches(CHANGED)));
    }
    text
}

/// Runs a script and gives it back with what is printed now.
fn rerun(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("script");
    let dir = path.parent().and_then(Path::parent).expect("golden");
    let mut script = Script {
        dir: dir.to_owned(),
        tree: Snapshot::default(),
        env: Environment::default(),
        disks: BTreeMap::new(),
    };
    let mut now = String::new();
    for line in text.lines() {
        if line.starts_with(['|', '!', '=', '>']) {
            continue;
        }
        now.push_str(line);
        now.push('\n');
        match line.strip_prefix("$ ") {
            Some(command) => {
                let (command, wanted) = command.split_once(" ~ ").unwrap_or((command, ""));
                let lines = shown(&script.run(command));
                let lines = lines.lines().filter(|line| line.contains(wanted));
                lines.for_each(|line| now.push_str(&format!("{line}\n")));
            }
            None => script.directive(line),
        }
    }
    now
}

fn check_scripts(family: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(family);
    let mut failed = BTreeMap::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("scripts") {
        let path = entry.expect("readable").path();
        count += 1;
        let (want, have) = (
            std::fs::read_to_string(&path).expect("script"),
            rerun(&path),
        );
        if want != have && std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &have).expect("script written");
        } else if want != have {
            failed.insert(path, first_difference(&want, &have));
        }
    }
    assert!(count > 0, "no scripts in {}", dir.display());
    assert!(failed.is_empty(), "{failed:#?}");
}

fn first_difference(want: &str, have: &str) -> String {
    let mut lines = want.lines().zip(have.lines()).enumerate();
    match lines.find(|(_, (want, have))| want != have) {
        Some((at, (want, have))) => format!("line {}: want {want:?}, have {have:?}", at + 1),
        None => "one of them is longer".to_owned(),
    }
}

#[test]
fn view_prints_what_its_scripts_say() {
    check_scripts("view");
}

#[test]
fn marsadm_says_and_changes_what_its_scripts_say() {
    check_scripts("command");
}

#[test]
fn mars_status_prints_what_its_scripts_say() {
    check_scripts("status");
}
