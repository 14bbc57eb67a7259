//! What a finished command says: text for stdout, text for stderr, exit code.

/// The complete result of a command which does not wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Text for stdout.
    pub stdout: String,
    /// Text for stderr.
    pub stderr: String,
    /// Exit code; 0 is success.
    pub exit: i32,
}

impl Output {
    /// Adds a line `WARNING: …` to stderr.
    pub fn warn(&mut self, text: &str) {
        self.stderr.push_str(&format!("WARNING: {text}\n"));
    }

    /// Adds a line `   HINT: …` to stderr.
    pub fn hint(&mut self, text: &str) {
        self.stderr.push_str(&format!("   HINT: {text}\n"));
    }

    /// Adds a line `DYING: …` to stderr and counts one error.
    pub fn fatal(&mut self, text: &str) {
        self.stderr.push_str(&format!("DYING: {text}\n"));
        self.exit += 1;
    }
}
