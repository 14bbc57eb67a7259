//! `mars tree …` and `mars cluster token`: the state itself, one entry a line.
//!
//! Reading works on the stored tree while the daemon does not run; everything else needs it.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use transport::control::{Answer, EntryText, Request};

use crate::daemon::socket::{SocketDaemon, item, unexpected};
use crate::daemon::{Change, Daemon, DaemonError, Trigger};
use crate::mars::TreeWhat;
use crate::offline;
use crate::options::Options;
use crate::session::Refusal;
use crate::snapshot::{Item, Snapshot, TOMBSTONE, Time};

/// Runs one of them. `Ok(false)`: there is no such key.
pub fn tree(dir: &Path, what: TreeWhat) -> Result<bool, Refusal> {
    match what {
        TreeWhat::Get { path, json } => get(dir, &path, json),
        TreeWhat::Set { path, value, json } => set(dir, &path, &value, json),
        TreeWhat::Del { path, json } => set(dir, &path, TOMBSTONE, json),
        TreeWhat::Ls {
            recursive,
            prefix,
            json,
        } => list(dir, prefix.as_deref().unwrap_or(""), recursive, json),
        TreeWhat::Watch { prefix, json } => watch(dir, prefix.as_deref().unwrap_or(""), json),
        TreeWhat::Stat { path, json } => stat(dir, &path, json),
        TreeWhat::Dump { json } => dump(dir, json),
    }
}

/// `mars cluster token`
pub fn token(dir: &Path, ttl_s: u64, uses: u32, as_json: bool) -> Result<bool, Refusal> {
    let mut daemon = SocketDaemon::connect_soon(dir)?;
    match daemon.ask(&Request::Token { ttl_s, uses })? {
        Answer::Token { token } if as_json => {
            print(json!({ "token": token, "ttl_s": ttl_s, "uses": uses }).to_string())
        }
        Answer::Token { token } => print(token),
        other => Err(unexpected(&other).into()),
    }
}

/// One line to stdout. A reader who has gone away ends the program like any error.
fn print(line: impl AsRef<str>) -> Result<bool, Refusal> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(format!("{}\n", line.as_ref()).as_bytes())
        .and_then(|()| stdout.flush());
    written
        .map(|()| true)
        .map_err(|error| Refusal(format!("cannot write to stdout: {error}")))
}

/// A path as stored; operators may write it as messages print it.
fn stored(path: &str) -> &str {
    path.strip_prefix("/mars/")
        .unwrap_or(path)
        .trim_end_matches('/')
}

/// The tree below a prefix: from the daemon, or as it has left it.
pub fn read(dir: &Path, prefix: &str) -> Result<Snapshot, Refusal> {
    match SocketDaemon::connect(dir) {
        Ok(mut daemon) => Ok(daemon.below(prefix)?),
        Err(DaemonError::NotRunning { .. }) => offline::stored_tree(&Options {
            dir: dir.to_owned(),
            ..Options::default()
        }),
        Err(error) => Err(error.into()),
    }
}

fn get(dir: &Path, path: &str, as_json: bool) -> Result<bool, Refusal> {
    let path = stored(path);
    let tree = read(dir, path)?;
    let Some(item) = tree.entries.get(path).filter(|item| item.is_live()) else {
        return Ok(false);
    };
    if as_json {
        print(object(path, item).to_string())
    } else {
        print(&item.value)
    }
}

fn object(path: &str, item: &Item) -> serde_json::Value {
    let value = item.is_live().then_some(&item.value);
    json!({ "path": path, "value": value, "stamp": item.time().to_string() })
}

/// Sets one key; [`TOMBSTONE`] as value deletes it.
///
/// # Errors
/// Why the daemon does not want it.
pub fn change(daemon: &mut dyn Daemon, path: &str, value: &str) -> Result<Time, DaemonError> {
    let change = Change {
        path: stored(path).to_owned(),
        value: value.to_owned(),
    };
    daemon.commit(&[change], None, Trigger::Local)
}

