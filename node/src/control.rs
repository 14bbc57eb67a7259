//! Answers what `mars` and `marsadm` ask over the control socket.
//!
//! Who may open the socket may command this host; nothing is checked here but the form of what is
//! said. A commit is answered when it is durable; a watcher hears of each change once, and of
//! everything anew when it cannot keep up.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use transport::control::{
    Answer, Change, EntryText, Request, Snapshot, read_request, write_answer,
};
use transport::frame::FrameError;
use tree::stamp::SECOND_NS;
use tree::{Entry, Key, Path, Tree, key};

use crate::config::PORT_DEFAULT;
use crate::facts::Facts;
use crate::keys::Changed;
use crate::node::Hub;
use crate::plan::{ResourcePlan, Want};
use crate::ports::{BoxFuture, KeyChange, within};

/// Longest wait a client may ask for in one question.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What the daemon can do besides answering from the tree.
pub trait Daemon: Send + Sync {
    /// A new join token, valid for `ttl` and so many hosts.
    fn token(&self, ttl: Duration, uses: u32) -> BoxFuture<'static, Result<String, String>>;
    /// Begin an orderly stop.
    fn shutdown(&self);
}

/// Answers one client until it hangs up.
pub async fn serve<S>(mut stream: S, hub: Arc<Hub>, daemon: Arc<dyn Daemon>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    loop {
        let request = match read_request(&mut stream).await {
            Ok(request) => request,
            Err(FrameError::Closed) => return,
            Err(error) => {
                tracing::debug!(%error, "a client of the control socket is hung up on");
                return;
            }
        };
        if let Request::Watch {
            prefix,
            after_generation,
        } = request
        {
            return watch(stream, &hub, &prefix, after_generation).await;
        }
        let answer = answer(&hub, &*daemon, request).await;
        if write_answer(&mut stream, &answer).await.is_err() {
            return;
        }
    }
}

async fn answer(hub: &Hub, daemon: &dyn Daemon, request: Request) -> Answer {
    match request {
        Request::Ping => Answer::Pong {
            host: hub.here().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        Request::Snapshot {
            prefixes,
            resources,
            as_lines,
        } => {
            let wanted = Wanted::new(&prefixes, resources);
            Answer::Snapshot(snapshot(hub, &wanted, as_lines))
        }
        Request::Commit {
            changes,
            stamp,
            trigger,
        } => commit(hub, changes, stamp, trigger).await,
        Request::Trigger { code } => {
            hub.trigger(code);
            Answer::Done
        }
        Request::WaitChange {
            generation,
            timeout_ms,
        } => wait_change(hub, generation, Duration::from_millis(timeout_ms)).await,
        Request::Stat { path } => {
            let tree = hub.keys().read();
            let entry = Path::new(&path)
                .ok()
                .and_then(|path| Some(entry_text(hub, &path, tree.get(&path)?)));
            Answer::Entry { entry }
        }
        Request::Token { ttl_s, uses } => {
            match daemon.token(Duration::from_secs(ttl_s), uses).await {
                Ok(token) => Answer::Token { token },
                Err(reason) => Answer::Refused { reason },
            }
        }
        Request::Facts => Answer::Facts {
            json: facts(hub).to_string(),
        },
        Request::Shutdown => {
            daemon.shutdown();
            Answer::Done
        }
        _ => Answer::Refused {
            reason: "this daemon is too old for that question".to_owned(),
        },
    }
}

/// Which part of the tree is asked for.
struct Wanted {
    /// Sorted, none the beginning of another one.
    prefixes: Vec<String>,
    resources: Option<BTreeSet<String>>,
}

impl Wanted {
    fn new(prefixes: &[String], resources: Option<Vec<String>>) -> Wanted {
        let mut sorted = prefixes.to_vec();
        sorted.sort();
        sorted.dedup_by(|long, short| long.starts_with(short.as_str()));
        if sorted.is_empty() {
            sorted.push(String::new());
        }
        Wanted {
            prefixes: sorted,
            resources: resources.map(BTreeSet::from_iter),
        }
    }

    /// The entries, sorted, each once.
    fn entries<'t>(&'t self, tree: &'t Tree) -> impl Iterator<Item = (&'t Path, &'t Entry)> {
        let all = self.prefixes.iter().flat_map(|prefix| tree.range(prefix));
        all.filter(|(path, _)| self.is_of_wanted_resource(path.as_str()))
    }

    fn is_of_wanted_resource(&self, path: &str) -> bool {
        let Some(wanted) = &self.resources else {
            return true;
        };
        let below = path
            .strip_prefix("resource-")
            .and_then(|rest| rest.split_once('/'));
        below.is_none_or(|(name, _)| wanted.contains(name))
    }
}

