//! The language of the scripts.
//!
//! ```text
//! here beta                                     who decides
//! key  primary = alpha                          a key below resource-data/ (or, with a slash in front, any)
//! member alpha                                  data, device, size, switches, synced: a member in order
//! gone log-000000001-alpha                      a deleted key below resource-data/
//! file log-000000001-alpha 8192 aa sealed       a local log: length, digest (repeated), sealed or open or damaged
//! link 1 beta log-000000001-alpha 8192 aa       a version link: number, host, log, length, digest
//! after log-000000000-alpha 0 00                ... and, on the next line, what it continues
//! connected alpha gamma                         peers that can be reached
//! told alpha gamma                              they know who is designated, and do not write
//! young                                         the start of the node is not over
//! doubtful                                      nothing of the resource was ever here
//! bypassing | held | lost                      writes go past the log; requests wait; the log of the logger fails
//! stopping | space 3 | room 20 100              facts about the host; bytes free above the reserves, of so many
//! logger log-000000002-beta 4096                running workers
//! ended replayer disk | ended logger disk       the last one ended because the disk refused
//! replayer LOG | fetcher LOG PEER | syncer PEER
//! export 1 [closing]                            the device, with its open count
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;

use node::config::NodeConfig;
use node::facts::{ExportFacts, Facts, LocalLog, ResourceFacts, Slot};
use node::job::{Bound, ChainEnd, Ended, LoggerProgress};
use node::plan::{Plan, ResourcePlan, Step, Want, decide};
use tree::{
    Digest128, Entry, Host, Issue, LogName, Path, ReplayPos, Resource, Stamp, Tree, Value,
    VersionLink,
};

const SIZE: u64 = 1 << 20;
const NOW_NS: u64 = 1_000_000 * 1_000_000_000;

struct Stage {
    tree: Tree,
    facts: Facts,
    own: ResourceFacts,
    here: Host,
    stamp: u64,
    link: Option<(String, VersionLink)>,
}

/// Plays a script and prints the plan.
pub fn play(text: &str) -> String {
    let mut stage = Stage {
        tree: Tree::new(),
        facts: Facts {
            now_ns: NOW_NS,
            grace_over: true,
            ..Facts::default()
        },
        own: ResourceFacts {
            disk_bytes: Some(SIZE),
            ..ResourceFacts::default()
        },
        here: host("alpha"),
        stamp: NOW_NS - 3600 * 1_000_000_000,
        link: None,
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            stage.say(line);
        }
    }
    stage.flush_link();
    let res = Resource::new("data").expect("name");
    stage.facts.resources.insert(res.clone(), stage.own);
    let config = NodeConfig::default();
    let plan = decide(&stage.tree, &stage.facts, &stage.here, &config, [&res]);
    print(&plan, &res)
}

fn host(name: &str) -> Host {
    Host::new(name).expect("name of a host")
}

