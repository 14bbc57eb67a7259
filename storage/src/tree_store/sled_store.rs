//! The tree store on sled, with everything sled does not do by itself.
//!
//! - `Db::flush` ends in the page cache: every commit is followed by `fdatasync` of sled's file.
//! - The periodic flusher rewrites the whole snapshot: it is off.
//! - Opening may panic, and may fail for good after the disk was full: it runs in a thread of its
//!   own; on failure first the snapshots are moved aside (sled rebuilds them from its log), then
//!   the whole directory, and then the node must resync.
//! - On a full disk it cannot even be opened: nothing is given up then, and the caller may try again with more room
//!   ([`crate::Reserve`]).
//! - Every value carries a checksum over its path and contents, looked at when loading.

use super::TreeStore;
use super::stored::{Names, decode, encode};
use crate::error::StoreError;
use crate::io::Fs;
use crate::real_fs::RealFs;
use crate::small_file::{read_small, remove_small, write_small};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path as FilePath, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use tree::{Entry, Path};

/// A start that takes longer than this counts as failed. A million keys take ten seconds.
const OPEN_SECONDS_MAX: u64 = 120;

/// With less space than this no failure to open proves that something is damaged.
const OPEN_FREE_BYTES_MIN: u64 = 2 << 20;

/// Text by which sled says that another process holds its lock.
const LOCKED_TEXT: &str = "could not acquire lock";

/// Settings of a [`SledStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Memory for sled's own cache, in bytes.
    pub cache_bytes: u64,
    /// How often to try again, every 100 ms, while another process still has the database: the
    /// predecessor may be about to end.
    pub lock_tries: u32,
}

impl Default for SledOptions {
    fn default() -> SledOptions {
        SledOptions {
            cache_bytes: 64 << 20,
            lock_tries: 50,
        }
    }
}

/// How opening went. All but `Good` are worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// As it should.
    Good,
    /// Only after sled's snapshots were moved aside. Nothing is missing.
    SnapshotsDropped {
        /// Why it could not be opened with them.
        reason: String,
    },
    /// Entries are missing; see [`TreeStore::must_resync`].
    Incomplete {
        /// What happened.
        reason: String,
    },
}

/// See the module.
pub struct SledStore {
    dir: PathBuf,
    options: SledOptions,
    /// `None` after a failure.
    open: Option<Open>,
    failed: String,
    loaded: Option<Vec<(Path, Entry)>>,
    must_resync: Option<String>,
}

struct Open {
    db: sled::Db,
    /// The file sled writes to, for `fdatasync`.
    file: File,
}

impl SledStore {
    /// Opens or creates the database in directory `dir` and reads all of it. Fails only when
    /// another process has it or when the directory cannot be used at all; a database that cannot
    /// be read is moved aside.
    pub fn open(dir: &FilePath, options: SledOptions) -> Result<(SledStore, Opened), StoreError> {
        let mut store = SledStore {
            dir: dir.to_owned(),
            options,
            open: None,
            failed: String::new(),
            loaded: None,
            must_resync: None,
        };
        let opened = store.open_somehow()?;
        store.must_resync = store.read_marker()?;
        Ok((store, opened))
    }

    /// From gentle to rough: as it is, without snapshots, anew. Lack of space is no reason to be rough.
    fn open_somehow(&mut self) -> Result<Opened, StoreError> {
        let reason = match self.try_open() {
            Err(
                e @ (StoreError::Locked { .. } | StoreError::Io { .. } | StoreError::Full { .. }),
            ) => {
                return Err(e);
            }
            Err(e) if !self.dir.is_dir() => return Err(e),
            Err(e) => e.to_string(),
            opened => return opened,
        };
        self.must_have_space()?;
        if self.move_snapshots_aside()? {
            match self.try_open() {
                Ok(Opened::Good) => return Ok(Opened::SnapshotsDropped { reason }),
                Err(e @ StoreError::Full { .. }) => return Err(e),
                Ok(other) => return Ok(other),
                Err(_) => {}
            }
        }
        // The marker comes first: a crash from here on must not look like a new node.
        let reason = format!("{reason}; begun anew");
        self.remember_resync(&reason)?;
        let aside = self.move_all_aside()?;
        tracing::error!(aside = %aside.display(), "tree database given up");
        self.try_open()?;
        Ok(Opened::Incomplete { reason })
    }

