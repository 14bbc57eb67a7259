//! The Lamport clock of one host: never behind the wall clock, never behind anything seen, never the same twice.
//!
//! The time of day comes in as an argument. A *lease* makes readings unique across crashes and clocks that jump
//! back: the caller stores an upper bound durably **before** any reading up to it is handed out, and a clock
//! restored from that bound goes on behind it. Readings serve as stamps and as issue numbers alike.
//!
//! Entries further ahead of the wall clock than `max_future` must not be observed: one host with a wrong clock
//! would carry the whole cluster with it. [`LamportClock::admits`] is the guard; the caller holds such entries
//! back and reports them.
//!
//! Manual: "illegal future" clamping. The original accepts 30 days and rewrites such stamps; here they wait.

use crate::stamp::SECOND_NS;

/// How far the stored bound lies ahead of use while the clock follows the wall clock.
/// Every restart may push the clock ahead by this much, so it is short; a store costs one flush per half of it.
pub const LEASE_NS: u64 = 2 * SECOND_NS;
/// The same while the clock already runs further ahead than that: still a million readings, but restarts in a row
/// do not add up.
pub const LEASE_AHEAD_NS: u64 = SECOND_NS / 1000;
/// How far ahead of the wall clock an entry may be stamped: an hour covers any sane clock in any time zone.
pub const MAX_FUTURE_NS_DEFAULT: u64 = 3600 * SECOND_NS;
const _: () = assert!(MAX_FUTURE_NS_DEFAULT >= 100 * LEASE_NS);

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct LamportClock {
    last: u64,
    lease: u64,
    max_future: u64,
}

/// Before the clock can give another reading, `upto` must be stored durably; then call
/// [`LamportClock::lease_stored`] and ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("clock lease is used up: store {upto} durably, then go on")]
pub struct LeaseNeeded {
    /// The bound to store, in nanoseconds since the epoch.
    pub upto: u64,
}

/// An entry lies too far in the future to be applied now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stamped {} s ahead of the clock here, expected at most {} s: set the clock of the writer or of this host",
    ahead_ns / SECOND_NS, max_ns / SECOND_NS
)]
pub struct TooFarAhead {
    /// How far ahead of the wall clock.
    pub ahead_ns: u64,
    /// How far is allowed.
    pub max_ns: u64,
}

impl LamportClock {
    /// The clock of a host whose last stored lease is `lease_ns`; 0 on a new host.
    pub fn restored(lease_ns: u64) -> LamportClock {
        LamportClock {
            last: lease_ns,
            lease: lease_ns,
            max_future: MAX_FUTURE_NS_DEFAULT,
        }
    }

    /// The same with another limit for the future, in nanoseconds.
    pub fn with_max_future(mut self, ns: u64) -> LamportClock {
        self.max_future = ns;
        self
    }

    /// The next reading: greater than every one before, and never behind `wall_ns`.
    ///
    /// # Errors
    /// [`LeaseNeeded`] when no stored lease covers it. Nothing is used up then.
    pub fn next(&mut self, wall_ns: u64) -> Result<u64, LeaseNeeded> {
        let reading = self.following(wall_ns);
        if reading > self.lease {
            return Err(LeaseNeeded {
                upto: self.lease_from(reading, wall_ns),
            });
        }
        self.last = reading;
        Ok(reading)
    }

    /// The bound to store soon, so that [`next`](Self::next) seldom has to wait for it. `None` while
    /// more than half of the lease is left.
    pub fn lease_wanted_soon(&self, wall_ns: u64) -> Option<u64> {
        let reading = self.following(wall_ns);
        let upto = self.lease_from(reading, wall_ns);
        let left = self.lease.saturating_sub(reading);
        (left < (upto - reading) / 2).then_some(upto)
    }

    /// `upto` is on the medium now.
    pub fn lease_stored(&mut self, upto: u64) {
        self.lease = self.lease.max(upto);
    }

    /// An entry with this stamp or issue number was taken over: later readings are greater.
    pub fn observe(&mut self, ns: u64) {
        self.last = self.last.max(ns);
    }