fn log(name: &str) -> LogName {
    name.parse().expect("name of a log")
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn digest(two: &str) -> Digest128 {
    two.repeat(16).parse().expect("two hex digits")
}

impl Stage {
    fn set(&mut self, path: &str, value: Option<&str>) {
        self.stamp += 1;
        let me = host("operator");
        let value = value.map_or(Value::Tombstone, |text| Value::text(text).expect("value"));
        let entry = Entry {
            value,
            stamp: Stamp::new(self.stamp, &me),
            issue: Issue {
                nr: self.stamp,
                writer: me,
            },
            lazy: false,
        };
        let path = match path.strip_prefix('/') {
            Some(whole) => whole.to_owned(),
            None => format!("resource-data/{path}"),
        };
        self.tree.merge(Path::new(&path).expect("path"), entry);
    }

    fn say(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] != "after" {
            self.flush_link();
        }
        match words.as_slice() {
            ["here", name] => self.here = host(name),
            ["key", path, "=", ..] => {
                let value = line.split_once('=').expect("a value").1.trim();
                self.set(path, Some(value));
            }
            ["gone", path] => self.set(path, None),
            ["member", name] => self.member(name),
            ["file", name, len, two, state] => self.file(name, number(len), two, state),
            ["link", seq, name, of, len, two] => {
                let path = format!("version-{:09}-{name}", number(seq));
                let end = (digest(two), log(of), number(len));
                let link = VersionLink {
                    digest: end.0,
                    log: end.1,
                    len: end.2,
                    pred: None,
                };
                self.link = Some((path, link));
            }
            ["after", of, len, two] => {
                let (_, link) = self.link.as_mut().expect("after a link");
                link.pred = Some((digest(two), log(of), number(len)));
            }
            ["connected", names @ ..] => {
                self.facts.connected = names.iter().map(|n| host(n)).collect::<BTreeSet<_>>();
            }
            ["told", names @ ..] => {
                let primary = self.tree.entry("resource-data/primary");
                let primary = primary.expect("a designation");
                let known = format!(
                    "{},{},{}",
                    primary.stamp,
                    primary.stamp.writer,
                    primary.text().unwrap_or("(none)")
                );
                for name in names {
                    self.set(&format!("actual-{name}/knows-primary"), Some(&known));
                }
            }
            ["young"] => self.facts.grace_over = false,
            ["refused", name, peer] => {
                self.own.refused.insert((log(name), host(peer)));
                self.own.avoid.insert(host(peer));
            }
            ["syncing", name] => {
                let res = Resource::new(name).expect("valid");
                self.facts.syncing.insert(res);
            }
            ["stopping"] => self.facts.stopping = true,
            ["space", level] => self.facts.space.level = level.parse().expect("a level"),
            ["doubtful"] => self.own.doubtful = true,
            ["bypassing"] => self.own.bypassing = true,
            ["held"] => self.own.held = true,
            ["lost", ..] => self.own.logger = lost(&self.own.logger),
            ["room", rest, total] => {
                self.facts.space.rest = number(rest);
                self.facts.space.total = number(total);
            }
            ["ended", "logger", "disk"] => self.own.logger = ended_by_disk(),
            ["ended", "replayer", "disk"] => self.own.replayer = ended_by_disk(),
            ["nodisk"] => self.own.disk_bytes = None,
            ["export", opens, rest @ ..] => {
                self.own.export = Some(ExportFacts {
                    opens: number(opens),
                    closing: rest == ["closing"],
                });
            }
            ["uses", flying, ops, error @ ..] => {
                self.own.device.error = error.first().map_or(0, |error| number(error) as u32);
                self.own.device.flying = number(flying);
                self.own.device.moved_ns = NOW_NS;
                self.own.rates.device_ops = number(ops);
            }
            ["logger", name, len] => self.own.logger = logger(&log(name), number(len)),
            ["replayer", name] => self.own.replayer = busy(Some(log(name)), None),
            ["fetcher", name, peer] => {
                self.own.fetcher = busy(Some(log(name)), Some(host(peer)));
            }
            ["syncer", peer] => self.own.syncer = busy(None, Some(host(peer))),
            _ => panic!("no such statement: {line}"),
        }
    }

    fn member(&mut self, name: &str) {
        let size = SIZE.to_string();
        self.set("size", Some(&size));
        for (key, value) in [
            (format!("data-{name}"), format!("/dev/{name}")),
            (format!("device-{name}"), "data".to_owned()),
            (format!("syncstatus-{name}"), size),
        ] {
            self.set(&key, Some(&value));
        }
        for switch in ["attach", "connect", "sync", "allow-replay"] {
            self.set(&format!("todo-{name}/{switch}"), Some("1"));
        }
        let beat = tree::ns_to_text(NOW_NS);
        self.set(&format!("/actual-{name}/time"), Some(&beat));
    }

    fn file(&mut self, name: &str, len: u64, two: &str, state: &str) {
        let log = log(name);
        let local = LocalLog {
            len,
            digest: Some(digest(two)).filter(|digest| !digest.is_zero()),
            sealed: state == "sealed",
            damaged: (state == "damaged").then(|| log.at(len)),
        };
        self.own.logs.insert(log, local);
    }

    fn flush_link(&mut self) {
        if let Some((path, link)) = self.link.take() {
            self.set(&path, Some(&link.to_string()));
        }
    }
}

fn busy<P>(log: Option<LogName>, peer: Option<Host>) -> Slot<P> {
    Slot::Busy {
        log,
        peer,
        progress: None,
        stopping: false,
    }
}

