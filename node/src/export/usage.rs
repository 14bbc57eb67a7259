//! What clients do with an export: requests under way, requests answered, bytes moved.
//!
//! Every connection counts its own through a [`Share`], the main loop reads the sums. Plain relaxed counters, because
//! nothing is decided by them: people want to see whether applications work, and whether they hang.
//!
//! Manual: "The State of MARS" (`if-flying`, `if-state`, `ops-if_rate`, `amount-if_rate`); main-loop reference 3.6.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The counters of one export, for all its clients.
#[derive(Debug, Default)]
pub struct Usage {
    begun: AtomicU64,
    answered: AtomicU64,
    bytes: AtomicU64,
    error: AtomicU32,
}

/// [`Usage`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageNow {
    /// Requests the device has not answered yet.
    pub flying: u64,
    /// Requests answered since the export came.
    pub answered: u64,
    /// Bytes read and written by these.
    pub bytes: u64,
    /// Error number the last of them was answered with, when the device failed; 0 otherwise.
    pub error: u32,
}

impl Usage {
    /// What has been counted so far.
    pub fn now(&self) -> UsageNow {
        // In this order a request which ends meanwhile is never counted as begun less than once.
        let answered = self.answered.load(Relaxed);
        UsageNow {
            flying: self.begun.load(Relaxed).saturating_sub(answered),
            answered,
            bytes: self.bytes.load(Relaxed),
            error: self.error.load(Relaxed),
        }
    }
}

/// How one connection counts. What it leaves unanswered when it is dropped is no longer under way.
#[derive(Debug)]
pub struct Share {
    usage: Arc<Usage>,
    pending: u64,
}

impl Share {
    /// A connection without requests.
    pub fn new(usage: Arc<Usage>) -> Share {
        Share { usage, pending: 0 }
    }

    /// The device has been asked.
    pub fn begun(&mut self) {
        self.pending += 1;
        self.usage.begun.fetch_add(1, Relaxed);
    }

    /// The device has answered a request which moved so many bytes, with this error number if it failed.
    pub fn answered(&mut self, bytes: u64, error: u32) {
        self.pending -= 1;
        if self.usage.error.load(Relaxed) != error {
            self.usage.error.store(error, Relaxed);
        }
        self.usage.bytes.fetch_add(bytes, Relaxed);
        self.usage.answered.fetch_add(1, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.usage.begun.fetch_sub(self.pending, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fly_until_they_are_answered_or_their_client_is_gone() {
        let usage = Arc::new(Usage::default());
        let (mut one, mut two) = (Share::new(usage.clone()), Share::new(usage.clone()));
        one.begun();
        one.begun();
        two.begun();
        one.answered(4096, 5);
        assert_eq!(usage.now().error, 5);
        let now = usage.now();
        assert_eq!((now.flying, now.answered, now.bytes), (2, 1, 4096));
        drop(one);
        assert_eq!(usage.now().flying, 1);
        two.answered(0, 0);
        let now = usage.now();
        assert_eq!((now.flying, now.answered, now.bytes), (0, 2, 4096));
        assert_eq!(now.error, 0, "it works again");
    }
}