fn set(dir: &Path, path: &str, value: &str, as_json: bool) -> Result<bool, Refusal> {
    let path = stored(path);
    let stamp = change(&mut SocketDaemon::connect_soon(dir)?, path, value)?;
    if as_json {
        print(json!({ "path": path, "stamp": stamp.to_string() }).to_string())
    } else {
        Ok(true)
    }
}

fn list(dir: &Path, prefix: &str, recursive: bool, as_json: bool) -> Result<bool, Refusal> {
    let prefix = stored(prefix);
    let below = if prefix.is_empty() {
        String::new()
    } else {
        format!("{prefix}/")
    };
    let tree = read(dir, &below)?;
    if !recursive {
        return names(&tree, &below, as_json);
    }
    for (path, item) in tree.with_prefix(&below).filter(|(_, item)| item.is_live()) {
        if as_json {
            print(object(path, item).to_string())?;
        } else {
            print(format!("{path}\t{}", item.value))?;
        }
    }
    Ok(true)
}

/// The next parts of all live paths below; those with more behind them end in a slash.
fn names(tree: &Snapshot, below: &str, as_json: bool) -> Result<bool, Refusal> {
    let live = tree.with_prefix(below).filter(|(_, item)| item.is_live());
    let mut names: Vec<String> = live
        .map(|(path, _)| match path[below.len()..].split_once('/') {
            Some((dir, _)) => format!("{dir}/"),
            None => path[below.len()..].to_owned(),
        })
        .collect();
    names.dedup();
    for name in names {
        print(if as_json {
            json!({ "name": name }).to_string()
        } else {
            name
        })?;
    }
    Ok(true)
}

fn watch(dir: &Path, prefix: &str, as_json: bool) -> Result<bool, Refusal> {
    let prefix = stored(prefix).to_owned();
    let mut daemon = SocketDaemon::connect_soon(dir)?;
    let known = match daemon.ask(&Request::WaitChange {
        generation: 0,
        timeout_ms: 0,
    })? {
        Answer::Generation { generation } => generation,
        other => return Err(unexpected(&other).into()),
    };
    let mut answer = daemon.ask_forever(&Request::Watch {
        prefix,
        after_generation: known,
    })?;
    loop {
        let Answer::Changed { entries, .. } = answer else {
            return Err(unexpected(&answer).into());
        };
        for entry in &entries {
            print(watched_line(entry, as_json))?;
        }
        answer = daemon.next_answer()?;
    }
}

fn watched_line(entry: &EntryText, as_json: bool) -> String {
    let item = item(entry.clone());
    if as_json {
        let mut object = object(&entry.path, &item);
        object["writer"] = json!(entry.writer);
        return object.to_string();
    }
    format!(
        "{}\t{}\t{}\t{}",
        entry.path,
        item.value,
        item.time(),
        entry.writer
    )
}

fn stat(dir: &Path, path: &str, as_json: bool) -> Result<bool, Refusal> {
    let path = stored(path).to_owned();
    let mut daemon = SocketDaemon::connect_soon(dir)?;
    let entry = match daemon.ask(&Request::Stat { path })? {
        Answer::Entry { entry: Some(entry) } => entry,
        Answer::Entry { entry: None } => return Ok(false),
        other => return Err(unexpected(&other).into()),
    };
    if as_json {
        return print(watched_line(&entry, true));
    }
    let item = item(entry.clone());
    print(format!("value\t{}", item.value))?;
    print(format!("stamp\t{}", item.time()))?;
    print(format!("writer\t{}", entry.writer))?;
    print(format!("type\t{}", entry.kind))
}

fn dump(dir: &Path, as_json: bool) -> Result<bool, Refusal> {
    let tree = read(dir, "")?;
    if as_json {
        for (path, item) in tree.entries.iter() {
            print(object(path, item).to_string())?;
        }
        return Ok(true);
    }
    print(tree.dump().trim_end_matches('\n'))
}
