//! Which logs of a resource does this host hold, up to where, and in what state?
//!
//! One [`Shelf`] per resource: the own log being written, finished logs, copies fetched from peers. Logger and
//! fetcher tell it what has become durable; replayers and sources wait on it instead of polling; the main
//! loop reads it for its facts. It never decides what to fetch, to apply or to delete.
//!
//! At start every file is checked from its last published end on; torn tails are dropped, whatever else
//! is wrong is kept for the operator with file and offset.
//!
//! Data-path invariants 19 (nothing behind the first damaged byte), 20 (a copy is a prefix), 26 (never
//! appended after a restart).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use storage::{LogError, LogFile, LogIdentity, Recent};
use tree::{Digest128, Host, LogName, Resource};

use crate::job::ChainEnd;
use crate::ports::{Exec, Lane, Ports, blocking};
use crate::watch;

/// Copies that replace a damaged one grow in this directory beside the logs.
const FRESH_DIR: &str = "fresh";

/// What is known about one local log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Bytes that are whole, intact as far as known, and on the medium; at a record boundary.
    pub durable: u64,
    /// Digest of the chain up to there.
    pub digest: Digest128,
    /// Nothing will ever be appended: `durable` is the final length.
    pub finished: bool,
    /// The first place which is known to be damaged. Everything before it may be used.
    pub damaged: Option<Damage>,
    /// Rises when the file is replaced by a fresh copy: whoever has it open must open it again.
    pub incarnation: u64,
}

/// A place in a local log file which is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Logical offset, at a record boundary.
    pub offset: u64,
    /// Digest of the chain up to there, if it is known.
    pub digest: Option<Digest128>,
    /// File and flaw, as text.
    pub error: String,
}

impl LogState {
    /// How far it may be read.
    pub fn usable(&self) -> u64 {
        let bad = self.damaged.as_ref().map_or(u64::MAX, |d| d.offset);
        self.durable.min(bad)
    }

    /// Digest of the chain up to there, if it is known.
    pub fn usable_digest(&self) -> Option<Digest128> {
        let cut = self.damaged.as_ref().filter(|d| d.offset < self.durable);
        let digest = cut.map_or(Some(self.digest), |damage| damage.digest);
        digest.filter(|digest| !digest.is_zero())
    }

    /// Whether it is here completely.
    pub fn complete(&self) -> bool {
        self.finished && self.damaged.is_none()
    }

    fn at(end: storage::LogEnd) -> LogState {
        LogState {
            durable: end.len,
            digest: end.digest,
            finished: false,
            damaged: None,
            incarnation: 0,
        }
    }
}

/// Why the shelf cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The directory or a file in it cannot be read or changed.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// During what.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// This log is not here.
    #[error("{res}: {log} is not held by this host")]
    Unknown {
        /// The resource.
        res: Resource,
        /// The log.
        log: LogName,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The daemon is going down.
    #[error("the daemon is stopping")]
    Stopping,
}

/// The local logs of one resource.
pub struct Shelf {
    identity: Identity,
    dir: PathBuf,
    ports: Ports,
    logs: Mutex<BTreeMap<LogName, watch::Sender<LogState>>>,
    /// Newest bytes of the logs that are or were being fetched.
    recent: Mutex<BTreeMap<LogName, Arc<Recent>>>,
    changes: watch::Sender<u64>,
}

/// What every log on this shelf has in common.
#[derive(Clone, Debug)]
struct Identity {
    here: Host,
    cluster: Arc<str>,
    res: Resource,
}

impl Identity {
    fn of(&self, log: &LogName) -> LogIdentity {
        LogIdentity {
            cluster: self.cluster.to_string(),
            resource: self.res.clone(),
            log: log.clone(),
        }
    }
}

