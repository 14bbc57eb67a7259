//! What one host knew of the cluster at one moment: the key tree as text, with stamps.
//!
//! Everything the command lines read, they read from here, whether the tree came from the running daemon or
//! from a file that `mars tree dump` wrote. Paths have no leading `/mars/`; only messages print it.
//! Never talks to the daemon, never looks at a disk.
//!
//! Line format of a tree file: `path TAB value TAB stamp TAB type`, `#` begins a comment. Types: `l` a key, `f` a file
//! which is held here (the value is its length in bytes, or `text:` and its contents), `d` a directory that exists without
//! keys below it, `r` a log which exists elsewhere only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The value which says "this key was deleted".
pub const TOMBSTONE: &str = ".deleted";

/// A Lamport time as stored and printed: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds since 1970.
    pub sec: u64,
    /// Nanoseconds within that second, below 10^9.
    pub nsec: u32,
}

impl Time {
    /// That many whole seconds after 1970.
    pub fn from_secs(sec: u64) -> Time {
        Time { sec, nsec: 0 }
    }

    /// The time as one number of nanoseconds, as the daemon counts it.
    pub fn as_ns(self) -> u64 {
        self.sec
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(self.nsec))
    }

    /// The reverse of [`Time::as_ns`].
    pub fn from_ns(ns: u64) -> Time {
        Time {
            sec: ns / 1_000_000_000,
            nsec: (ns % 1_000_000_000) as u32,
        }
    }

    /// Whether no more than `window` seconds have passed since this time (manual: liveness window).
    pub fn is_recent(self, now: Time, window: u64) -> bool {
        Time {
            sec: self.sec.saturating_add(window),
            nsec: self.nsec,
        } >= now
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.sec, self.nsec)
    }
}

impl FromStr for Time {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Time, SnapshotError> {
        let bad = || SnapshotError::Time(text.to_owned());
        let (sec, frac) = text.split_once('.').unwrap_or((text, ""));
        let sec = sec.parse().map_err(|_| bad())?;
        if frac.len() > 9 || !frac.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let digits = frac.bytes().chain(std::iter::repeat(b'0')).take(9);
        let nsec = digits.fold(0, |nsec, digit| nsec * 10 + u32::from(digit - b'0'));
        Ok(Time { sec, nsec })
    }
}

/// What sort of object lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key of the replicated tree (`l`).
    Key,
    /// A directory known to exist although no key lies below it (`d`). Only in hand-made tree files.
    Dir,
    /// A file held by this host, in practice a transaction log (`f`).
    File,
    /// A log known to exist, but not held by this host (`r`).
    Remote,
}

/// One object of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value as stored; [`TOMBSTONE`] when deleted; for a file its length in bytes.
    pub value: String,
    /// When it was written, whole seconds.
    pub sec: u64,
    /// When it was written, nanoseconds.
    pub nsec: u32,
    /// Key, directory, file held here or log held elsewhere.
    pub kind: Kind,
}

impl Item {
    /// When it was written.
    pub fn time(&self) -> Time {
        Time {
            sec: self.sec,
            nsec: self.nsec,
        }
    }

    /// Not a tombstone.
    pub fn is_live(&self) -> bool {
        self.value != TOMBSTONE
    }
}

/// Why a tree file or a time could not be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// A line has not four columns.
    #[error(
        "line {line} of the tree file has {found} columns instead of 4 (path, value, stamp, type)"
    )]
    Columns {
        /// Line number, from 1.
        line: usize,
        /// How many columns it has.
        found: usize,
    },
    /// A line has a type other than `l`, `d`, `f`, `r`.
    #[error("line {line} of the tree file has the unknown type '{found}' (known are l, d, f, r)")]
    Type {
        /// Line number, from 1.
        line: usize,
        /// The type as it stands there.
        found: String,
    },
    /// Not `SEC` or `SEC.NSEC`.
    #[error("'{0}' is not a time (expected SEC or SEC.NSEC)")]
    Time(String),
}

/// The tree of one host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The host which is acted for: the own one, or what `--host=` says.
    pub host: String,
    /// The Lamport time of the snapshot.
    pub now: Time,
    /// Everything known, by path without `/mars/`, tombstones included.
    /// Shared by all copies of the snapshot until one of them changes.
    pub entries: Arc<BTreeMap<String, Item>>,
    /// Whether the daemon of this host runs (in words of the original: whether the module is loaded).
    pub daemon_runs: bool,
}