    /// One attempt.
    fn try_open(&mut self) -> Result<Opened, StoreError> {
        let mut tries = self.options.lock_tries;
        let open = loop {
            match open_guarded(&self.dir, self.options.cache_bytes) {
                Err(StoreError::Locked { .. }) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(100));
                }
                done => break done?,
            }
        };
        let (entries, damaged) = guarded(&self.dir, "reading", || read_all(&self.dir, &open.db))?;
        make_names_durable(&self.dir)?;
        self.open = Some(open);
        self.loaded = Some(entries);
        self.leave_out(&damaged)
    }

    /// Removes entries that are not what was written. That some are missing is remembered before
    /// they are gone.
    fn leave_out(&mut self, damaged: &[sled::IVec]) -> Result<Opened, StoreError> {
        if damaged.is_empty() {
            return Ok(Opened::Good);
        }
        let reason = format!("{} damaged entries left out", damaged.len());
        self.remember_resync(&reason)?;
        self.write(|db| damaged.iter().try_for_each(|key| db.remove(key).map(drop)))?;
        Ok(Opened::Incomplete { reason })
    }

    /// Changes the database and makes that durable. After any failure it is closed.
    fn write(
        &mut self,
        change: impl FnOnce(&sled::Db) -> sled::Result<()>,
    ) -> Result<(), StoreError> {
        let Some(open) = &self.open else {
            return Err(StoreError::Closed {
                path: self.dir.clone(),
                reason: self.failed.clone(),
            });
        };
        let written = guarded(&self.dir, "writing", || {
            change(&open.db)
                .and_then(|()| open.db.flush().map(drop))
                .map_err(|e| database(&self.dir, "writing", e))?;
            open.file
                .sync_data()
                .map_err(|e| refused(&self.dir, "flushing", e))
        });
        if let Err(e) = &written {
            self.failed = e.to_string();
            self.close();
        }
        written
    }

    /// Sled flushes when it is dropped, and may panic over that.
    fn close(&mut self) {
        let open = self.open.take();
        let closing = AssertUnwindSafe(|| drop(open));
        if expecting_panics(|| catch_unwind(closing)).is_err() {
            tracing::warn!(dir = %self.dir.display(), "tree database not closed cleanly");
        }
    }

    fn move_snapshots_aside(&self) -> Result<bool, StoreError> {
        let names = RealFs
            .list(&self.dir)
            .map_err(|e| refused(&self.dir, "listing", e))?;
        let snapshots: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with("snap."))
            .collect();
        for name in &snapshots {
            let (from, to) = (self.dir.join(name), self.dir.join(format!("bad-{name}")));
            RealFs
                .rename(&from, &to)
                .map_err(|e| refused(&from, "moving aside", e))?;
        }
        Ok(!snapshots.is_empty())
    }

    /// Renames the directory to the first free name `<dir>.bad-N`; durably, for the marker speaks
    /// of it.
    fn move_all_aside(&self) -> Result<PathBuf, StoreError> {
        let aside = (1..)
            .map(|n| self.beside(&format!("bad-{n}")))
            .find(|path| !path.exists())
            .expect("numbers do not end");
        let parent = self.dir.parent().unwrap_or(&self.dir);
        RealFs
            .rename(&self.dir, &aside)
            .and_then(|()| RealFs.sync_dir(parent))
            .map_err(|e| refused(&self.dir, "moving aside", e))?;
        Ok(aside)
    }

    /// A full disk explains every failure: then nothing is damaged, and nothing may be given up.
    fn must_have_space(&self) -> Result<(), StoreError> {
        let space = RealFs
            .free_space(&self.dir)
            .map_err(|e| refused(&self.dir, "asking for space", e))?;
        match space.free < OPEN_FREE_BYTES_MIN {
            true => Err(StoreError::Full {
                path: self.dir.clone(),
            }),
            false => Ok(()),
        }
    }

    fn remember_resync(&self, reason: &str) -> Result<(), StoreError> {
        let path = self.beside("must-resync");
        write_small(&RealFs, &path, reason.as_bytes()).map_err(|e| refused(&path, "writing", e))
    }

    fn read_marker(&self) -> Result<Option<String>, StoreError> {
        let path = self.beside("must-resync");
        let bytes = read_small(&RealFs, &path).map_err(|e| refused(&path, "reading", e))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// `<dir>.<suffix>`: survives when the directory is moved.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.dir.as_os_str().to_owned();
        path.push(".");
        path.push(suffix);
        path.into()
    }
}

