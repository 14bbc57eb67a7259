//! The local socket between the daemon and its command lines: what can be asked, and what is answered.
//!
//! `D/mars.sock`, mode 0600: whoever may open it may command this host (design section 6), so nothing here is
//! checked again. One frame (see [`crate::frame`]) per request and per answer, without a body. Requests of one
//! connection are answered in order; after [`Request::Watch`] only [`Answer::Changed`] follow until the client
//! hangs up. Paths come without a leading `/mars/`, values as their stored text.
//!
//! The daemon answers with [`read_request`] and [`write_answer`] over any stream, command lines ask with the
//! blocking [`ControlClient`].

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::frame::{self, Frame, FrameError, Limits};

/// Largest request: a commit of some ten thousand keys.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Largest answer: a snapshot of a million keys takes about 200 MB as text; more than this is a defect.
pub const ANSWER_BYTES_MAX: usize = 1 << 30;

const REQUEST: Limits = Limits {
    head_max: REQUEST_BYTES_MAX,
    body_max: 0,
};
const ANSWER: Limits = Limits {
    head_max: ANSWER_BYTES_MAX,
    body_max: 0,
};

/// What a command line asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Is anybody there? Answered by [`Answer::Pong`].
    Ping,
    /// All entries whose path begins with one of the prefixes; no prefix means the whole tree.
    /// Answered by [`Answer::Snapshot`].
    Snapshot {
        /// Text prefixes of paths, not necessarily whole components.
        #[serde(default)]
        prefixes: Vec<String>,
        /// Of the keys below `resource-<name>/` only those of these resources; `None` for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resources: Option<Vec<String>>,
        /// The entries are wanted as [`Snapshot::lines`], which costs a third. Who does not know that answers entries.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        as_lines: bool,
    },
    /// Sets and deletes keys, all under one stamp. Answered by [`Answer::Committed`] once durable here.
    Commit {
        /// What to set (`Some`) or delete (`None`).
        changes: Vec<Change>,
        /// An explicit, even old, stamp (seconds, nanoseconds); the daemon's clock without it.
        #[serde(default)]
        stamp: Option<(u64, u32)>,
        /// What to do besides (original trigger codes: 1 wake, 2 and tell the peers, 3 and ask the peers,
        /// 8 ask for everything); 0 for none.
        #[serde(default)]
        trigger: u32,
    },
    /// Only the trigger of a commit. Answered by [`Answer::Done`].
    Trigger {
        /// As in [`Request::Commit`].
        code: u32,
    },
    /// Reports each change below a prefix, as a stream of [`Answer::Changed`].
    Watch {
        /// Text prefix of the paths of interest; empty for all.
        #[serde(default)]
        prefix: String,
        /// Changes up to this generation are known; 0 sends every entry first.
        #[serde(default)]
        after_generation: u64,
    },
    /// Waits until the tree has passed a generation. Answered by [`Answer::Generation`].
    WaitChange {
        /// The generation the asker has seen.
        generation: u64,
        /// How long to wait at most, in milliseconds.
        timeout_ms: u64,
    },
    /// One entry with stamp and writer, also of a deleted key. Answered by [`Answer::Entry`].
    Stat {
        /// Whole path.
        path: String,
    },
    /// A new join token. Answered by [`Answer::Token`].
    Token {
        /// Valid for so many seconds.
        ttl_s: u64,
        /// How many hosts may join with it.
        uses: u32,
    },
    /// What the daemon knows besides the tree: workers, reasons, connections. Answered by [`Answer::Facts`].
    Facts,
    /// Stop cleanly. Answered by [`Answer::Done`] before it stops.
    Shutdown,
}

