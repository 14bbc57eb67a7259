//! One line per event, and one digest of all lines: two runs of a seed must give the same digest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lines kept for showing; all of them go into the digest.
const LINES_KEPT: usize = 400;

/// The trace of one world. Clones share it.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hasher: blake3::Hasher,
    last: VecDeque<String>,
    lines: u64,
    show: bool,
}

impl Trace {
    /// Prints every line as it comes when `show`.
    pub fn new(show: bool) -> Trace {
        let trace = Trace::default();
        trace.inner().show = show;
        trace
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one event at virtual time `at`.
    pub fn note(&self, at: Duration, host: &str, what: &str) {
        let line = format!("{:>12.6} {host:<8} {what}", at.as_secs_f64());
        let mut inner = self.inner();
        inner.hasher.update(line.as_bytes());
        inner.hasher.update(b"\n");
        inner.lines += 1;
        if inner.show {
            println!("{line}");
        }
        if inner.last.len() == LINES_KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
    }

    /// Prints something that is too much for the trace, when the trace is shown.
    pub fn detail(&self, at: Duration, host: &str, what: impl FnOnce() -> String) {
        if self.inner().show {
            println!("{:>12.6} {host:<8}   {}", at.as_secs_f64(), what());
        }
    }

    /// Digest of everything noted so far.
    pub fn digest(&self) -> String {
        self.inner().hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Number of lines so far.
    pub fn len(&self) -> u64 {
        self.inner().lines
    }

    /// Whether nothing was noted yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let inner = self.inner();
        inner
            .last
            .iter()
            .skip(inner.last.len().saturating_sub(count))
            .cloned()
            .collect()
    }
}
