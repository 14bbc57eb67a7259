//! `--parallel[=N]`: every resource of a list is worked on by a process of its own.
//!
//! Each child is the same command for one resource; its lines are passed on as they come, with the name of the resource in front.
//! The parent counts one error for each child that ends with one.
//!
//! Manual: "Global options" (`--parallel`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::args;
use crate::session::{Refusal, Session};

/// What the parent hears of its children.
enum News {
    /// A line on stdout.
    Out(String, String),
    /// A line on stderr.
    Err(String, String),
    /// Both streams of this child have ended.
    End(String),
}

/// The command line again, to be run for one resource at a time.
pub struct Again<'a> {
    /// Program and its first words.
    pub program: &'a [OsString],
    /// The words of the operator.
    pub words: &'a [String],
    /// Which of them names the resources.
    pub selector_at: usize,
}

impl Again<'_> {
    fn spawn(&self, res: &str) -> std::io::Result<Child> {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        for (at, word) in self.words.iter().enumerate() {
            match word.as_str() {
                _ if at == self.selector_at => command.arg(res),
                word if word.starts_with("--parallel") || word == args::JSON => continue,
                word => command.arg(word),
            };
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// Runs the command for all `names`, at most `limit` at once (0: all).
pub fn run(
    s: &mut Session<'_>,
    again: &Again<'_>,
    names: &[String],
    limit: u64,
) -> Result<(), Refusal> {
    let errors = s.errors;
    s.note(format!("FORKING (error_count={errors})"));
    let (tell, news) = mpsc::channel();
    let mut waiting: VecDeque<&String> = names.iter().collect();
    let mut running: Vec<(String, Child)> = Vec::new();
    let limit = usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX);
    while !waiting.is_empty() || !running.is_empty() {
        if running.len() < limit
            && let Some(res) = waiting.pop_front()
        {
            running.push((res.clone(), start(s, again, res, &tell)?));
            continue;
        }
        listen(s, &news, &mut running)?;
    }
    Ok(())
}

fn start(
    s: &mut Session<'_>,
    again: &Again<'_>,
    res: &str,
    tell: &Sender<News>,
) -> Result<Child, Refusal> {
    let failed = |error: std::io::Error| {
        Refusal(format!(
            "cannot start a child for resource '{res}': {error}"
        ))
    };
    let mut child = again.spawn(res).map_err(failed)?;
    s.note(format!("RESOURCE {res} starting CHILD {}", child.id()));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (name, tell) = (res.to_owned(), tell.clone());
    std::thread::spawn(move || {
        // The streams are read side by side, so that a full pipe of one cannot stop the other.
        std::thread::scope(|scope| {
            scope.spawn(|| pass_on(err, |line| tell.send(News::Err(name.clone(), line)).is_ok()));
            pass_on(out, |line| tell.send(News::Out(name.clone(), line)).is_ok());
        });
        // Nobody listening any more is no concern of a reader.
        let _ = tell.send(News::End(name));
    });
    Ok(child)
}

fn pass_on(stream: Option<impl Read>, tell: impl Fn(String) -> bool) {
    let lines = stream
        .into_iter()
        .flat_map(|stream| BufReader::new(stream).lines());
    for line in lines.map_while(Result::ok) {
        if !tell(line) {
            return;
        }
    }
}

/// One piece of news: a line, or the end of a child.
fn listen(
    s: &mut Session<'_>,
    news: &Receiver<News>,
    running: &mut Vec<(String, Child)>,
) -> Result<(), Refusal> {
    match news.recv() {
        Ok(News::Out(res, line)) => s.say(format!("CHILD {res}: {line}")),
        Ok(News::Err(res, line)) => s.note(format!("CHILD {res}: {line}")),
        Ok(News::End(res)) => {
            let Some(at) = running.iter().position(|(name, _)| *name == res) else {
                return Ok(());
            };
            let (res, mut child) = running.remove(at);
            let status = child
                .wait()
                .map_err(|error| Refusal(format!("child for resource '{res}': {error}")))?;
            let pid = child.id();
            if status.success() {
                s.note(format!(
                    "RESOURCE {res} CHILD {pid} terminated successfully"
                ));
            } else {
                s.warn(format!(
                    "RESOURCE {res} CHILD {pid} terminated with {status}"
                ));
                s.errors += 1;
            }
        }
        Err(_) => return Err(Refusal("all children are gone".to_owned())),
    }
    Ok(())
}