fn snapshot(hub: &Hub, wanted: &Wanted, as_lines: bool) -> Snapshot {
    let (tree, generation) = hub.keys().read_at();
    let now = hub.keys().now_ns();
    let (entries, lines) = match as_lines {
        true => (Vec::new(), lines(hub, &tree, wanted)),
        false => (texts(hub, &tree, wanted), String::new()),
    };
    Snapshot {
        entries,
        lines,
        now_sec: now / SECOND_NS,
        now_nsec: nanos(now),
        host: hub.here().to_string(),
        uuid: tree
            .text(key::uuid().as_str())
            .unwrap_or_default()
            .to_owned(),
        generation,
    }
}

fn texts(hub: &Hub, tree: &Tree, wanted: &Wanted) -> Vec<EntryText> {
    wanted
        .entries(tree)
        .map(|(path, entry)| entry_text(hub, path, entry))
        .collect()
}

/// The same as lines of a tree file.
fn lines(hub: &Hub, tree: &Tree, wanted: &Wanted) -> String {
    let mut out = String::new();
    for (path, entry) in wanted.entries(tree) {
        let (value, kind) = shown(hub, path, entry);
        let value = value.as_deref().unwrap_or(".deleted");
        let (sec, nsec) = (entry.stamp.ns / SECOND_NS, nanos(entry.stamp.ns));
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{path}\t{value}\t{sec}.{nsec:09}\t{kind}");
    }
    out
}

/// Value and kind as commands see them: a log that lies here shows its own length, as a file would.
fn shown<'t>(hub: &Hub, path: &Path, entry: &'t Entry) -> (Option<Cow<'t, str>>, char) {
    let text = entry.text().map(Cow::Borrowed);
    // Most keys are no logs, and parsing a path costs more than all the rest.
    if text.is_none() || !path.as_str().contains("/log-") {
        return (text, 'l');
    }
    let Some((Key::Log, parts)) = Key::parse(path) else {
        return (text, 'l');
    };
    let (Some(res), Some(log)) = (parts.res, parts.log) else {
        return (text, 'l');
    };
    match hub.local_log(&res, &log) {
        Some(len) => (Some(Cow::Owned(len.to_string())), 'f'),
        None => (text, 'r'),
    }
}

fn entry_text(hub: &Hub, path: &Path, entry: &Entry) -> EntryText {
    let (value, kind) = shown(hub, path, entry);
    let value = value.map(Cow::into_owned);
    EntryText {
        path: path.to_string(),
        value,
        sec: entry.stamp.ns / SECOND_NS,
        nsec: nanos(entry.stamp.ns),
        writer: entry.stamp.writer.to_string(),
        kind,
    }
}

fn nanos(ns: u64) -> u32 {
    u32::try_from(ns % SECOND_NS).unwrap_or(0)
}

async fn commit(
    hub: &Hub,
    changes: Vec<Change>,
    stamp: Option<(u64, u32)>,
    trigger: u32,
) -> Answer {
    let refuse = |reason: String| Answer::Refused { reason };
    let changes: Result<Vec<KeyChange>, String> = changes.into_iter().map(checked).collect();
    let changes = match changes {
        Ok(changes) => changes,
        Err(reason) => return refuse(reason),
    };
    let stamp = stamp.map(|(sec, nsec)| sec.saturating_mul(SECOND_NS).saturating_add(nsec.into()));
    match hub.keys().commit_at(changes, stamp).await {
        Ok(stamp) => {
            hub.trigger(trigger);
            Answer::Committed {
                sec: stamp.ns / SECOND_NS,
                nsec: nanos(stamp.ns),
                generation: hub.keys().read_at().1,
            }
        }
        Err(error) => refuse(error.to_string()),
    }
}

