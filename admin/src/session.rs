//! One running command: what it reads, what it has queued, what it says.
//!
//! A verb reads [`Session::tree`], queues keys with [`Session::set`], and flushes. Queued keys are not visible before the flush,
//! and all keys of one flush get the same stamp: that is what makes a phase one step for the rest of the cluster.
//! Decides nothing itself.

use std::time::Duration;

use crate::console::{Console, Fact};
use crate::daemon::{Change, Daemon, DaemonError, Trigger};
use crate::options::Options;
use crate::output::Output;
use crate::snapshot::{Item, Kind, Snapshot, TOMBSTONE, Time};
use crate::view::Viewed;

/// Why a command (or its work on one resource) was refused, in the sentence the operator reads behind `DYING: `.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl From<DaemonError> for Refusal {
    fn from(error: DaemonError) -> Refusal {
        Refusal(error.to_string())
    }
}

/// A refusal with this sentence.
pub fn refuse<T>(sentence: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(sentence.into()))
}

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// See the module header.
pub struct Session<'a> {
    /// The options of the command line.
    pub options: Options,
    /// The host acted for.
    pub host: String,
    /// This machine, whatever `--host=` says.
    pub real_host: String,
    /// The command as messages name it.
    pub command: String,
    /// The positional words behind the command, or behind the resource where there is one.
    pub args: Vec<String>,
    /// The tree as last read.
    pub tree: Snapshot,
    /// The daemon, or what stands for it.
    pub daemon: &'a mut dyn Daemon,
    /// Errors met; becomes the exit code.
    pub errors: u32,
    /// Text held back while a repeated round has not succeeded; see [`Session::hold`].
    held: Option<Vec<(Stream, String)>>,
    console: &'a mut dyn Console,
    queue: Vec<Change>,
    stamp: Option<Time>,
    /// The last host which was designated, as far as seen in this run.
    pub last_designated: Option<String>,
}

