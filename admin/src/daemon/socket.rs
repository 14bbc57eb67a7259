//! The running daemon of this host, behind its control socket `D/mars.sock`.
//!
//! One connection per command. Waiting is done by the daemon ([`Request::WaitChange`]), so a command sees a change as soon as
//! it is there, and asks nothing meanwhile.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport::control::{self, Answer, ControlClient, ControlError, EntryText, Request};

use crate::daemon::{Change, Daemon, DaemonError, Trigger};
use crate::snapshot::{Item, Kind, Snapshot, TOMBSTONE, Time};

/// An answer which takes longer than this (besides the time a wait was asked for) will not come any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Pause after a change before the tree is read again: changes come in bursts.
const BURST: Duration = Duration::from_millis(5);

/// How long a command waits for a daemon that was started just before it (a shell has put it into the background, and reads on).
const STARTS_WITHIN: Duration = Duration::from_secs(3);

/// Pause between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module header.
pub struct SocketDaemon {
    client: ControlClient,
    dir: String,
    generation: u64,
    began: Instant,
    resources: Option<Vec<String>>,
}

impl SocketDaemon {
    /// Connects to the daemon with the state directory `dir`.
    #[expect(
        clippy::disallowed_methods,
        reason = "an operator's patience is real time"
    )]
    pub fn connect(dir: &Path) -> Result<SocketDaemon, DaemonError> {
        let client = ControlClient::connect(&dir.join("mars.sock"))
            .map_err(|error| understood(error, dir))?;
        let dir = dir.display().to_string();
        Ok(SocketDaemon {
            client,
            dir,
            generation: 0,
            began: Instant::now(),
            resources: None,
        })
    }

    /// Like [`SocketDaemon::connect`], for what cannot be done without the daemon: one that is just starting is waited for,
    /// at most [`STARTS_WITHIN`], when `dir` belongs to a member of a cluster.
    #[expect(
        clippy::disallowed_methods,
        reason = "an operator's patience is real time"
    )]
    pub fn connect_soon(dir: &Path) -> Result<SocketDaemon, DaemonError> {
        let asked = Instant::now();
        let prepared = dir.join("pki").is_dir();
        loop {
            match SocketDaemon::connect(dir) {
                Err(DaemonError::NotRunning { .. })
                    if prepared && asked.elapsed() < STARTS_WITHIN =>
                {
                    std::thread::sleep(LOOK_EVERY);
                }
                found => return found,
            }
        }
    }

    /// The name of the host this daemon runs for.
    pub fn host(&mut self) -> Result<String, DaemonError> {
        match self.ask(&Request::Ping)? {
            Answer::Pong { host, .. } => Ok(host),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks anything and answers what the daemon said, unless that is a refusal.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, DaemonError> {
        self.ask_within(request, ANSWER_WITHIN)
    }

    /// Asks for something that may take as long as it takes.
    pub fn ask_forever(&mut self, request: &Request) -> Result<Answer, DaemonError> {
        let dir = Path::new(&self.dir);
        self.client
            .set_timeout(None)
            .map_err(|error| understood(error, dir))?;
        self.client
            .request(request)
            .map_err(|error| understood(error, dir))
    }

    fn ask_within(&mut self, request: &Request, limit: Duration) -> Result<Answer, DaemonError> {
        let dir = Path::new(&self.dir);
        self.client
            .set_timeout(Some(limit))
            .map_err(|error| understood(error, dir))?;
        match self
            .client
            .request(request)
            .map_err(|error| understood(error, dir))?
        {
            Answer::Refused { reason } => Err(DaemonError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    /// The next answer to a [`Request::Watch`]; waits as long as it takes.
    pub fn next_answer(&mut self) -> Result<Answer, DaemonError> {
        let dir = Path::new(&self.dir);
        self.client
            .set_timeout(None)
            .map_err(|error| understood(error, dir))?;
        self.client
            .next_answer()
            .map_err(|error| understood(error, dir))
    }

    /// The part of the tree whose paths begin with `prefix`.
    pub fn below(&mut self, prefix: &str) -> Result<Snapshot, DaemonError> {
        self.read_tree(vec![prefix.to_owned()], None)
    }

    /// From now on snapshots hold the keys of these resources only, besides everything that is not below a resource. All
    /// resources as before, as soon as one of them turns out not to exist: perhaps it is a name of something else.
    pub fn narrow_to(&mut self, resources: Option<Vec<String>>) {
        self.resources = resources;
    }

    fn read_tree(
        &mut self,
        prefixes: Vec<String>,
        resources: Option<Vec<String>>,
    ) -> Result<Snapshot, DaemonError> {
        let request = Request::Snapshot {
            prefixes,
            resources,
            as_lines: true,
        };
        match self.ask(&request)? {
            Answer::Snapshot(answer) => {
                self.generation = answer.generation;
                understood_tree(answer)
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// A snapshot as the command lines work with it, from lines or from entries.
///
/// # Errors
/// [`DaemonError::Refused`] when the lines are not those of a tree file.
pub fn understood_tree(answer: control::Snapshot) -> Result<Snapshot, DaemonError> {
    let now = Time {
        sec: answer.now_sec,
        nsec: answer.now_nsec,
    };
    let mut tree = Snapshot::parse(&answer.lines, &answer.host, now)
        .map_err(|error| DaemonError::Refused(format!("unexpected answer: {error}")))?;
    if !answer.entries.is_empty() {
        let entries = answer.entries.into_iter();
        let items = entries.map(|mut entry| (std::mem::take(&mut entry.path), item(entry)));
        tree.entries = Arc::new(items.collect());
    }
    Ok(tree)
}

fn understood(error: ControlError, dir: &Path) -> DaemonError {
    match error {
        ControlError::NotRunning { socket, why }
            if why.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            DaemonError::NotAllowed { socket }
        }
        ControlError::NotRunning { socket, .. } => DaemonError::NotRunning {
            socket,
            dir: dir.display().to_string(),
        },
        ControlError::Broken { .. } => DaemonError::Refused(error.to_string()),
    }
}

/// An answer of another kind than asked for: a daemon of another version.
pub fn unexpected(answer: &Answer) -> DaemonError {
    let text: String = format!("{answer:?}").chars().take(80).collect();
    DaemonError::Refused(format!(
        "unexpected answer {text}: daemon and command line are of different versions"
    ))
}

/// An entry as a line of a tree file has it.
pub fn item(entry: EntryText) -> Item {
    let kind = match entry.kind {
        'f' => Kind::File,
        'r' => Kind::Remote,
        _ => Kind::Key,
    };
    let value = entry.value.unwrap_or_else(|| TOMBSTONE.to_owned());
    Item {
        value,
        sec: entry.sec,
        nsec: entry.nsec,
        kind,
    }
}

impl Daemon for SocketDaemon {
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError> {
        let tree = self.read_tree(Vec::new(), self.resources.clone())?;
        let is_missing = |res: &String| !tree.dir_exists(&format!("resource-{res}"));
        if self.resources.iter().flatten().any(is_missing) {
            self.resources = None;
            return self.read_tree(Vec::new(), None);
        }
        Ok(tree)
    }

    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        trigger: Trigger,
    ) -> Result<Time, DaemonError> {
        let changes = changes
            .iter()
            .map(|change| control::Change {
                path: change.path.clone(),
                value: (!change.is_deletion()).then(|| change.value.clone()),
            })
            .collect();
        let stamp = stamp.map(|at| (at.sec, at.nsec));
        match self.ask(&Request::Commit {
            changes,
            stamp,
            trigger: trigger.code(),
        })? {
            Answer::Committed { sec, nsec, .. } => Ok(Time { sec, nsec }),
            other => Err(unexpected(&other)),
        }
    }

    fn trigger(&mut self, trigger: Trigger) -> Result<(), DaemonError> {
        self.ask(&Request::Trigger {
            code: trigger.code(),
        })
        .map(drop)
    }

    fn forget(&mut self, _paths: &[String]) -> Result<bool, DaemonError> {
        Ok(false)
    }

    fn pause(&mut self, at_most: Duration) -> Result<(), DaemonError> {
        let timeout_ms = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX);
        let request = Request::WaitChange {
            generation: self.generation,
            timeout_ms,
        };
        match self.ask_within(&request, at_most + ANSWER_WITHIN)? {
            Answer::Generation { generation } if generation > self.generation => {
                std::thread::sleep(BURST.min(at_most));
                Ok(())
            }
            Answer::Generation { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn program(&self) -> Option<Vec<OsString>> {
        let program = std::env::current_exe().ok()?;
        Some(vec![
            program.into(),
            "marsadm".into(),
            format!("--dir={}", self.dir).into(),
        ])
    }

    fn facts(&mut self) -> Result<Option<String>, DaemonError> {
        match self.ask(&Request::Facts)? {
            Answer::Facts { json } => Ok(Some(json)),
            other => Err(unexpected(&other)),
        }
    }
}
