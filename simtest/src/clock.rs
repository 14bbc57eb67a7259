//! Virtual time. It stands still while anybody can run and jumps to the next timer when nobody can:
//! the paused clock of a single-threaded runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use node::ports::{BoxFuture, Clock};

/// Time of day when every world begins (14 November 2023, 22:13:20 UTC), in nanoseconds.
pub const BEGIN_NS: u64 = 1_700_000_000_000_000_000;

/// The clock of one host: virtual time plus the error of its time of day.
#[derive(Clone)]
pub struct SimClock {
    began: tokio::time::Instant,
    skew_ns: Arc<AtomicI64>,
}

impl SimClock {
    /// A right clock that counts from `began`.
    pub fn new(began: tokio::time::Instant) -> SimClock {
        SimClock {
            began,
            skew_ns: Arc::default(),
        }
    }

    /// From now on the time of day is wrong by `skew_ns`; monotonic time goes on evenly.
    pub fn set_skew_ns(&self, skew_ns: i64) {
        self.skew_ns.store(skew_ns, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall_ns(&self) -> u64 {
        let right = BEGIN_NS + self.began.elapsed().as_nanos() as u64;
        right.saturating_add_signed(self.skew_ns.load(Ordering::Relaxed))
    }

    fn mono(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}
