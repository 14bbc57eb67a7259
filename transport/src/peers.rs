//! When to try a peer again, and whom to talk to next. Pure: time and chance come in as arguments.
//!
//! Times are positions on a monotonic clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tree::Host;

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

/// Whom to exchange summaries with next: whoever has waited longest.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    peers: BTreeMap<Host, Times>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    heard: Option<Duration>,
    asked: Option<Duration>,
}

impl Rounds {
    /// Keeps exactly these peers; times of those that stay are kept.
    pub fn set_peers<'a>(&mut self, peers: impl IntoIterator<Item = &'a Host>) {
        let mut old = std::mem::take(&mut self.peers);
        for peer in peers {
            let times = old.remove(peer).unwrap_or_default();
            self.peers.insert(peer.clone(), times);
        }
    }

    /// Something came from `peer` at `now`.
    pub fn heard(&mut self, peer: &Host, now: Duration) {
        if let Some(times) = self.peers.get_mut(peer) {
            times.heard = Some(now);
        }
    }

    /// An exchange with `peer` begins at `now`.
    pub fn asked(&mut self, peer: &Host, now: Duration) {
        if let Some(times) = self.peers.get_mut(peer) {
            times.asked = Some(now);
        }
    }

    /// When something came from `peer` last.
    pub fn last_heard(&self, peer: &Host) -> Option<Duration> {
        self.peers.get(peer)?.heard
    }

    /// Peers with whom the last exchange began at least `every` before `now`, longest waiting first.
    pub fn due(&self, now: Duration, every: Duration) -> Vec<Host> {
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, times)| times.asked.is_none_or(|at| at.saturating_add(every) <= now))
            .collect();
        due.sort_by_key(|(host, times)| (times.asked, (*host).clone()));
        due.into_iter().map(|(host, _)| host.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str) -> Host {
        Host::new(name).expect("valid")
    }

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

    #[test]
    fn whoever_has_waited_longest_is_next() {
        let mut rounds = Rounds::default();
        let (a, b, c) = (host("a"), host("b"), host("c"));
        rounds.set_peers([&a, &b, &c]);
        let at = Duration::from_secs;
        rounds.asked(&a, at(5));
        rounds.asked(&b, at(3));
        assert_eq!(rounds.due(at(6), at(2)), [c.clone(), b.clone()]);
        assert_eq!(rounds.due(at(7), at(2)), [c.clone(), b, a.clone()]);
        rounds.set_peers([&a, &c]);
        rounds.heard(&a, at(8));
        assert_eq!(rounds.last_heard(&a), Some(at(8)));
        assert_eq!(rounds.due(at(6), at(2)), [c]);
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
