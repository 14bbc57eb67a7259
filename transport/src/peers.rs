//! When to try a peer again. Pure: time and chance come in as arguments.
//!
//! Times are positions on a monotonic clock.

use std::time::Duration;

/// First pause after a failure.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(200);

/// Longest pause: a healed line is used again within this time.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(15);
const _: () = assert!(BACK_OFF_MAX.as_millis() > 10 * BACK_OFF_MIN.as_millis());

/// How long to leave a peer alone after failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    failures: u32,
    until: Duration,
}

impl BackOff {
    /// A failure happened at `now`: the pause doubles each time up to [`BACK_OFF_MAX`], and `chance` (any number)
    /// shortens it by up to half, so that hosts which lost each other together do not come back together.
    pub fn failed(&mut self, now: Duration, chance: u64) {
        let doubled = BACK_OFF_MIN.saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(BACK_OFF_MAX);
        let share = (chance % 1024) as u32;
        let pause = pause - pause / 2048 * share;
        self.failures = self.failures.saturating_add(1);
        self.until = now.saturating_add(pause);
    }

    /// It works again, or the peer's address has changed: no pause.
    pub fn reset(&mut self) {
        *self = BackOff::default();
    }

    /// What is left of the pause at `now`.
    pub fn remaining(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_ends_with_a_success() {
        let mut pauses = Vec::new();
        let mut back_off = BackOff::default();
        let now = Duration::from_secs(100);
        for _ in 0..9 {
            back_off.failed(now, 0);
            pauses.push(back_off.remaining(now).as_millis());
        }
        assert_eq!(
            pauses,
            [200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]
        );
        back_off.reset();
        assert_eq!(back_off.remaining(now), Duration::ZERO);
        assert_eq!(back_off.failures(), 0);
    }

    proptest! {
        #[test]
        fn the_pause_is_never_longer_than_its_limit_nor_shorter_than_half(
            failures in 1u32..100,
            chance: u64,
        ) {
            let mut back_off = BackOff::default();
            for _ in 0..failures {
                back_off.failed(Duration::ZERO, chance);
            }
            let pause = back_off.remaining(Duration::ZERO);
            prop_assert!(pause <= BACK_OFF_MAX);
            prop_assert!(pause >= BACK_OFF_MIN / 2);
        }
    }
}
