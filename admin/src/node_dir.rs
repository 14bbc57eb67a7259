//! Which node, or which saved tree, does a command line speak of?
//!
//! `--tree-file=` selects a saved tree. Otherwise `--dir=`, else `MARS_DIR`, else `/mars` is the state directory of a node.

use std::path::PathBuf;

use crate::daemon::offline::OfflineDaemon;
use crate::daemon::socket::SocketDaemon;
use crate::daemon::{Change, Daemon, DaemonError, Trigger};
use crate::offline;
use crate::options::Options;
use crate::output::Output;
use crate::scope;
use crate::session::{Refusal, refuse};
use crate::snapshot::{Snapshot, Time};

/// A daemon which may have something left to write at the end of a command.
pub trait Node: Daemon {
    /// The same as a plain daemon.
    fn as_mut(&mut self) -> &mut dyn Daemon;
    /// Called once, after the command.
    fn finish(&mut self) -> Result<(), DaemonError>;
}

/// What is to be done.
pub enum Opened {
    /// Run the command with this.
    Ready {
        /// The daemon, or the saved tree.
        daemon: Box<dyn Node>,
        /// This host.
        real_host: String,
    },
    /// It has been done already.
    Done {
        /// What was said.
        said: Output,
    },
}

/// Finds out. `words` are the positional words of the command line.
pub fn open(options: &mut Options, words: &[String]) -> Result<Opened, Refusal> {
    if options.tree_file.is_some() {
        return open_tree_file(options);
    }
    let command = words.first().map_or("", String::as_str);
    if let "create-cluster" | "join-cluster" = command {
        return Ok(Opened::Done {
            said: become_member(options, words),
        });
    }
    let connect = if only_reads(command) {
        SocketDaemon::connect
    } else {
        SocketDaemon::connect_soon
    };
    match connect(&options.dir) {
        Ok(mut daemon) => {
            let real_host = daemon.host()?;
            daemon.narrow_to(scope::resources_needed(options, words));
            Ok(Opened::Ready {
                daemon: Box::new(daemon),
                real_host,
            })
        }
        Err(DaemonError::NotRunning { .. }) if only_reads(command) => {
            let tree = offline::stored_tree(options)?;
            let real_host = tree.host.clone();
            let daemon = SavedTree {
                daemon: OfflineDaemon::new(tree),
                delta_file: None,
            };
            Ok(Opened::Ready {
                daemon: Box::new(daemon),
                real_host,
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Commands which work without the daemon, too.
fn only_reads(command: &str) -> bool {
    let words = [
        "cat",
        "role",
        "state",
        "mars-state",
        "mars-info",
        "merge-cluster-list",
        "lowlevel-ls-host-ips",
    ];
    ["view", "pretty", "show", "get-"]
        .iter()
        .any(|start| command.starts_with(start))
        || words.contains(&command)
}

/// `create-cluster` and `join-cluster` prepare the state directory, and say so like any other command.
fn become_member(options: &Options, words: &[String]) -> Output {
    let mut said = Output::default();
    let is_new = words[0] == "create-cluster";
    let peer = words.get(1).map(String::as_str);
    let done = match peer {
        Some(word) if is_new => refuse(format!("unexpected argument '{word}'")),
        None if is_new => offline::create_cluster(options),
        Some(peer) => offline::join_cluster(options, peer, words.get(2).map(String::as_str)),
        None => refuse("join-cluster needs the name of a host of the cluster as argument"),
    };
    match done {
        Ok(uuid) if is_new => said
            .stdout
            .push_str(&format!("New cluster UUID is '{uuid}'\n")),
        Ok(uuid) => said
            .stdout
            .push_str(&format!("Successfully joined cluster, uuid='{uuid}'\n")),
        Err(refusal) => {
            said.fatal(&refusal.to_string());
            let res = if is_new { "" } else { "undefined" };
            said.stdout
                .push_str(&format!("FAILURE cmd='{}' res='{res}'\n", words[0]));
        }
    }
    said
}

fn open_tree_file(options: &Options) -> Result<Opened, Refusal> {
    let Some(file) = options.tree_file.clone() else {
        return refuse("--tree-file= is missing");
    };
    let Some(host) = options.tree_host.clone() else {
        return refuse("--tree-file= needs --host=: whose tree is it?");
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|e| Refusal(format!("cannot read '{}': {e}", file.display())))?;
    let now = options.now.unwrap_or_default();
    let mut tree = Snapshot::parse(&text, &host, now).map_err(|source| DaemonError::Tree {
        file: file.display().to_string(),
        source,
    })?;
    if options.now.is_none() {
        tree.now = tree
            .entries
            .values()
            .map(|item| item.time())
            .max()
            .unwrap_or_default();
    }
    tree.daemon_runs = !options.daemon_down;
    let daemon = SavedTree {
        daemon: OfflineDaemon::new(tree),
        delta_file: options.delta_file.clone(),
    };
    Ok(Opened::Ready {
        daemon: Box::new(daemon),
        real_host: host,
    })
}

impl Node for SocketDaemon {
    fn as_mut(&mut self) -> &mut dyn Daemon {
        self
    }

    fn finish(&mut self) -> Result<(), DaemonError> {
        Ok(())
    }
}

/// A saved tree whose changes go to a file.
struct SavedTree {
    daemon: OfflineDaemon,
    delta_file: Option<PathBuf>,
}

impl Daemon for SavedTree {
    fn snapshot(&mut self) -> Result<Snapshot, DaemonError> {
        self.daemon.snapshot()
    }

    fn commit(
        &mut self,
        changes: &[Change],
        stamp: Option<Time>,
        trigger: Trigger,
    ) -> Result<Time, DaemonError> {
        self.daemon.commit(changes, stamp, trigger)
    }

    fn trigger(&mut self, trigger: Trigger) -> Result<(), DaemonError> {
        self.daemon.trigger(trigger)
    }

    fn forget(&mut self, paths: &[String]) -> Result<bool, DaemonError> {
        self.daemon.forget(paths)
    }

    fn pause(&mut self, at_most: std::time::Duration) -> Result<(), DaemonError> {
        self.daemon.pause(at_most)
    }

    fn elapsed(&self) -> std::time::Duration {
        self.daemon.elapsed()
    }

    fn is_saved(&self) -> bool {
        self.daemon.is_saved()
    }
}

impl Node for SavedTree {
    fn as_mut(&mut self) -> &mut dyn Daemon {
        self
    }

    fn finish(&mut self) -> Result<(), DaemonError> {
        let Some(file) = &self.delta_file else {
            return Ok(());
        };
        std::fs::write(file, self.daemon.delta()).map_err(|source| DaemonError::Io {
            what: format!("cannot write '{}'", file.display()),
            source,
        })
    }
}