fn logger(log: &LogName, len: u64) -> Slot<LoggerProgress> {
    let progress = LoggerProgress {
        durable: ChainEnd {
            log: log.clone(),
            len,
            digest: digest("ff"),
        },
        pred: None,
        replay: ReplayPos {
            log: log.clone(),
            offset: len,
            dirty: 0,
        },
        buffered_bytes: 0,
        written_bytes: 0,
        written_back_bytes: 0,
        rotating: None,
        log_error: None,
        disk_error: None,
        disk_lost: false,
        keys_error: None,
    };
    Slot::Busy {
        log: Some(log.clone()),
        peer: None,
        progress: Some(progress),
        stopping: false,
    }
}

fn ended_by_disk<P>() -> Slot<P> {
    let last = Some(Ended::DiskFailed("input/output error".to_owned()));
    Slot::Empty { last }
}

/// The same logger, whose log cannot be written any more.
fn lost(slot: &Slot<LoggerProgress>) -> Slot<LoggerProgress> {
    let mut slot = slot.clone();
    let Slot::Busy {
        progress: Some(progress),
        ..
    } = &mut slot
    else {
        panic!("there is no logger");
    };
    progress.log_error = Some("no space left on device".to_owned());
    slot
}

fn print(plan: &Plan, res: &Resource) -> String {
    let plan = &plan.resources[res];
    let mut out = String::new();
    line(&mut out, "disk", &plan.disk, |job| job.path.clone());
    line(&mut out, "logger", &plan.logger, |job| match &job.pred {
        Some(end) => format!("{} after {}@{}", job.log, end.log, end.len),
        None => job.log.to_string(),
    });
    line(&mut out, "export", &plan.export, |job| job.name.clone());
    line(&mut out, "fetcher", &plan.fetcher, |job| {
        let again = if job.afresh { " afresh" } else { "" };
        format!("{} from {}{again}", job.log, job.from)
    });
    line(&mut out, "replayer", &plan.replayer, |job| {
        match job.bound {
            Bound::Follow => format!("{}@{} and follow", job.log, job.start),
            Bound::UpTo(end) => format!("{}@{} up to {end}", job.log, job.start),
        }
    });
    line(&mut out, "syncer", &plan.syncer, |job| {
        format!("{} to {} from {}", job.start, job.size, job.from)
    });
    rest(&mut out, plan);
    out
}

fn line<J>(out: &mut String, worker: &str, want: &Want<J>, show: impl Fn(&J) -> String) {
    let text = match want {
        Want::Run(job) => format!("run   {}", show(job)),
        Want::Rest(reason) => format!("rest  {reason}"),
    };
    writeln!(out, "{worker:<9} {text}").expect("text");
}

fn rest(out: &mut String, plan: &ResourcePlan) {
    for step in &plan.steps {
        match step {
            Step::Follow { log } => writeln!(out, "step      follow {log}"),
            Step::Relink { end, .. } => {
                writeln!(out, "step      own link of {} is {}", end.log, end.len)
            }
        }
        .expect("text");
    }
    for log in &plan.finished {
        writeln!(out, "finished  {log}").expect("text");
    }
    if let Some(log) = &plan.reopened {
        writeln!(out, "reopened  {log}").expect("text");
    }
    for log in &plan.drop_logs {
        writeln!(out, "drop      {log}").expect("text");
    }
    for (path, value) in &plan.keys {
        let value = value.as_deref().unwrap_or("deleted");
        writeln!(out, "durable   {path} = {value}").expect("text");
    }
    for (path, value) in &plan.indicators {
        if let (true, Some(value)) = (path.as_str().contains("/msg-"), value) {
            let text = value.splitn(3, ' ').nth(2).unwrap_or(value);
            writeln!(out, "message   {path} = {text}").expect("text");
        }
        let shown = [
            "/if-flying",
            "/if-completion-stamp",
            "/ops-if_rate",
            "/if-state",
        ];
        if let (true, Some(value)) = (
            shown.iter().any(|name| path.as_str().ends_with(name)),
            value,
        ) {
            writeln!(out, "shown     {path} = {value}").expect("text");
        }
    }
}