impl Snapshot {
    /// Reads a tree file as `mars tree dump` prints it.
    pub fn parse(text: &str, host: &str, now: Time) -> Result<Snapshot, SnapshotError> {
        let lines = text.lines().enumerate();
        let meant = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        // Built in one go: much cheaper than key by key when the lines are in order.
        let entries: Result<BTreeMap<_, _>, _> =
            meant.map(|(nr, line)| parse_line(nr + 1, line)).collect();
        Ok(Snapshot {
            host: host.to_owned(),
            now,
            entries: Arc::new(entries?),
            daemon_runs: true,
        })
    }

    /// The whole tree in the line format of the module header, sorted by path.
    pub fn dump(&self) -> String {
        self.entries
            .iter()
            .map(|(path, item)| dump_line(path, item))
            .collect()
    }

    /// The value of a key (or the length of a file held here), unless absent or deleted.
    pub fn live(&self, path: &str) -> Option<&str> {
        self.live_item(path).map(|item| item.value.as_str())
    }

    /// As [`Snapshot::live`], but the empty text for absent, as the original reads keys.
    pub fn text(&self, path: &str) -> &str {
        self.live(path).unwrap_or("")
    }

    /// A key as a whole number, if it is there and is one.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.live(path)?.trim().parse().ok()
    }

    /// The live object at a path; directories and logs held elsewhere do not count.
    pub fn live_item(&self, path: &str) -> Option<&Item> {
        self.entries
            .get(path)
            .filter(|item| item.is_live() && matches!(item.kind, Kind::Key | Kind::File))
    }

    /// The objects, to be changed.
    pub fn entries_mut(&mut self) -> &mut BTreeMap<String, Item> {
        Arc::make_mut(&mut self.entries)
    }

    /// When the object at a path was written, tombstones included.
    pub fn stamp(&self, path: &str) -> Option<Time> {
        self.entries.get(path).map(Item::time)
    }

    /// Whether the directory `dir` (without a slash at its end) exists: something live lies below, or it is listed itself.
    pub fn dir_exists(&self, dir: &str) -> bool {
        self.entries
            .get(dir)
            .is_some_and(|item| item.kind == Kind::Dir)
            || self.below(dir).any(|(_, item)| item.is_live())
    }

    /// Every object below the directory `dir` (without a slash at its end), at any depth, tombstones included.
    pub fn below<'a>(&'a self, dir: &str) -> impl Iterator<Item = (&'a str, &'a Item)> + use<'a> {
        self.with_prefix(&format!("{dir}/"))
    }

    /// Every object whose path begins with `prefix`, tombstones included, in order of the paths.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Item)> + use<'a> {
        let prefix = prefix.to_owned();
        self.entries
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, item)| (path.as_str(), item))
    }

    /// What follows `prefix` in the names of live objects right there, not deeper: `owners("resource-r/data-")` gives the
    /// hosts of all live `data-` keys, in order.
    pub fn owners<'a>(&'a self, prefix: &str) -> Vec<&'a str> {
        let len = prefix.len();
        self.with_prefix(prefix)
            .filter(|(_, item)| item.is_live() && matches!(item.kind, Kind::Key | Kind::File))
            .map(|(path, _)| &path[len..])
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .collect()
    }

    /// The names of everything directly below a directory which is live or holds something live, in order.
    pub fn children(&self, dir: &str) -> BTreeSet<&str> {
        let len = dir.len() + 1;
        self.below(dir)
            .filter(|(_, item)| item.is_live() && item.kind != Kind::Remote)
            .filter_map(|(path, _)| path[len..].split('/').next())
            .collect()
    }

    /// The names of all resources whose directory exists, in order.
    pub fn resources(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .with_prefix("resource-")
            .filter(|(_, item)| item.is_live())
            .filter_map(|(path, _)| path["resource-".len()..].split('/').next())
            .collect();
        names.dedup();
        names
    }
}