impl TreeStore for SledStore {
    fn load(&mut self) -> Result<Vec<(Path, Entry)>, StoreError> {
        if let Some(entries) = self.loaded.take() {
            return Ok(entries);
        }
        let Some(open) = &self.open else {
            return Err(StoreError::Closed {
                path: self.dir.clone(),
                reason: self.failed.clone(),
            });
        };
        guarded(&self.dir, "reading", || read_all(&self.dir, &open.db)).map(|(entries, _)| entries)
    }

    fn commit(&mut self, changes: &[(Path, Option<Entry>)]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (path, entry) in changes {
            match entry {
                Some(entry) => batch.insert(path.as_str(), encode(path, entry)),
                None => batch.remove(path.as_str()),
            }
        }
        self.write(|db| db.apply_batch(batch))
    }

    fn must_resync(&self) -> Option<&str> {
        self.must_resync.as_deref()
    }

    fn resynced(&mut self) -> Result<(), StoreError> {
        let path = self.beside("must-resync");
        remove_small(&RealFs, &path).map_err(|e| refused(&path, "removing", e))?;
        self.must_resync = None;
        Ok(())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens sled in a thread of its own: it may panic, and it must not take for ever.
fn open_guarded(dir: &FilePath, cache_bytes: u64) -> Result<Open, StoreError> {
    let (done, wait) = mpsc::channel();
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .flush_every_ms(None);
    let path = dir.to_owned();
    std::thread::Builder::new()
        .name("open-tree".to_owned())
        .spawn(move || {
            let opened = guarded(&path, "opening", || {
                config.open().map_err(|e| database(&path, "opening", e))
            });
            // Nobody waits any more when this took too long.
            let _ = done.send(opened);
        })
        .map_err(|e| refused(dir, "starting a thread", e))?;
    let db = wait
        .recv_timeout(Duration::from_secs(OPEN_SECONDS_MAX))
        .map_err(|_| StoreError::Database {
            path: dir.to_owned(),
            doing: "opening",
            reason: format!("no answer within {OPEN_SECONDS_MAX} s"),
        })??;
    let file = File::open(dir.join("db")).map_err(|e| refused(dir, "opening sled's file", e))?;
    Ok(Open { db, file })
}

thread_local! {
    static PANIC_IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread, now, would become an error: the database below is known for them.
pub fn panic_is_expected() -> bool {
    PANIC_IS_EXPECTED.get()
}

fn expecting_panics<T>(job: impl FnOnce() -> T) -> T {
    let before = PANIC_IS_EXPECTED.replace(true);
    let done = job();
    PANIC_IS_EXPECTED.set(before);
    done
}

/// Runs something that may panic; the panic becomes an error.
fn guarded<T>(
    dir: &FilePath,
    doing: &'static str,
    job: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let caught = expecting_panics(|| catch_unwind(AssertUnwindSafe(job)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let reason = format!("panic: {}", text.as_deref().unwrap_or("without text"));
        Err(StoreError::Database {
            path: dir.to_owned(),
            doing,
            reason,
        })
    })
}

/// After so many entries two readers look whether they have met.
const READ_TOGETHER: usize = 1024;

/// Intact entries, and the keys of those that are damaged.
type Everything = (Vec<(Path, Entry)>, Vec<sled::IVec>);

/// All of the database, ascending by path. Two threads read towards each other, one from each end: fetching a page and
/// decoding what is in it is work of the processor, and nobody knows beforehand where the middle is.
fn read_all(dir: &FilePath, db: &sled::Db) -> Result<Everything, StoreError> {
    let meeting = Meeting::default();
    let (front, back) = std::thread::scope(|scope| {
        let back = scope.spawn(|| {
            expecting_panics(|| read_until_met(dir, db.iter().rev(), |key| meeting.back(key)))
        });
        let front = read_until_met(dir, db.iter(), |key| meeting.front(key));
        let back = back
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (front, back)
    });
    let ((mut entries, mut damaged), (mut behind, behind_damaged)) = (front?, back?);
    // They may have passed each other by some entries.
    let last = meeting.into_front();
    let is_behind = |key: &[u8]| last.as_deref().is_none_or(|last| key > last);
    behind.reverse();
    let twice = behind.partition_point(|(path, _)| !is_behind(path.as_str().as_bytes()));
    entries.extend(behind.drain(twice..));
    damaged.extend(behind_damaged.into_iter().filter(|key| is_behind(key)));
    Ok((entries, damaged))
}

/// How far two readers have come.
#[derive(Default)]
struct Meeting {
    /// The greatest key read from the front, and the least one read from the back.
    read: Mutex<(Option<sled::IVec>, Option<sled::IVec>)>,
}

impl Meeting {
    /// Everything from the front up to `key` is read. Is everything read now?
    fn front(&self, key: sled::IVec) -> bool {
        let mut read = self.read.lock();
        read.0 = Some(key);
        read.1.is_some() && read.0 >= read.1
    }

    /// Everything from the back down to `key` is read. Is everything read now?
    fn back(&self, key: sled::IVec) -> bool {
        let mut read = self.read.lock();
        read.1 = Some(key);
        read.0 >= read.1
    }

    /// The greatest key read from the front.
    fn into_front(self) -> Option<sled::IVec> {
        self.read.into_inner().0
    }
}

/// Reads and decodes until `have_met`, told of a key now and then, says that the other reader has the rest.
fn read_until_met(
    dir: &FilePath,
    items: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    have_met: impl Fn(sled::IVec) -> bool,
) -> Result<Everything, StoreError> {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    let mut names = Names::default();
    let mut last = None;
    for (nr, item) in items.enumerate() {
        let (key, bytes) = item.map_err(|e| database(dir, "reading", e))?;
        match decode(&key, &bytes, &mut names) {
            Ok(entry) => entries.push(entry),
            Err(e) => {
                let key_text = String::from_utf8_lossy(&key);
                tracing::error!(key = %key_text, error = %e, "damaged entry left out");
                damaged.push(key.clone());
            }
        }
        if (nr + 1) % READ_TOGETHER == 0 && have_met(key.clone()) {
            return Ok((entries, damaged));
        }
        last = Some(key);
    }
    // At its end: the other reader can stop at once.
    if let Some(key) = last {
        have_met(key);
    }
    Ok((entries, damaged))
}

/// Sled makes none of its names durable.
fn make_names_durable(dir: &FilePath) -> Result<(), StoreError> {
    let files = ["conf", "db"].map(|name| dir.join(name));
    for path in files.iter().filter(|path| path.exists()) {
        File::open(path)
            .and_then(|file| file.sync_data())
            .map_err(|e| refused(path, "flushing", e))?;
    }
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        RealFs
            .sync_dir(dir)
            .map_err(|e| refused(dir, "making names durable", e))?;
    }
    Ok(())
}

fn database(dir: &FilePath, doing: &'static str, e: sled::Error) -> StoreError {
    let path = dir.to_owned();
    match e {
        sled::Error::Io(e) if crate::is_no_space(&e) => StoreError::Full { path },
        sled::Error::Io(source) if is_of_this_moment(&source) => StoreError::Io {
            path,
            doing,
            source,
        },
        e if e.to_string().contains(LOCKED_TEXT) => StoreError::Locked { path },
        e => StoreError::Database {
            path,
            doing,
            reason: e.to_string(),
        },
    }
}

/// Errors that say nothing about the database: it must not be given up for them.
fn is_of_this_moment(e: &io::Error) -> bool {
    let errno = e.raw_os_error().map(Errno::from_raw_os_error);
    let passing = [
        Errno::ACCESS,
        Errno::PERM,
        Errno::ROFS,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
    ];
    errno.is_some_and(|errno| passing.contains(&errno))
}

fn refused(path: &FilePath, doing: &'static str, source: io::Error) -> StoreError {
    let path = path.to_owned();
    match crate::is_no_space(&source) {
        true => StoreError::Full { path },
        false => StoreError::Io {
            path,
            doing,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_answer(errno: Errno, expected: fn(&StoreError) -> bool) {
        let e = io::Error::from_raw_os_error(errno.raw_os_error());
        let e = database(FilePath::new("tree"), "opening", sled::Error::Io(e));
        assert!(expected(&e), "{errno:?} became {e:?}");
    }

    #[test]
    fn a_database_is_not_given_up_for_lack_of_space_files_or_rights() {
        check_answer(Errno::NOSPC, |e| matches!(e, StoreError::Full { .. }));
        check_answer(Errno::MFILE, |e| matches!(e, StoreError::Io { .. }));
        check_answer(Errno::ACCESS, |e| matches!(e, StoreError::Io { .. }));
        check_answer(Errno::IO, |e| matches!(e, StoreError::Database { .. }));
    }
}