    /// The greatest time issued or seen.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Lamport time of this moment without using up a reading; for display and ages.
    pub fn now(&self, wall_ns: u64) -> u64 {
        self.last.max(wall_ns)
    }

    /// May an entry with this stamp or issue number be applied now?
    ///
    /// # Errors
    /// [`TooFarAhead`] when it has to wait until the wall clock comes near.
    pub fn admits(&self, ns: u64, wall_ns: u64) -> Result<(), TooFarAhead> {
        let ahead_ns = ns.saturating_sub(wall_ns);
        if ahead_ns > self.max_future {
            let max_ns = self.max_future;
            return Err(TooFarAhead { ahead_ns, max_ns });
        }
        Ok(())
    }

    fn following(&self, wall_ns: u64) -> u64 {
        wall_ns.max(self.last.saturating_add(1))
    }

    fn lease_from(&self, reading: u64, wall_ns: u64) -> u64 {
        let ahead = reading.saturating_sub(wall_ns) > LEASE_NS;
        reading.saturating_add(if ahead { LEASE_AHEAD_NS } else { LEASE_NS })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A host with its medium: stores leases when asked, can crash at any time.
    struct Machine {
        clock: LamportClock,
        stored: u64,
        stores: u32,
    }

    impl Machine {
        fn new() -> Machine {
            Machine {
                clock: LamportClock::restored(0),
                stored: 0,
                stores: 0,
            }
        }

        fn read(&mut self, wall: u64) -> u64 {
            loop {
                match self.clock.next(wall) {
                    Ok(reading) => return reading,
                    Err(LeaseNeeded { upto }) => self.store(upto),
                }
            }
        }

        fn store(&mut self, upto: u64) {
            self.stored = upto;
            self.stores += 1;
            self.clock.lease_stored(upto);
        }

        fn crash(&mut self) {
            self.clock = LamportClock::restored(self.stored);
        }
    }

    #[test]
    fn readings_follow_the_wall_clock_and_everything_seen() {
        let mut host = Machine::new();
        assert_eq!(host.read(1_000), 1_000);
        assert_eq!(host.read(1_000), 1_001);
        host.clock.observe(5_000);
        assert_eq!(host.read(1_000), 5_001);
        assert_eq!(host.read(9_000), 9_000);
    }

    #[test]
    fn a_lease_is_stored_about_once_per_half_of_it_and_not_for_each_reading() {
        let mut host = Machine::new();
        for ms in 0..10_000 {
            let wall = (1_000_000 + ms) * SECOND_NS / 1000;
            host.read(wall);
            if let Some(upto) = host.clock.lease_wanted_soon(wall) {
                host.store(upto);
            }
        }
        assert!((5..=12).contains(&host.stores), "{} stores", host.stores);
    }

    #[test]
    fn a_thousand_crashes_in_a_row_push_the_clock_ahead_by_seconds_only() {
        let mut host = Machine::new();
        let wall = 1_000_000 * SECOND_NS;
        for _ in 0..1_000 {
            host.read(wall);
            host.crash();
        }
        assert!(host.read(wall) - wall < 5 * SECOND_NS);
    }

    #[test]
    fn an_entry_from_the_far_future_is_refused_with_figures() {
        let clock = LamportClock::restored(0);
        let wall = 1_000_000 * SECOND_NS;
        assert_eq!(clock.admits(wall + MAX_FUTURE_NS_DEFAULT, wall), Ok(()));
        let error = clock
            .admits(wall + 7200 * SECOND_NS, wall)
            .expect_err("too far");
        assert!(error.to_string().contains("7200 s ahead"), "{error}");
    }

    proptest! {
        #[test]
        fn no_reading_is_ever_repeated_across_crashes_and_jumping_clocks(
            steps in prop::collection::vec((0u64..5 * SECOND_NS, prop::bool::weighted(0.2), 0u64..3), 1..200)
        ) {
            let mut host = Machine::new();
            let mut before = 0;
            for (wall, crash, ahead) in steps {
                if crash {
                    host.crash();
                }
                if ahead == 0 {
                    host.clock.observe(before + 17);
                }
                let reading = host.read(wall);
                prop_assert!(reading > before);
                prop_assert!(reading >= wall);
                before = reading;
            }
        }
    }
}