/// A wish as a change of the tree; keys the table knows must hold what it says.
fn checked(change: Change) -> Result<KeyChange, String> {
    let path = Path::new(&change.path).map_err(|error| error.to_string())?;
    if let (Some(value), Some((key, _))) = (&change.value, Key::parse(&path)) {
        let kind = key.def().kind;
        kind.check(value)
            .map_err(|error| format!("{path}: {error}"))?;
    }
    Ok((path, change.value))
}

async fn wait_change(hub: &Hub, generation: u64, timeout: Duration) -> Answer {
    let mut seen = hub.keys().watch();
    let clock = hub.ports.clock.clone();
    let passed = seen.wait_for(|now| *now > generation);
    // The time being over is an answer too: the generation is still the same.
    let _ = within(&*clock, timeout.min(WAIT_MAX), passed).await;
    let (_, generation) = hub.keys().read_at();
    Answer::Generation { generation }
}

/// Sends changes until the client hangs up.
async fn watch<S>(stream: S, hub: &Hub, prefix: &str, mut after: u64)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut from, mut to) = tokio::io::split(stream);
    let mut changes = hub.keys().watch();
    loop {
        changes.mark_unchanged();
        let (tree, generation) = hub.keys().read_at();
        let entries = match hub.keys().changed_since(after) {
            Changed::Paths(paths) if after > 0 => some(hub, &tree, &paths, prefix),
            _ => texts(hub, &tree, &Wanted::new(&[prefix.to_owned()], None)),
        };
        if !entries.is_empty() || after == 0 {
            let answer = Answer::Changed {
                generation,
                entries,
            };
            if write_answer(&mut to, &answer).await.is_err() {
                return;
            }
        }
        after = generation;
        tokio::select! {
            biased;
            // Nothing is expected from a watcher; whatever comes, even its end, ends the watch.
            _ = read_request(&mut from) => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

fn some(hub: &Hub, tree: &Tree, paths: &BTreeSet<Path>, prefix: &str) -> Vec<EntryText> {
    paths
        .iter()
        .filter(|path| path.as_str().starts_with(prefix))
        .filter_map(|path| Some(entry_text(hub, path, tree.get(path)?)))
        .collect()
}

/// What the daemon knows besides the tree.
fn facts(hub: &Hub) -> serde_json::Value {
    let facts = hub.facts();
    let names = |hosts: &BTreeSet<tree::Host>| {
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        names
    };
    let resources: serde_json::Map<String, serde_json::Value> = hub
        .plans()
        .into_iter()
        .map(|(res, plan)| (res.to_string(), of_resource(&plan)))
        .collect();
    json!({
        "host": hub.here().to_string(),
        "cluster": hub.cluster(),
        "connected": names(&facts.connected),
        "start_is_over": facts.grace_over,
        "space_level": facts.space.level,
        "held_back": hub.keys().held_back(),
        "exports": hub.exports.states().into_iter().map(|(name, state)| {
            json!({ "name": name, "open": state.opens, "closing": state.closing })
        }).collect::<Vec<_>>(),
        "resources": resources,
        "network": hub.network().into_iter().map(|(host, stats)| {
            (host.to_string(), json!(stats))
        }).collect::<serde_json::Map<_, _>>(),
        "parameters": parameters(hub, &facts),
    })
}

/// Limits and what is used of them, by the names which operators know (manual: operating parameters).
fn parameters(hub: &Hub, facts: &Facts) -> serde_json::Value {
    const MIB: u64 = 1 << 20;
    let config = &hub.config;
    let [.., hardest] = config.free_bytes;
    let buffered = hub.buffered_bytes();
    let (throughput, writeback) = (hub.throughput(), hub.writeback_kib());
    let (copy_reads, copy_writes) = hub.copying();
    let clock = &hub.ports.clock;
    let ahead_ns = hub.keys().now_ns().saturating_sub(clock.wall_ns());
    json!({
        "mem_limit_gb": config.logger.buffer_bytes_max >> 30,
        "mem_used_raw_kb": buffered >> 10,
        "logger_mem_used_kb": buffered >> 10,
        "logrot_auto_gb": config.rotate_bytes >> 30,
        "server_role_traffic_ratelimit_kb": hub.rate_limit().map(|rate| rate >> 10),
        "server_role_traffic_rate_kb": throughput.sent_kib,
        "client_role_traffic_rate_kb": throughput.received_kib,
        "writeback_rate_kb": writeback,
        "io_writeback_rate_kb": writeback,
        "server_io_rate_kb": throughput.served_kib,
        "server_io_flying": hub.serving(),
        "copy_read_flying": copy_reads,
        "copy_write_flying": copy_writes,
        "network_io_timeout": transport::line::IDLE_MAX.as_secs(),
        "mars_port": own_port(hub),
        "lamport_difference_sec": Duration::from_nanos(ahead_ns).as_secs_f64(),
        "required_free_space_mb": hardest / MIB,
        "used_space_mb": facts.space.total.saturating_sub(facts.space.rest) / MIB,
        "emergency_mode": facts.space.level,
        "do_fast_fullsync": true,
        "aio_sync_mode": true,
        "logger_resume": true,
    })
}

/// The port other hosts find this one at.
fn own_port(hub: &Hub) -> u16 {
    let own = format!("ips/ip-{}", hub.here());
    let tree = hub.keys().read();
    let said = tree.text(&own).and_then(|text| text.parse().ok());
    said.map_or(PORT_DEFAULT, |address: std::net::SocketAddr| address.port())
}

fn of_resource(plan: &ResourcePlan) -> serde_json::Value {
    fn want<J: std::fmt::Debug>(want: &Want<J>) -> serde_json::Value {
        match want {
            Want::Run(job) => json!({ "run": format!("{job:?}") }),
            Want::Rest(reason) => json!({ "rest": reason.to_string() }),
        }
    }
    json!({
        "disk": want(&plan.disk),
        "logger": want(&plan.logger),
        "replayer": want(&plan.replayer),
        "fetcher": want(&plan.fetcher),
        "syncer": want(&plan.syncer),
        "export": want(&plan.export),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Host, Issue, Stamp, Value};

    fn check(prefixes: &[&str], resources: Option<&[&str]>, expected: &[&str]) {
        let writer = Host::new("alpha").expect("name");
        let mut tree = Tree::new();
        for path in [
            "actual-a/time",
            "resource-a/size",
            "resource-ab/size",
            "uuid",
        ] {
            let entry = Entry {
                value: Value::text("1").expect("value"),
                stamp: Stamp::new(1, &writer),
                issue: Issue {
                    nr: 1,
                    writer: writer.clone(),
                },
                lazy: false,
            };
            tree.merge(Path::new(path).expect("path"), entry);
        }
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let wanted = Wanted::new(&owned(prefixes), resources.map(owned));
        let found: Vec<&str> = wanted
            .entries(&tree)
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(found, expected, "{prefixes:?} {resources:?}");
    }

    #[test]
    fn parts_of_the_tree_come_in_order_and_each_entry_once() {
        let all = [
            "actual-a/time",
            "resource-a/size",
            "resource-ab/size",
            "uuid",
        ];
        check(&[], None, &all);
        check(&["uuid", "", "resource-"], None, &all);
        check(&["u", "resource-a"], None, &all[1..]);
        check(&["nosuch"], None, &[]);
        check(
            &[],
            Some(&["a"]),
            &["actual-a/time", "resource-a/size", "uuid"],
        );
        check(&["resource-"], Some(&["ab"]), &["resource-ab/size"]);
        check(&[], Some(&[]), &["actual-a/time", "uuid"]);
    }
}
