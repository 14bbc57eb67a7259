//! Time as the operating system has it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ports::{BoxFuture, Clock};

/// The clocks of the operating system.
pub struct RealClock {
    started: Instant,
}

impl RealClock {
    /// A clock whose monotonic time begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the real port is where time comes from"
    )]
    pub fn new() -> Self {
        RealClock {
            started: Instant::now(),
        }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        RealClock::new()
    }
}

impl Clock for RealClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the real port is where time comes from"
    )]
    fn wall_ns(&self) -> u64 {
        // Before 1970 the clock is not set at all; the Lamport clock copes with a zero.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            })
    }

    fn mono(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}