fn parse_line(line: usize, text: &str) -> Result<(String, Item), SnapshotError> {
    let mut columns = text.split('\t');
    let mut next = || columns.next();
    let (Some(path), Some(value), Some(stamp), Some(kind), None) =
        (next(), next(), next(), next(), next())
    else {
        return Err(SnapshotError::Columns {
            line,
            found: text.split('\t').count(),
        });
    };
    let kind = match kind {
        "l" => Kind::Key,
        "d" => Kind::Dir,
        "f" => Kind::File,
        "r" => Kind::Remote,
        other => {
            return Err(SnapshotError::Type {
                line,
                found: other.to_owned(),
            });
        }
    };
    let time: Time = if stamp == "-" {
        Time::default()
    } else {
        stamp.parse()?
    };
    let path = path.strip_prefix("/mars/").unwrap_or(path).to_owned();
    Ok((
        path,
        Item {
            value: value.to_owned(),
            sec: time.sec,
            nsec: time.nsec,
            kind,
        },
    ))
}

/// One line of a tree file; whole seconds are printed without a fraction.
fn dump_line(path: &str, item: &Item) -> String {
    let kind = match item.kind {
        Kind::Key => 'l',
        Kind::Dir => 'd',
        Kind::File => 'f',
        Kind::Remote => 'r',
    };
    let stamp = if item.nsec == 0 {
        item.sec.to_string()
    } else {
        item.time().to_string()
    };
    format!("{path}\t{}\t{stamp}\t{kind}\n", item.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Snapshot {
        Snapshot::parse(&text.replace(" | ", "\t"), "alpha", Time::from_secs(100))
            .expect("the test's own tree")
    }

    #[test]
    fn a_deleted_key_reads_as_absent_but_keeps_its_stamp() {
        let tree = read("uuid | .deleted | 7 | l\n");
        assert_eq!(tree.live("uuid"), None);
        assert_eq!(tree.stamp("uuid"), Some(Time::from_secs(7)));
    }

    #[test]
    fn a_log_held_elsewhere_is_not_read_as_held_here() {
        let tree = read(
            "resource-r/log-000000001-a | 5 | 7 | r\nresource-r/log-000000002-a | 6 | 7 | f\n",
        );
        assert_eq!(tree.owners("resource-r/log-"), ["000000002-a"]);
    }

    #[test]
    fn a_directory_exists_through_live_keys_or_by_itself() {
        let tree = read("a/b | 1 | 7 | l\nc | - | 7 | d\nd/e | .deleted | 7 | l\n");
        assert!(tree.dir_exists("a") && tree.dir_exists("c"));
        assert!(!tree.dir_exists("d") && !tree.dir_exists("e"));
    }

    #[test]
    fn a_dump_reads_back_as_the_same_tree() {
        let tree = read("a | x y | 7.000000001 | l\nb | - | 7 | d\nlog | 5 | 8 | f\n");
        assert_eq!(Snapshot::parse(&tree.dump(), "alpha", tree.now), Ok(tree));
    }

    #[test]
    fn a_time_has_up_to_nine_digits_behind_the_point() {
        let read = |text: &str| text.parse::<Time>().map(|time| time.nsec).ok();
        assert_eq!(read("7"), Some(0));
        assert_eq!(read("7."), Some(0));
        assert_eq!(read("7.5"), Some(500_000_000));
        assert_eq!(read("7.000000019"), Some(19));
        assert_eq!(read("7.0000000001"), None);
        assert_eq!(read("7.-1"), None);
    }

    #[test]
    fn of_two_lines_about_one_path_the_last_counts() {
        let tree = read("b | 1 | 7 | l\na | 1 | 7 | l\nb | 2 | 7 | l\n");
        assert_eq!(tree.live("b"), Some("2"));
        assert_eq!(tree.entries.len(), 2);
    }

    #[test]
    fn a_line_with_too_few_columns_is_refused_with_its_number() {
        let broken = Snapshot::parse("# ok\na\tb\n", "alpha", Time::default());
        assert_eq!(broken, Err(SnapshotError::Columns { line: 2, found: 2 }));
        let broken = Snapshot::parse("a\tb\t7\tl\t\t", "alpha", Time::default());
        assert_eq!(broken, Err(SnapshotError::Columns { line: 1, found: 6 }));
    }
}