impl<'a> Session<'a> {
    /// Begins a command; reads the tree once.
    pub fn new(
        options: Options,
        real_host: &str,
        daemon: &'a mut dyn Daemon,
        console: &'a mut dyn Console,
    ) -> Result<Session<'a>, DaemonError> {
        let host = options.host.clone().unwrap_or_else(|| real_host.to_owned());
        let mut tree = daemon.snapshot()?;
        tree.host = host.clone();
        Ok(Session {
            options,
            host,
            real_host: real_host.to_owned(),
            command: String::new(),
            args: Vec::new(),
            tree,
            daemon,
            errors: 0,
            held: None,
            console,
            queue: Vec::new(),
            stamp: None,
            last_designated: None,
        })
    }

    fn emit(&mut self, stream: Stream, text: String) {
        match (&mut self.held, stream) {
            (Some(held), _) => held.push((stream, text)),
            (None, Stream::Out) => self.console.out(&text),
            (None, Stream::Err) => self.console.err(&text),
        }
    }

    /// From now on text is held back, until [`Session::release`]. A wait which looks again whenever the tree changes holds the
    /// text of its rounds, so that the operator reads one round a second.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Prints what was held back, or forgets it.
    pub fn release(&mut self, print: bool) {
        for (stream, text) in self.held.take().into_iter().flatten().filter(|_| print) {
            self.emit(stream, text);
        }
    }

    /// Prints a line to stdout.
    pub fn say(&mut self, line: impl AsRef<str>) {
        self.emit(Stream::Out, format!("{}\n", line.as_ref()));
    }

    /// Prints a line to stdout when at least that talkative.
    pub fn say_verbose(&mut self, level: i32, line: impl AsRef<str>) {
        if self.options.verbose >= level {
            self.say(line);
        }
    }

    /// Prints a plain line to stderr.
    pub fn note(&mut self, line: impl AsRef<str>) {
        self.emit(Stream::Err, format!("{}\n", line.as_ref()));
    }

    /// Prints a warning; warnings never change the exit code.
    pub fn warn(&mut self, text: impl AsRef<str>) {
        self.note(format!("WARNING: {}", text.as_ref()));
    }

    /// Prints a hint.
    pub fn hint(&mut self, text: impl AsRef<str>) {
        self.note(format!("   HINT: {}", text.as_ref()));
    }

    /// Prints a refusal and counts it.
    pub fn dying(&mut self, refusal: &Refusal) {
        self.note(format!("DYING: {refusal}"));
        self.errors += 1;
    }

    /// Passes on what another command has said, its errors included.
    pub fn pass_on(&mut self, said: &Output) {
        self.emit(Stream::Out, said.stdout.clone());
        self.emit(Stream::Err, said.stderr.clone());
    }

    /// Passes on what a view shows, its errors included; to a program as parts.
    pub fn pass_on_view(&mut self, viewed: &Viewed) {
        if !self.options.json {
            return self.pass_on(&viewed.output);
        }
        self.emit(Stream::Err, viewed.output.stderr.clone());
        for (part, resource, text) in &viewed.parts {
            self.console.fact(Fact::View {
                part,
                resource: resource.as_deref(),
                text,
            });
        }
    }

    /// The command has been understood and begins.
    pub fn begins(&mut self) {
        self.console.fact(Fact::Begins {
            command: &self.command,
            host: &self.host,
            dry_run: self.options.dry_run,
        });
    }

    fn tell_changes(&mut self, queue: &[Change]) {
        for Change { path, value } in queue.iter().filter(|change| !is_new_log(change)) {
            let path = shown(path);
            self.console.fact(Fact::Set { path: &path, value });
        }
    }

    /// Asks and waits for RETURN; see [`Console::wait_for_return`].
    pub fn wait_for_return(&mut self, question: &str) -> bool {
        self.console.wait_for_return(question)
    }

    /// Whether `--force` was given.
    pub fn forced(&self) -> bool {
        self.options.force > 0
    }

    /// A condition that `--force` turns into a warning.
    pub fn refuse_unless_forced(&mut self, sentence: impl Into<String>) -> Result<(), Refusal> {
        let sentence = sentence.into();
        if !self.forced() {
            return refuse(sentence);
        }
        self.warn(sentence);
        Ok(())
    }

    /// A live key of the tree; absent reads as the empty text.
    pub fn text(&self, path: &str) -> String {
        self.tree.text(path).to_owned()
    }

    /// As [`Session::text`], with a warning when the key is absent.
    pub fn text_or_warn(&mut self, path: &str) -> String {
        if self.tree.live(path).is_none() {
            self.warn(format!("cannot read symlink '{}'", shown(path)));
        }
        self.text(path)
    }

    /// A live key of the tree; absent is a refusal.
    pub fn need(&self, path: &str) -> Result<String, Refusal> {
        match self.tree.live(path) {
            Some(value) => Ok(value.to_owned()),
            None => refuse(format!("cannot read symlink '{}'", shown(path))),
        }
    }

    /// Queues a key. A later one for the same key replaces an earlier one and moves to the end.
    pub fn set(&mut self, path: impl Into<String>, value: impl Into<String>) {
        let change = Change {
            path: path.into(),
            value: value.into(),
        };
        self.queue.retain(|queued| queued.path != change.path);
        self.queue.push(change);
    }

    /// Queues the deletion of a key.
    pub fn delete(&mut self, path: impl Into<String>) {
        self.set(path, TOMBSTONE);
    }

    /// The keys of the next flush get this stamp instead of the present time.
    pub fn stamp_next_flush(&mut self, stamp: Time) {
        self.stamp = Some(stamp);
    }

    /// Forgets what is queued; after a refusal.
    pub fn drop_queue(&mut self) {
        self.queue.clear();
        self.stamp = None;
    }

    /// Sets all queued keys in one step. The tree here follows; what others do meanwhile is read by [`Session::refresh`].
    pub fn flush(&mut self) -> Result<(), Refusal> {
        let queue = std::mem::take(&mut self.queue);
        let stamp = self.stamp.take();
        if queue.is_empty() {
            return Ok(());
        }
        if self.options.dry_run {
            self.tell_changes(&queue);
            for Change { path, value } in queue.iter().filter(|change| !is_new_log(change)) {
                self.say(format!(
                    "DRY_RUN: would create symlink '{}' -> '{value}'",
                    shown(path)
                ));
            }
            return Ok(());
        }
        let trigger = trigger_for(&queue);
        let is_own_stamp = stamp.is_none();
        let stamp = self.daemon.commit(&queue, stamp, trigger)?;
        self.tell_changes(&queue);
        self.say_verbose(1, format!("using lamport timestamp {stamp}"));
        for Change { path, value } in queue.iter().filter(|change| !is_new_log(change)) {
            self.say_verbose(1, format!("created symlink '{}' -> '{value}'", shown(path)));
        }
        self.say_verbose(1, format!("Trigger '{}'", trigger.code()));
        if !is_own_stamp {
            // Something newer may have won.
            return self.refresh();
        }
        for change in queue {
            self.take_over(change, stamp);
        }
        Ok(())
    }

    /// Puts what the daemon has stored into the tree here: reading all of it anew takes long when there are many resources.
    fn take_over(&mut self, change: Change, stamp: Time) {
        let kind = match self.tree.entries.get(&change.path) {
            _ if change.is_deletion() => Kind::Key,
            Some(item) => item.kind,
            None if is_new_log(&change) => Kind::File,
            None => Kind::Key,
        };
        let item = Item {
            value: change.value,
            sec: stamp.sec,
            nsec: stamp.nsec,
            kind,
        };
        self.tree.entries_mut().insert(change.path, item);
    }

    /// Asks the cluster for news.
    pub fn trigger(&mut self, trigger: Trigger) -> Result<(), Refusal> {
        if self.options.dry_run {
            self.say(format!(
                "DRY_RUN: would execute trigger '{}'",
                trigger.code()
            ));
            return Ok(());
        }
        self.say_verbose(1, format!("Trigger '{}'", trigger.code()));
        Ok(self.daemon.trigger(trigger)?)
    }

    /// As [`Session::trigger`], but a dry run does not mention it.
    pub fn trigger_quietly(&mut self, trigger: Trigger) -> Result<(), Refusal> {
        if self.options.dry_run {
            return Ok(());
        }
        self.trigger(trigger)
    }

    /// Forgets keys for good; `false` when the daemon does that by itself.
    pub fn forget(&mut self, paths: &[String]) -> Result<bool, Refusal> {
        if self.options.dry_run {
            for path in paths {
                let value = self
                    .tree
                    .entries
                    .get(path)
                    .map_or("", |item| item.value.as_str())
                    .to_owned();
                self.say(format!(
                    "DRY_RUN: would unlink '{}' (currently '{value}')",
                    shown(path)
                ));
            }
            return Ok(true);
        }
        let done = self.daemon.forget(paths)?;
        self.refresh()?;
        Ok(done)
    }

    /// Reads the tree again.
    pub fn refresh(&mut self) -> Result<(), Refusal> {
        self.tree = self.daemon.snapshot()?;
        self.tree.host = self.host.clone();
        Ok(())
    }

    /// Waits until the tree has changed, at most that long, and reads it again.
    pub fn pause(&mut self, at_most: Duration) -> Result<(), Refusal> {
        self.daemon.pause(at_most)?;
        self.refresh()
    }
}

/// News about who is primary and who belongs to the cluster are told to the peers at once.
fn trigger_for(queue: &[Change]) -> Trigger {
    let urgent = |change: &Change| {
        let path = format!("/{}", change.path);
        path.contains("/primary") || path.contains("/todo-global") || path.contains("/ip")
    };
    if queue.iter().any(urgent) {
        Trigger::Notify
    } else {
        Trigger::Local
    }
}

/// The original creates the file of a new log, which is not spoken of like a key.
fn is_new_log(change: &Change) -> bool {
    let name = change.path.rsplit('/').next().unwrap_or_default();
    name.starts_with("log-") && !change.is_deletion()
}

/// A path as messages print it.
pub fn shown(path: &str) -> String {
    format!("/mars/{path}")
}

/// The path of something of a resource.
pub fn of(res: &str, name: impl AsRef<str>) -> String {
    format!("resource-{res}/{}", name.as_ref())
}
