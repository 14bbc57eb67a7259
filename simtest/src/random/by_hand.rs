//! What people do with their own hands besides the verbs for roles and switches: keys, limits, bursts of commands, and
//! a damaged copy of a log (which is nobody's wish, but somebody's disk).

use std::path::Path;

use tree::LogName;

use super::{RES, Shape};
use crate::host::{STATE_DIR, SimHost};
use crate::world::World;

/// Keys that may be set at any time without switching off a promise, and values for them, sensible and senseless.
/// `HOST` becomes some host. An empty value deletes the key.
const KEYS: &[(&str, &[&str])] = &[
    ("resource-data/todo-HOST/attach", SWITCH),
    ("resource-data/todo-HOST/connect", SWITCH),
    ("resource-data/todo-HOST/allow-replay", SWITCH),
    ("resource-data/todo-HOST/sync", SWITCH),
    (
        "resource-data/primary",
        &["HOST", "HOST", "HOST", "(none)", "nosuch", "a,b", "0", "-"],
    ),
    (
        "resource-data/todo-HOST/emergency-limit",
        &["0", "1", "101", "x", ""],
    ),
    ("defaults-HOST/sync-limit", &["0", "1", "-1", "many", ""]),
    ("defaults/sync-limit", &["0", "2", "x", ""]),
    ("userspace/note", &["of-HOST", "1", ""]),
    ("resource-data/userspace/HOST", &["1", "2", ""]),
    ("resource-data/systemd-trigger", &["1", "x"]),
    ("resource-nosuch/todo-HOST/attach", &["1", ""]),
    ("resource-data/todo-nosuch/attach", &["1", ""]),
    ("/mars/../etc/passwd", &["1"]),
];

const SWITCH: &[&str] = &["0", "1", "1", "1", "2", "-1", "on", ""];

/// One to three keys are set or deleted.
pub fn set_keys(w: &mut World, shape: &Shape, name: &str) {
    for _ in 0..w.chance.between(1, 3) {
        let Some((path, values)) = w.chance.pick(KEYS).copied() else {
            return;
        };
        let host = w.chance.pick(&shape.names).cloned().unwrap_or_default();
        let value = w.chance.pick(values).copied().unwrap_or_default();
        let (path, value) = (path.replace("HOST", &host), value.replace("HOST", &host));
        let command = match value.is_empty() {
            true => format!("mars tree del {path}"),
            false => format!("mars tree set {path} {value}"),
        };
        w.type_later(name, &command);
    }
}

/// What the keys above have left behind and only people take away again.
pub async fn clear_keys(w: &World, shape: &Shape, name: &str) {
    for host in &shape.names {
        for key in ["todo-HOST/emergency-limit", "connect-HOST"] {
            let path = format!("resource-{RES}/{}", key.replace("HOST", host));
            w.type_at(name, &format!("mars tree del {path}")).await;
        }
        let path = format!("defaults-{host}/sync-limit");
        w.type_at(name, &format!("mars tree del {path}")).await;
    }
    w.type_at(name, "mars tree del defaults/sync-limit").await;
}

/// `resize` adds at most so much.
const GROWTH_BYTES: u64 = 16 << 10;

/// Limits, and a resource that grows: first its disks, then the device.
pub fn set_limits(w: &mut World, shape: &Shape, name: &str) {
    let command = match w.chance.below(6) {
        0 => format!("set-emergency-limit {RES} {}", w.chance.below(3)),
        1 => format!("set-emergency-limit {RES} 1000"),
        2 => format!("set-emergency-limit {RES} x"),
        3 => format!("resize {RES} 1"),
        4 => format!("resize {RES} 1000000000000"),
        _ => {
            for host in &shape.names {
                let more = w.chance.between(1, 2) * GROWTH_BYTES / 2;
                w.host(host).fs.grow_disk(&SimHost::disk_path(RES), more);
            }
            format!("resize {RES}")
        }
    };
    w.type_later(name, &format!("marsadm {command} --timeout=10"));
}

/// Rotations and deletions faster than anybody needs them.
pub fn log_burst(w: &mut World, name: &str) {
    for _ in 0..w.chance.between(3, 8) {
        let verb = match w.chance.below(4) {
            0 => "log-delete-all",
            1 => "cron",
            _ => "log-rotate",
        };
        w.type_later(name, &format!("marsadm {verb} {RES} --timeout=10"));
    }
}

/// One bit of a copy changes: of a log that somebody else has written, so that it can be had again.
pub fn damage_copy(w: &mut World, name: &str) {
    let copies: Vec<_> = w
        .host(name)
        .fs
        .files_below(&Path::new(STATE_DIR).join(format!("resource-{RES}")))
        .into_iter()
        .filter(|path| {
            let log = path
                .file_name()
                .and_then(|n| n.to_str()?.parse::<LogName>().ok());
            log.is_some_and(|log| log.creator.as_str() != name)
        })
        .collect();
    let Some(path) = w.chance.pick(&copies) else {
        return;
    };
    let len = w.host(name).fs.bytes(path, false, <[u8]>::len).unwrap_or(0) as u64;
    let (at, bit) = (w.chance.below(len), w.chance.below(8) as u8);
    if w.host(name).fs.flip_bit(path, at, bit) {
        w.note(
            name,
            &format!("a bit of byte {at} of {} changes", path.display()),
        );
        w.note_damaged(name, path);
    }
}
