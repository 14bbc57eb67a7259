//! How fast are the workers? Counters of bytes become KiB per second.

use std::time::Duration;

use crate::facts::Rates;
use crate::job::{FetchProgress, LoggerProgress, ReplayProgress, SyncProgress};

/// Rates are means over at least this time.
const WINDOW_MIN: Duration = Duration::from_secs(3);

/// Remembers the counters of the last window.
#[derive(Debug, Default)]
pub struct Meter {
    since: Duration,
    counted: [u64; 4],
    rates: Rates,
}

impl Meter {
    /// The rates at `now` (monotonic time); those of the last window until the next one is full.
    pub fn rates(
        &mut self,
        now: Duration,
        replay: Option<&ReplayProgress>,
        fetch: Option<&FetchProgress>,
        sync: Option<&SyncProgress>,
        device: Option<&LoggerProgress>,
    ) -> Rates {
        let passed = now.saturating_sub(self.since);
        if passed < WINDOW_MIN {
            return self.rates;
        }
        let counted = [
            replay.map_or(0, |p| p.applied_bytes),
            fetch.map_or(0, |p| p.received_bytes),
            sync.map_or(0, |p| p.equal_bytes + p.copied_bytes),
            device.map_or(0, |p| p.written_bytes),
        ];
        let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let kib = |nr: usize| {
            // A new worker counts from zero again.
            let bytes = counted[nr].saturating_sub(self.counted[nr]);
            bytes / 1024 * 1000 / ms
        };
        self.rates = Rates {
            replay_kib: kib(0),
            fetch_kib: kib(1),
            sync_kib: kib(2),
            device_kib: kib(3),
        };
        self.since = now;
        self.counted = counted;
        self.rates
    }
}
