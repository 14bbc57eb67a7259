//! What a command says is also told to the system log, by way of `logger`.
//!
//! Nothing is told when there is no such program or `--logger=` is empty, and nothing of what `view` prints.
//!
//! Manual: "Global options" (`--logger`).

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::console::{Console, Fact};

const LOGGER_DEFAULT: &str = "/usr/bin/logger";

/// Tag of all lines.
const TAG: &str = "marsadm";

/// A console whose lines go to the system log, too.
pub struct Logged<'c> {
    console: &'c mut dyn Console,
    logger: Option<(Child, ChildStdin)>,
    command: String,
}

impl<'c> Logged<'c> {
    /// `program` is what `--logger=` says.
    pub fn new(console: &'c mut dyn Console, program: Option<&str>, command: &str) -> Logged<'c> {
        let program = program.unwrap_or(LOGGER_DEFAULT);
        let logger = if is_executable(program) && !crate::marsadm::is_view(command) {
            start(program)
        } else {
            None
        };
        Logged {
            console,
            logger,
            command: command.to_owned(),
        }
    }

    fn log(&mut self, text: &str) {
        let Some((_, stdin)) = &mut self.logger else {
            return;
        };
        let lines = text.lines().filter(|line| !line.is_empty());
        let tagged: String = lines
            .map(|line| format!("(cmd: {}) {line}\n", self.command))
            .collect();
        if stdin.write_all(tagged.as_bytes()).is_err() {
            // A log that has gone away is no reason to fail.
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some((mut child, stdin)) = self.logger.take() {
            drop(stdin);
            let _ = child.wait();
        }
    }
}

fn is_executable(program: &str) -> bool {
    std::fs::metadata(program)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn start(program: &str) -> Option<(Child, ChildStdin)> {
    let mut command = Command::new(program);
    command
        .args(["-t", TAG])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let stdin = child.stdin.take()?;
    Some((child, stdin))
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Console for Logged<'_> {
    fn out(&mut self, text: &str) {
        self.console.out(text);
        self.log(text);
    }

    fn err(&mut self, text: &str) {
        self.console.err(text);
        self.log(text);
    }

    fn wait_for_return(&mut self, question: &str) -> bool {
        self.console.wait_for_return(question)
    }

    fn fact(&mut self, fact: Fact<'_>) {
        self.console.fact(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Recorder;

    /// Runs a console with a logger that writes its lines into a file.
    fn check(command: &str, logged: &str) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (program, log) = (dir.path().join("logger"), dir.path().join("log"));
        let script = format!("#!/bin/sh\nexec cat > {}\n", log.display());
        std::fs::write(&program, script).expect("a script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))
            .expect("executable");
        let mut screen = Recorder::default();
        let mut console = Logged::new(&mut screen, program.to_str(), command);
        console.out("one\n");
        console.err("DYING: two\n\n");
        drop(console);
        assert_eq!(std::fs::read_to_string(log).unwrap_or_default(), logged);
        assert_eq!(screen.0.stdout, "one\n");
    }

    #[test]
    fn every_line_of_a_command_reaches_the_log_with_the_name_of_the_command() {
        check("up", "(cmd: up) one\n(cmd: up) DYING: two\n");
    }

    #[test]
    fn what_view_prints_is_not_logged() {
        check("view-role", "");
    }
}