/// One wish inside a [`Request::Commit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Whole path, without `/mars/`.
    pub path: String,
    /// The new value; `None` deletes the key.
    pub value: Option<String>,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Request::Ping`].
    Pong {
        /// Who answers.
        #[serde(default)]
        host: String,
        /// Its program version.
        #[serde(default)]
        version: String,
    },
    /// To [`Request::Snapshot`].
    Snapshot(Snapshot),
    /// To [`Request::Commit`].
    Committed {
        /// The stamp all changes got: seconds.
        sec: u64,
        /// The stamp all changes got: nanoseconds.
        nsec: u32,
        /// Generation of the tree with these changes.
        #[serde(default)]
        generation: u64,
    },
    /// To [`Request::Watch`], again and again.
    Changed {
        /// Generation of the tree with these changes.
        generation: u64,
        /// The entries as they are now.
        entries: Vec<EntryText>,
    },
    /// To [`Request::WaitChange`]; the same generation as asked means that the time was over.
    Generation {
        /// Generation of the tree now.
        generation: u64,
    },
    /// To [`Request::Stat`].
    Entry {
        /// `None` when there never was such a key, or it is forgotten.
        entry: Option<EntryText>,
    },
    /// To [`Request::Token`].
    Token {
        /// The token, one line.
        token: String,
    },
    /// To [`Request::Facts`].
    Facts {
        /// A JSON object.
        json: String,
    },
    /// It is done.
    Done,
    /// It was not done; nothing was changed.
    Refused {
        /// A sentence for the operator.
        reason: String,
    },
}

/// A part of the tree as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Sorted by path; nothing when they are in `lines`.
    pub entries: Vec<EntryText>,
    /// The entries as `mars tree dump` prints them: path, value (`.deleted` for a deleted key), stamp and kind, with TABs
    /// between them, one entry a line, sorted by path. Neither paths nor values have control characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lines: String,
    /// The daemon's Lamport clock: seconds.
    pub now_sec: u64,
    /// The daemon's Lamport clock: nanoseconds.
    pub now_nsec: u32,
    /// The host the daemon runs for.
    pub host: String,
    /// The cluster's id; empty before create-cluster or join-cluster.
    pub uuid: String,
    /// Generation of the tree, for [`Request::WaitChange`] and [`Request::Watch`].
    #[serde(default)]
    pub generation: u64,
}

/// One entry of the tree as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryText {
    /// Path without `/mars/`.
    pub path: String,
    /// The value; `None` when deleted.
    pub value: Option<String>,
    /// Stamp: seconds since 1970.
    pub sec: u64,
    /// Stamp: nanoseconds, below 10^9.
    pub nsec: u32,
    /// Stamp: who wrote it.
    #[serde(default)]
    pub writer: String,
    /// `l` key, `f` log with a local copy (the value is its length), `r` log known but not held here.
    #[serde(default = "plain_key")]
    pub kind: char,
}

fn plain_key() -> char {
    'l'
}

/// Why a question to the daemon got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens on the socket.
    #[error("no daemon answers at {socket}: {why}; start it with `mars node`")]
    NotRunning {
        /// Path of the socket.
        socket: String,
        /// What the system said.
        why: std::io::Error,
    },
    /// The conversation broke.
    #[error("the daemon at {socket} stopped answering: {why}")]
    Broken {
        /// Path of the socket.
        socket: String,
        /// What happened.
        why: FrameError,
    },
}

/// Reads one request at the daemon's side. Not cancel-safe.
///
/// # Errors
/// [`FrameError::Closed`] when the client is gone; anything else means that it must be hung up on.
pub async fn read_request<S>(from: &mut S) -> Result<Request, FrameError>
where
    S: AsyncRead + Unpin + ?Sized,
{
    frame::from_head(&frame::read_frame(from, REQUEST).await?.head)
}

/// Writes one answer at the daemon's side. Not cancel-safe.
///
/// # Errors
/// [`FrameError::Io`] when the client is gone.
pub async fn write_answer<S>(to: &mut S, answer: &Answer) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    frame::write_frame(to, &Frame::of(answer)?).await
}

/// Writes one request, for asynchronous clients. Not cancel-safe.
///
/// # Errors
/// [`FrameError::Io`] when the daemon is gone.
pub async fn write_request<S>(to: &mut S, request: &Request) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    frame::write_frame(to, &Frame::of(request)?).await
}

/// Reads one answer, for asynchronous clients. Not cancel-safe.
///
/// # Errors
/// As [`read_request`].
pub async fn read_answer<S>(from: &mut S) -> Result<Answer, FrameError>
where
    S: AsyncRead + Unpin + ?Sized,
{
    frame::from_head(&frame::read_frame(from, ANSWER).await?.head)
}

/// A blocking client of the control socket, for command lines.
#[derive(Debug)]
pub struct ControlClient {
    socket: String,
    stream: UnixStream,
}

impl ControlClient {
    /// Connects to the daemon behind `socket`.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`] when nobody listens there.
    pub fn connect(socket: &Path) -> Result<ControlClient, ControlError> {
        let name = socket.display().to_string();
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(ControlClient {
                socket: name,
                stream,
            }),
            Err(why) => Err(ControlError::NotRunning { socket: name, why }),
        }
    }

    /// Bounds every later wait for an answer; `None` waits as long as the daemon lives.
    ///
    /// # Errors
    /// [`ControlError::Broken`] when the socket does not take the limit (zero is no limit it takes).
    pub fn set_timeout(&mut self, limit: Option<Duration>) -> Result<(), ControlError> {
        let set = self
            .stream
            .set_read_timeout(limit)
            .and_then(|()| self.stream.set_write_timeout(limit));
        set.map_err(|e| self.broken(e.into()))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`ControlError::Broken`] when the daemon stops, or answers something that is no answer.
    pub fn request(&mut self, request: &Request) -> Result<Answer, ControlError> {
        self.send(request)
            .and_then(|()| self.receive())
            .map_err(|e| self.broken(e))
    }

    /// The next answer of a [`Request::Watch`].
    ///
    /// # Errors
    /// As [`ControlClient::request`].
    pub fn next_answer(&mut self) -> Result<Answer, ControlError> {
        self.receive().map_err(|e| self.broken(e))
    }

    fn send(&mut self, request: &Request) -> Result<(), FrameError> {
        self.stream.write_all(&Frame::of(request)?.to_bytes())?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Answer, FrameError> {
        let mut prefix = [0; frame::PREFIX_BYTES];
        match self.stream.read(&mut prefix[..1]) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(_) => self.stream.read_exact(&mut prefix[1..])?,
            Err(e) => return Err(e.into()),
        }
        let (head, _) = frame::lengths(prefix, ANSWER)?;
        let mut got = Vec::new();
        (&mut self.stream).take(head as u64).read_to_end(&mut got)?;
        if got.len() < head {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        frame::from_head(&got)
    }

    fn broken(&self, why: FrameError) -> ControlError {
        ControlError::Broken {
            socket: self.socket.clone(),
            why,
        }
    }
}
