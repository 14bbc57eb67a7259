//! How fast is it? Counters become rates per second.

use std::time::Duration;

use crate::export::UsageNow;
use crate::facts::{DeviceFacts, Rates};
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

/// Bytes of the unit of [`Window`]: what is counted by pieces is handed to it as so many bytes each.
const KIB: u64 = 1024;

/// Remembers the counters of the workers and of the device of one resource.
#[derive(Debug, Default)]
pub struct Meter {
    window: Window<9>,
    /// The device when it was looked at last.
    used: UsageNow,
    device: DeviceFacts,
}

impl Meter {
    /// The rates at `now` (monotonic time); those of the last window until the next one is full.
    pub fn rates(
        &mut self,
        now: Duration,
        replay: Option<&ReplayProgress>,
        fetch: Option<&FetchProgress>,
        sync: Option<&SyncProgress>,
        logger: Option<&LoggerProgress>,
        device: UsageNow,
    ) -> Rates {
        let count = || {
            [
                replay.map_or(0, |p| p.applied_bytes),
                fetch.map_or(0, |p| p.received_bytes),
                sync.map_or(0, |p| p.equal_bytes + p.copied_bytes),
                device.bytes,
                logger.map_or(0, |p| p.written_back_bytes),
                device.answered * KIB,
                replay.map_or(0, |p| p.applied_records) * KIB,
                fetch.map_or(0, |p| p.received_pieces) * KIB,
                sync.map_or(0, |p| p.chunks) * KIB,
            ]
        };
        let [
            replay_kib,
            fetch_kib,
            sync_kib,
            device_kib,
            writeback_kib,
            device_ops,
            replay_ops,
            fetch_ops,
            sync_ops,
        ] = self.window.rates(now, count);
        Rates {
            replay_kib,
            fetch_kib,
            sync_kib,
            device_kib,
            writeback_kib,
            device_ops,
            replay_ops,
            fetch_ops,
            sync_ops,
        }
    }

    /// What applications wait for, as of the beginning of the present window; to be asked behind [`Meter::rates`].
    pub fn device(&mut self, now: Duration, now_ns: u64, used: UsageNow) -> DeviceFacts {
        if self.window.since == now {
            // Whoever waits at a device that rested has waited since now at most.
            let begins = used.flying > 0 && self.used.flying == 0;
            if begins || used.answered > self.used.answered {
                self.device.moved_ns = now_ns;
            }
            self.device.flying = used.flying;
            self.device.error = used.error;
            self.used = used;
        }
        self.device
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
    #[test]
    fn a_request_that_hangs_is_as_old_as_the_last_answer_or_as_itself() {
        let mut meter = Meter::default();
        let mut at = |seconds: u64, flying, answered| {
            let used = UsageNow {
                flying,
                answered,
                bytes: answered * 4096,
                error: 0,
            };
            let now = Duration::from_secs(seconds);
            let rates = meter.rates(now, None, None, None, None, used);
            let device = meter.device(now, seconds * 1_000_000_000, used);
            (
                rates.device_ops,
                rates.device_kib,
                device.flying,
                device.moved_ns / 1_000_000_000,
            )
        };
        assert_eq!(at(4, 1, 40), (10, 40, 1, 4));
        assert_eq!(
            at(5, 7, 80),
            (10, 40, 1, 4),
            "not before the window is full"
        );
        assert_eq!(at(8, 0, 80), (10, 40, 0, 8));
        assert_eq!(at(800, 2, 80), (0, 0, 2, 800), "after a long rest");
        assert_eq!(at(900, 3, 80), (0, 0, 3, 800), "it hangs");
        assert_eq!(at(903, 2, 83), (1, 4, 2, 903));
    }
}
