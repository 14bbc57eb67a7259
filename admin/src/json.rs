//! `--json`: what a command says, for programs.
//!
//! One document on stdout when the command has ended, nothing else, also when the command line was not understood:
//!
//! ```json
//! {
//!   "command": "view-diskstate", "host": "beta", "exit": 0, "dry_run": false,
//!   "views": [{ "part": "resource", "resource": "data", "text": "UpToDate" }],
//!   "changes": [{ "key": "/mars/resource-data/todo-beta/sync", "value": "1" }],
//!   "messages": [{ "kind": "warning", "text": "…" }]
//! }
//! ```
//!
//! `exit` is the number of errors, as without the option. `changes` are the keys that were set (with `dry_run`: would be set), in order;
//! `.deleted` as a value is a deletion. `kind` is one of `info`, `warning`, `hint`, `dying` (a refusal or error) and `note`.

use serde::Serialize;

use crate::args;
use crate::console::{Console, Fact};

/// What a program gets.
#[derive(Debug, Default, Serialize)]
struct Document {
    command: Option<String>,
    host: Option<String>,
    exit: u32,
    dry_run: bool,
    views: Vec<ViewText>,
    changes: Vec<KeyChange>,
    messages: Vec<Message>,
}

#[derive(Debug, Serialize)]
struct ViewText {
    part: &'static str,
    resource: Option<String>,
    text: String,
}

#[derive(Debug, Serialize)]
struct KeyChange {
    key: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Message {
    kind: &'static str,
    text: String,
}

/// What messages begin with, and what they are then.
const KINDS: [(&str, &str); 4] = [
    ("WARNING: ", "warning"),
    ("   HINT: ", "hint"),
    ("DYING: ", "dying"),
    ("ERROR: ", "dying"),
];

/// A console that keeps everything for the document.
#[derive(Default)]
pub struct Json {
    document: Document,
}

impl Json {
    /// For the command line `words`, which may be any nonsense.
    pub fn new(words: &[String]) -> Json {
        let command = words.iter().find(|word| !word.starts_with('-')).cloned();
        Json {
            document: Document {
                command,
                ..Document::default()
            },
        }
    }

    /// The document, with a newline at its end.
    pub fn finish(mut self, exit: u32) -> String {
        self.document.exit = exit;
        match serde_json::to_string(&self.document) {
            Ok(text) => format!("{text}\n"),
            Err(error) => format!("{{\"exit\":{exit},\"failed\":{:?}}}\n", error.to_string()),
        }
    }

    fn keep(&mut self, text: &str, otherwise: &'static str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let known = KINDS
                .iter()
                .find_map(|(begin, kind)| Some((*kind, line.strip_prefix(begin)?)));
            let (kind, text) = known.unwrap_or((otherwise, line));
            let text = text.to_owned();
            self.document.messages.push(Message { kind, text });
        }
    }
}

/// Whether a command line asks for it. Looked at before the words are understood, so that a refusal comes in the form that was asked for.
pub fn is_wanted(words: &[String]) -> bool {
    words.iter().any(|word| word == args::JSON)
}

impl Console for Json {
    fn out(&mut self, text: &str) {
        self.keep(text, "info");
    }

    fn err(&mut self, text: &str) {
        self.keep(text, "note");
    }

    fn wait_for_return(&mut self, _question: &str) -> bool {
        false
    }

    fn fact(&mut self, fact: Fact<'_>) {
        match fact {
            Fact::Begins {
                command,
                host,
                dry_run,
            } => {
                self.document.command = Some(command.to_owned());
                self.document.host = Some(host.to_owned());
                self.document.dry_run = dry_run;
            }
            Fact::Set { path, value } => self.document.changes.push(KeyChange {
                key: path.to_owned(),
                value: value.to_owned(),
            }),
            Fact::View {
                part,
                resource,
                text,
            } => self.document.views.push(ViewText {
                part,
                resource: resource.map(str::to_owned),
                text: text.to_owned(),
            }),
        }
    }
}
