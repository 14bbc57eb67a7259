//! How fast is it? Counters of bytes become KiB per second.

use std::time::Duration;

use crate::facts::Rates;
use crate::job::{FetchProgress, LoggerProgress, ReplayProgress, SyncProgress};

/// Rates are means over at least this time.
const WINDOW_MIN: Duration = Duration::from_secs(3);

/// `N` counters of bytes, and how fast they rose in the last window.
#[derive(Debug)]
pub(crate) struct Window<const N: usize> {
    since: Duration,
    counted: [u64; N],
    kib: [u64; N],
}

impl<const N: usize> Default for Window<N> {
    fn default() -> Self {
        Window {
            since: Duration::ZERO,
            counted: [0; N],
            kib: [0; N],
        }
    }
}

impl<const N: usize> Window<N> {
    /// KiB per second at `now` (monotonic time); those of the last window until the next one is full. `count` is asked
    /// only then.
    pub(crate) fn rates(&mut self, now: Duration, count: impl FnOnce() -> [u64; N]) -> [u64; N] {
        let passed = now.saturating_sub(self.since);
        if passed < WINDOW_MIN {
            return self.kib;
        }
        let counted = count();
        let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        self.kib = std::array::from_fn(|nr| {
            // A new worker counts from zero again.
            let bytes = counted[nr].saturating_sub(self.counted[nr]);
            bytes / 1024 * 1000 / ms
        });
        self.since = now;
        self.counted = counted;
        self.kib
    }
}

/// Remembers the counters of the workers of one resource.
#[derive(Debug, Default)]
pub struct Meter(Window<5>);

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
        let count = || {
            [
                replay.map_or(0, |p| p.applied_bytes),
                fetch.map_or(0, |p| p.received_bytes),
                sync.map_or(0, |p| p.equal_bytes + p.copied_bytes),
                device.map_or(0, |p| p.written_bytes),
                device.map_or(0, |p| p.written_back_bytes),
            ]
        };
        let [replay_kib, fetch_kib, sync_kib, device_kib, writeback_kib] = self.0.rates(now, count);
        Rates {
            replay_kib,
            fetch_kib,
            sync_kib,
            device_kib,
            writeback_kib,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_a_window_and_stays_until_the_next_one_is_full() {
        let mut window = Window::<1>::default();
        let mut at = |seconds, bytes| window.rates(Duration::from_secs(seconds), || [bytes]);
        assert_eq!(at(4, 8 << 20), [2048]);
        assert_eq!(at(6, 20 << 20), [2048]);
        assert_eq!(at(8, 12 << 20), [1024]);
        assert_eq!(at(12, 1 << 20), [0], "counted anew");
    }
}