impl Shelf {
    /// Looks through `dir` (made if missing). `known` holds the ends this host has published in its version links:
    /// what lies before them is not read again, and a file which does not reach them is damaged.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read or changed. A file with wrong contents is a damaged log instead.
    pub async fn open(
        here: Host,
        cluster: Arc<str>,
        res: Resource,
        dir: PathBuf,
        ports: Ports,
        known: Vec<ChainEnd>,
    ) -> Result<Arc<Shelf>, ShelfError> {
        let identity = Identity { here, cluster, res };
        let (fs, asked, path) = (ports.fs.clone(), identity.clone(), dir.clone());
        let look = move || look_through(&*fs, &asked, &path, &known);
        let found = blocking(&*ports.exec, &Lane::Misc, look)
            .await
            .ok_or(ShelfError::Stopping)??;
        let logs = found
            .into_iter()
            .map(|(log, state)| (log, watch::Sender::new(state)))
            .collect();
        Ok(Arc::new(Shelf {
            identity,
            dir,
            ports,
            logs: Mutex::new(logs),
            recent: Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a fresh copy of a damaged log grows.
    pub fn fresh_dir(&self) -> PathBuf {
        self.dir.join(FRESH_DIR)
    }

    /// What the header of `log` has to say.
    pub fn identity(&self, log: &LogName) -> LogIdentity {
        self.identity.of(log)
    }

    /// All logs held here, in order.
    pub fn list(&self) -> Vec<(LogName, LogState)> {
        let logs = self.logs.lock();
        logs.iter()
            .map(|(log, state)| (log.clone(), state.borrow().clone()))
            .collect()
    }

    /// One log, if it is here.
    pub fn state(&self, log: &LogName) -> Option<LogState> {
        self.logs
            .lock()
            .get(log)
            .map(|state| state.borrow().clone())
    }

    /// Follows one log. The channel closes when the log is deleted.
    pub fn watch(&self, log: &LogName) -> Option<watch::Receiver<LogState>> {
        self.logs.lock().get(log).map(watch::Sender::subscribe)
    }

    /// Rises whenever a log comes, goes, is finished, damaged or repaired; not when one only grows.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Opens a log for reading. Reading is allowed up to [`LogState::usable`].
    ///
    /// # Errors
    /// When it is not here or its header is not that of this log.
    pub async fn open_log(&self, log: &LogName) -> Result<Arc<LogFile>, ShelfError> {
        if self.state(log).is_none() {
            return Err(ShelfError::Unknown {
                res: self.identity.res.clone(),
                log: log.clone(),
            });
        }
        let (fs, path) = (self.ports.fs.clone(), self.dir.join(log.to_string()));
        let wanted = self.identity.of(log);
        let lane = Lane::Read(self.identity.res.clone());
        let open = move || LogFile::open(&*fs, &path, Some(&wanted));
        let opened = self.blocking(&lane, open).await??;
        Ok(Arc::new(opened.with_recent(self.recent(log))))
    }

    /// Where the fetcher of a log keeps what its replayer is going to read next.
    pub(super) fn recent(&self, log: &LogName) -> Arc<Recent> {
        self.recent.lock().entry(log.clone()).or_default().clone()
    }

    /// Forgets a log and removes its file, durably. Readers which have it open may finish.
    ///
    /// # Errors
    /// When the file cannot be removed; the log is then still on the shelf. A log which is not here is no error.
    pub async fn delete(&self, log: &LogName) -> Result<(), ShelfError> {
        let (fs, dir, path) = (
            self.ports.fs.clone(),
            self.dir.clone(),
            self.dir.join(log.to_string()),
        );
        let remove = move || {
            if fs
                .len_of(&path)
                .map_err(failed(&path, "looking for it"))?
                .is_some()
            {
                fs.remove(&path).map_err(failed(&path, "removing it"))?;
            }
            fs.sync_dir(&dir)
                .map_err(failed(&dir, "making a removal durable"))
        };
        self.blocking(&Lane::Misc, remove).await??;
        self.logs.lock().remove(log);
        self.recent.lock().remove(log);
        self.note_change();
        Ok(())
    }

    /// The log will never be longer: a successor continues it at its present end.
    pub fn finish(&self, log: &LogName) {
        self.change(log, |state| !std::mem::replace(&mut state.finished, true));
    }

    /// What continued the log at its present end was given up, and the log goes on behind it.
    pub fn reopen(&self, log: &LogName) {
        self.change(log, |state| std::mem::replace(&mut state.finished, false));
    }

    /// Somebody has read bytes which are not what was written.
    pub fn mark_damaged(&self, log: &LogName, damage: Damage) {
        let Damage { offset, error, .. } = &damage;
        tracing::error!(res = %self.identity.res, log = %log, offset, error, "log is damaged");
        self.change(log, |state| {
            let sooner = state
                .damaged
                .as_ref()
                .is_none_or(|known| damage.offset < known.offset);
            if sooner {
                state.damaged = Some(damage);
            }
            sooner
        });
    }

    /// Digest of the chain up to `len` of a log, as its file has it; `None` when that cannot be read any more. Reads
    /// the file up to there.
    pub async fn digest_at(&self, log: &LogName, len: u64) -> Option<Digest128> {
        let file = self.open_log(log).await.ok()?;
        let lane = Lane::Read(self.identity.res.clone());
        let digest = self.blocking(&lane, move || file.digest_at(len)).await;
        digest.ok()?.ok()
    }

    /// A log was created or replaced; it reaches up to `end`.
    pub(super) fn put(&self, log: &LogName, end: storage::LogEnd, finished: bool) {
        self.recent.lock().remove(log);
        let mut logs = self.logs.lock();
        let sender = logs
            .entry(log.clone())
            .or_insert_with(|| watch::Sender::new(LogState::at(end)));
        sender.send_modify(|state| {
            let incarnation = state.incarnation + 1;
            *state = LogState {
                finished,
                incarnation,
                ..LogState::at(end)
            };
        });
        drop(logs);
        self.note_change();
    }

    /// More of a log is durable. With `finished` this was the last of it.
    pub(super) fn grow(&self, log: &LogName, end: storage::LogEnd, finished: bool) {
        self.change(log, |state| {
            assert!(
                end.len >= state.durable,
                "{log} is durable up to {} and cannot end at {}",
                state.durable,
                end.len
            );
            state.durable = end.len;
            state.digest = end.digest;
            finished && !std::mem::replace(&mut state.finished, true)
        });
    }

    /// `what` says whether the change matters to the main loop.
    fn change(&self, log: &LogName, what: impl FnOnce(&mut LogState) -> bool) {
        let mut matters = false;
        if let Some(sender) = self.logs.lock().get(log) {
            sender.send_modify(|state| matters = what(state));
        }
        if matters {
            self.note_change();
        }
    }

    fn note_change(&self) {
        self.changes.send_modify(|nr| *nr += 1);
    }

    async fn blocking<T: Send + 'static>(
        &self,
        lane: &Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ShelfError> {
        let exec: &dyn Exec = &*self.ports.exec;
        blocking(exec, lane, work).await.ok_or(ShelfError::Stopping)
    }
}

/// Reads the directory and brings every log in it into a usable state.
fn look_through(
    fs: &dyn storage::Fs,
    identity: &Identity,
    dir: &Path,
    known: &[ChainEnd],
) -> Result<Vec<(LogName, LogState)>, ShelfError> {
    fs.create_dir(dir)
        .map_err(failed(dir, "making the directory"))?;
    if let Some(above) = dir.parent() {
        fs.sync_dir(above)
            .map_err(failed(above, "making a name durable"))?;
    }
    let names = fs.list(dir).map_err(failed(dir, "listing it"))?;
    let logs = names.iter().filter_map(|name| name.parse::<LogName>().ok());
    let look = |log: LogName| {
        let known = known.iter().find(|end| end.log == log);
        if known.is_none() && is_remainder(fs, &dir.join(log.to_string()))? {
            return Ok(None);
        }
        let state = look_at(fs, identity, dir, &log, known)?;
        Ok(Some((log, state)))
    };
    logs.map(look).filter_map(Result::transpose).collect()
}

/// A log that was being created: its header is durable before anybody is told of it, so one that has none was never
/// told of. Whoever creates it again replaces the file.
fn is_remainder(fs: &dyn storage::Fs, path: &Path) -> Result<bool, LogError> {
    let len = fs.len_of(path).map_err(|source| LogError::Io {
        path: path.to_owned(),
        doing: "asking for its length",
        source,
    })?;
    let nothing_behind = len.is_none_or(|len| len <= storage::HEADER_BYTES);
    Ok(nothing_behind && matches!(LogFile::open(fs, path, None), Err(LogError::Header { .. })))
}

/// One file: from its published end on, and from its beginning when that fails. What cannot be read now may be
/// intact, so that is an error and no damage.
fn look_at(
    fs: &dyn storage::Fs,
    identity: &Identity,
    dir: &Path,
    log: &LogName,
    known: Option<&ChainEnd>,
) -> Result<LogState, LogError> {
    let path = dir.join(log.to_string());
    let wanted = identity.of(log);
    let own = log.creator == identity.here;
    let published = known.map(ChainEnd::end).filter(|end| !end.digest.is_zero());
    let at_least = published.map_or(0, |end| end.len);
    let first = storage::recover(fs, &path, &wanted, published, at_least);
    let found = match first {
        Ok(found) => return Ok(state_of(log, found, own, None)),
        Err(error @ LogError::Io { .. }) => return Err(error),
        Err(error) => error,
    };
    tracing::error!(res = %identity.res, %log, error = %found, "a local log is not what it was");
    match storage::recover(fs, &path, &wanted, None, 0) {
        Ok(rest) => {
            let damage = Damage {
                offset: rest.end.len,
                digest: Some(rest.end.digest),
                error: found.to_string(),
            };
            Ok(state_of(log, rest, own, Some(damage)))
        }
        Err(error @ LogError::Io { .. }) => Err(error),
        Err(error) => Ok(LogState {
            damaged: Some(Damage {
                offset: 0,
                digest: None,
                error: error.to_string(),
            }),
            finished: own,
            ..LogState::at(storage::LogEnd {
                len: 0,
                digest: Digest128::ZERO,
            })
        }),
    }
}

fn state_of(
    log: &LogName,
    found: storage::Recovered,
    own: bool,
    damaged: Option<Damage>,
) -> LogState {
    if let Some(torn) = &found.torn {
        tracing::warn!(%log, at = found.end.len, %torn, "dropped a torn tail");
    }
    LogState {
        // Own logs are never appended to after a restart, sealed or not (invariant 26).
        finished: found.sealed || own,
        damaged,
        ..LogState::at(found.end)
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> ShelfError {
    let path = path.to_owned();
    move |source| ShelfError::Io {
        path,
        doing,
        source,
    }
}
