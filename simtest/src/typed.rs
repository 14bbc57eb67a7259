//! An operator typing `marsadm …` or `mars tree set|del …` at a simulated host: the shipping command line against the shipping
//! control socket, in virtual time.
//!
//! The command line is written for a thread that may wait. It gets one, in strict turns with the
//! simulation: while the command thinks, the simulation stands still; while the simulation answers or a
//! command pauses, the command stands still. So a run stays exactly repeatable.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use admin::console::Recorder;
use admin::daemon::socket::{understood_tree, unexpected};
use admin::daemon::{Change, Daemon, DaemonError, Trigger};
use admin::disk::DiskRefusal;
use admin::snapshot::{Snapshot, TOMBSTONE, Time};
use admin::tree_cli;
use node::node::Hub;
use node::ports::{BoxFuture, Clock};
use transport::control::{self, Answer, Request};

use crate::clock::SimClock;
use crate::disk::SimFs;

/// What a command printed and its exit code.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// Number of errors, 0 for success.
    pub exit: u32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

enum Turn {
    Ask(Box<Request>),
    Pause(Duration),
    Elapsed,
    Ended(Typed),
}

enum Reply {
    Answer(Result<Answer, String>),
    Time(Duration),
}

struct SimDaemon {
    ask: mpsc::Sender<Turn>,
    hear: mpsc::Receiver<Reply>,
    fs: SimFs,
    generation: u64,
}

/// Types `command` (words separated by blanks, the first one `marsadm` or `mars`) at the host of `hub`.
pub async fn type_at(hub: Arc<Hub>, clock: SimClock, fs: SimFs, command: &str) -> Typed {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let host = hub.here().to_string();
    let (ask, asked) = mpsc::channel();
    let (say, hear) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut daemon = SimDaemon {
            ask: ask.clone(),
            hear,
            fs,
            generation: 0,
        };
        let mut console = Recorder::default();
        let exit = match &words[..] {
            [first, rest @ ..] if first == "mars" => mars(rest, &mut daemon, &mut console),
            [_, rest @ ..] => admin::marsadm::run(rest, &host, &mut daemon, &mut console),
            [] => 1,
        };
        let (stdout, stderr) = (console.0.stdout, console.0.stderr);
        // The simulation has been dropped when nobody listens.
        let _ = ask.send(Turn::Ended(Typed {
            exit,
            stdout,
            stderr,
        }));
    });
    let began = clock.mono();
    let mut line = Line::new(hub);
    loop {
        let reply = match asked.recv() {
            Ok(Turn::Ask(request)) => Reply::Answer(line.ask(*request).await),
            Ok(Turn::Pause(pause)) => {
                clock.sleep(pause).await;
                Reply::Time(Duration::ZERO)
            }
            Ok(Turn::Elapsed) => Reply::Time(clock.mono().saturating_sub(began)),
            Ok(Turn::Ended(typed)) => {
                // It has sent its last word; there is nothing left that could fail.
                let _ = thread.join();
                return typed;
            }
            Err(_) => {
                let text = "the command panicked".to_owned();
                return Typed {
                    exit: 255,
                    stdout: String::new(),
                    stderr: text,
                };
            }
        };
        // The thread waits for exactly this.
        let _ = say.send(reply);
    }
}

/// `mars tree set PATH VALUE` and `mars tree del PATH`.
fn mars(words: &[String], daemon: &mut SimDaemon, console: &mut Recorder) -> u32 {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["tree", "set", path, value] => tree_cli::change(daemon, path, value),
        ["tree", "del", path] => tree_cli::change(daemon, path, TOMBSTONE),
        _ => Err(DaemonError::Refused("no such command".to_owned())),
    };
    match done {
        Ok(_) => 0,
        Err(error) => {
            console.0.stderr += &error.to_string();
            1
        }
    }
}

/// A connection to the control socket of a node, without the socket.
struct Line {
    stream: tokio::io::DuplexStream,
    _served: tokio::task::JoinSet<()>,
}

/// Tokens are not part of the simulation.
struct NoDaemon;

impl node::control::Daemon for NoDaemon {
    fn token(&self, _ttl: Duration, _uses: u32) -> BoxFuture<'static, Result<String, String>> {
        Box::pin(async { Err("no tokens in a simulation".to_owned()) })
    }

    fn shutdown(&self) {}
}

impl Line {
    fn new(hub: Arc<Hub>) -> Line {
        let (stream, other) = tokio::io::duplex(1 << 20);
        let mut served = tokio::task::JoinSet::new();
        served.spawn(node::control::serve(other, hub, Arc::new(NoDaemon)));
        Line {
            stream,
            _served: served,
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Answer, String> {
        let limit = Duration::from_secs(3600);
        let talk = async {
            control::write_request(&mut self.stream, &request).await?;
            control::read_answer(&mut self.stream).await
        };
        match tokio::time::timeout(limit, talk).await {
            Ok(answer) => answer.map_err(|e| e.to_string()),
            Err(_) => Err("the daemon did not answer for an hour".to_owned()),
        }
    }
}

impl SimDaemon {
    fn turn(&self, turn: Turn) -> Result<Reply, DaemonError> {
        let gone = || DaemonError::Refused("the host is gone".to_owned());
        self.ask.send(turn).map_err(|_| gone())?;
        self.hear.recv().map_err(|_| gone())
    }

    fn request(&self, request: Request) -> Result<Answer, DaemonError> {
        match self.turn(Turn::Ask(Box::new(request)))? {
            Reply::Answer(Ok(Answer::Refused { reason })) => Err(DaemonError::Refused(reason)),
            Reply::Answer(Ok(answer)) => Ok(answer),
            Reply::Answer(Err(why)) => Err(DaemonError::Refused(why)),
            Reply::Time(_) => Err(DaemonError::Refused("out of turn".to_owned())),
        }
    }
}

impl Daemon for SimDaemon {
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError> {
        match self.request(Request::Snapshot {
            prefixes: Vec::new(),
            resources: None,
            as_lines: true,
        })? {
            Answer::Snapshot(answer) => {
                self.generation = answer.generation;
                understood_tree(answer)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        trigger: Trigger,
    ) -> Result<Time, DaemonError> {
        let wish = |c: &Change| control::Change {
            path: c.path.clone(),
            value: (!c.is_deletion()).then(|| c.value.clone()),
        };
        let request = Request::Commit {
            changes: changes.iter().map(wish).collect(),
            stamp: stamp.map(|t| (t.sec, t.nsec)),
            trigger: trigger.code(),
        };
        match self.request(request)? {
            Answer::Committed { sec, nsec, .. } => Ok(Time { sec, nsec }),
            other => Err(unexpected(&other)),
        }
    }

    fn trigger(&mut self, trigger: Trigger) -> Result<(), DaemonError> {
        match self.request(Request::Trigger {
            code: trigger.code(),
        })? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn forget(&mut self, _paths: &[String]) -> Result<bool, DaemonError> {
        Ok(false)
    }

    fn pause(&mut self, at_most: Duration) -> Result<(), DaemonError> {
        self.turn(Turn::Pause(at_most)).map(drop)
    }

    fn elapsed(&self) -> Duration {
        match self.turn(Turn::Elapsed) {
            Ok(Reply::Time(time)) => time,
            _ => Duration::MAX,
        }
    }

    fn disk_size(&mut self, path: &str) -> Result<u64, DiskRefusal> {
        match storage::Fs::len_of(&self.fs, std::path::Path::new(path)) {
            Ok(Some(size)) => Ok(size),
            _ => admin::disk::size(path),
        }
    }
}
