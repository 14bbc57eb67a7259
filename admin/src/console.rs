//! Where the text of a running command goes.
//!
//! Commands may wait for minutes, so every line is handed over at once.

use std::io::Write;

use crate::output::Output;

/// Receives the text of a command, as it comes.
pub trait Console {
    /// Text for stdout, with its line ends.
    fn out(&mut self, text: &str);
    /// Text for stderr, with its line ends.
    fn err(&mut self, text: &str);
    /// Shows a question and waits for RETURN; `false` when nobody is there to press it.
    fn wait_for_return(&mut self, question: &str) -> bool;
    /// Something a program would want to know without reading sentences; said besides the text.
    fn fact(&mut self, _fact: Fact<'_>) {}
}

/// See [`Console::fact`].
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// A command was understood and begins.
    Begins {
        /// Its name, without `force-`.
        command: &'a str,
        /// The host acted for.
        host: &'a str,
        /// Whether nothing will be changed.
        dry_run: bool,
    },
    /// A key was set, or would have been.
    Set {
        /// The path with `/mars/`.
        path: &'a str,
        /// Its value; `.deleted` for a deletion.
        value: &'a str,
    },
    /// What a view shows of one resource, or as header, global part or footer of all.
    View {
        /// `resource`, `header`, `global`, `footer`, or `source` of a macro.
        part: &'static str,
        /// The resource.
        resource: Option<&'a str>,
        /// The text, without its last newline.
        text: &'a str,
    },
}

/// The terminal, pipe or file behind stdout and stderr.
pub struct Terminal;

impl Console for Terminal {
    fn out(&mut self, text: &str) {
        // A reader who has gone away is no reason to stop half-way through a change of the cluster.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
    }

    fn err(&mut self, text: &str) {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn wait_for_return(&mut self, question: &str) -> bool {
        use std::io::IsTerminal;
        if !std::io::stdin().is_terminal() {
            return false;
        }
        self.out(question);
        matches!(std::io::stdin().read_line(&mut String::new()), Ok(n) if n > 0)
    }
}

/// Keeps the text; for tests and for evaluating commands inside others.
#[derive(Default)]
pub struct Recorder(pub Output);

impl Console for Recorder {
    fn out(&mut self, text: &str) {
        self.0.stdout.push_str(text);
    }

    fn err(&mut self, text: &str) {
        self.0.stderr.push_str(text);
    }

    fn wait_for_return(&mut self, _question: &str) -> bool {
        false
    }
}
