//! Congestion control for a line whose rate the operator has configured.
//!
//! Controllers that search for the rate by losing packets cannot fill a long fat line which also loses some by
//! itself: Cubic reaches 2 % of 1 Gbit/s at 200 ms with a loss of 0.01 %. Here the rate is known, so
//! the window is simply rate × smallest round trip × 1.25. Only when a larger share is lost than noise explains,
//! the line is really narrower at the moment: then the window is halved, once per round trip (or several short ones), and
//! grows back within seconds.
//!
//! Pure: time comes in with each event.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory};

/// More than this share lost within a round trip means congestion, less means noise.
const LOSS_SHARE_MAX: f64 = 0.05;
/// A share of fewer packets says nothing: of the 28 that are under way at 100 Mbit/s and 20 ms two are lost every half second by noise of
/// one percent. So several round trips are judged together until there are so many …
const JUDGED_PACKETS: u64 = 128;
/// … but not more than these.
const JUDGED_ROUNDS_MAX: u32 = 16;
/// From the smallest share of the window back to the whole in this time.
const RECOVERY: Duration = Duration::from_secs(4);
/// The window never falls below this share, so a short disaster is over soon.
const SHARE_MIN: f64 = 1.0 / 64.0;
/// Round trip assumed before the first one is measured: a short one, so that the first flight is small.
const RTT_ASSUMED: Duration = Duration::from_millis(10);
/// Never below so many packets in flight, whatever rate was configured.
const PACKETS_MIN: u64 = 10;

/// Makes [`RateControl`]s for a rate in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct RateControlFactory {
    /// What the line carries, bytes per second.
    pub rate: u64,
}

impl ControllerFactory for RateControlFactory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(RateControl::new(self.rate, mtu, now))
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct RateControl {
    rate: u64,
    mtu: u64,
    rtt_min: Option<Duration>,
    /// Share of the full window in use, [`SHARE_MIN`] to 1.
    share: f64,
    /// Losses and deliveries since the round trips that are judged together began.
    round_began: Instant,
    round_lost: u64,
    round_acked: u64,
    recovered_at: Instant,
}

impl RateControl {
    fn new(rate: u64, mtu: u16, now: Instant) -> RateControl {
        RateControl {
            rate,
            mtu: u64::from(mtu),
            rtt_min: None,
            share: 1.0,
            round_began: now,
            round_lost: 0,
            round_acked: 0,
            recovered_at: now,
        }
    }

    fn rtt(&self) -> Duration {
        self.rtt_min.unwrap_or(RTT_ASSUMED)
    }

    /// Ends a round trip when it is over: halves the window if too much was lost in it.
    fn judge_round(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.round_began);
        let all = self.round_lost + self.round_acked;
        let says_little = all < JUDGED_PACKETS * self.mtu;
        if passed < self.rtt() || (says_little && passed < JUDGED_ROUNDS_MAX * self.rtt()) {
            return;
        }
        let all = all as f64;
        if self.round_lost > 0 && self.round_lost as f64 > all * LOSS_SHARE_MAX {
            self.share = (self.share / 2.0).max(SHARE_MIN);
        }
        self.round_began = now;
        self.round_lost = 0;
        self.round_acked = 0;
    }

    fn recover(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.recovered_at);
        self.share = (self.share + passed.as_secs_f64() / RECOVERY.as_secs_f64()).min(1.0);
        self.recovered_at = now;
    }
}

impl Controller for RateControl {
    fn on_ack(
        &mut self,
        now: Instant,
        _sent: Instant,
        bytes: u64,
        _app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.rtt_min = Some(rtt.min());
        self.round_acked += bytes;
        self.recover(now);
        self.judge_round(now);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.round_lost += lost_bytes;
        if is_persistent_congestion {
            self.share = SHARE_MIN;
            self.recovered_at = now;
        }
        self.judge_round(now);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
    }

    fn window(&self) -> u64 {
        let full = self.rate as f64 * self.rtt().as_secs_f64() * 1.25;
        ((full * self.share) as u64).max(PACKETS_MIN * self.mtu)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an instant is needed to count from"
)]
mod tests {
    use super::*;

    const RATE: u64 = 125_000_000;
    const ROUND: Duration = Duration::from_millis(10);

    /// One round trip after the other, each losing this share of its bytes; returns the windows.
    fn check_rounds(shares: &[f64]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut control = RateControl::new(RATE, 1400, now);
        let mut windows = Vec::new();
        for share in shares {
            now += ROUND;
            control.round_acked += 1_000_000;
            control.recover(now);
            let lost = (1_000_000.0 * share) as u64;
            control.on_congestion_event(now, now, false, lost);
            windows.push(control.window());
        }
        windows
    }

    #[test]
    fn noise_does_not_narrow_the_window() {
        let full = (RATE as f64 * RTT_ASSUMED.as_secs_f64() * 1.25) as u64;
        assert!(check_rounds(&[0.04; 50]).iter().all(|w| *w == full));
    }

    #[test]
    fn congestion_halves_it_each_round_and_it_grows_back_within_seconds() {
        let full = check_rounds(&[0.0])[0];
        let windows = check_rounds(&[&[0.2; 3][..], &[0.0; 400][..]].concat());
        assert!(windows[0] <= full / 2 + full / 100);
        assert!(windows[2] <= full / 8 + full / 50);
        assert_eq!(windows.last(), Some(&full));
    }

    /// 28 packets each round trip, and two of them lost in each fourth.
    #[test]
    fn noise_among_few_packets_is_noise_all_the_same() {
        let mut now = Instant::now();
        let mut control = RateControl::new(RATE, 1400, now);
        let full = control.window();
        for round in 0..100u64 {
            now += ROUND;
            let lost = if round % 4 == 0 { 2 } else { 0 };
            control.round_acked += (28 - lost) * 1400;
            control.recover(now);
            control.on_congestion_event(now, now, false, lost * 1400);
            assert_eq!(control.window(), full, "round trip {round}");
        }
        // Few packets and nearly all of them lost: that is no noise.
        for _ in 0..JUDGED_ROUNDS_MAX {
            now += ROUND;
            control.round_acked += 1400;
            control.on_congestion_event(now, now, false, 3 * 1400);
        }
        assert!(control.window() <= full / 2);
    }

    #[test]
    fn a_disaster_leaves_a_small_window_not_none() {
        let mut control = RateControl::new(RATE, 1400, Instant::now());
        control.on_congestion_event(control.round_began, control.round_began, true, 1);
        assert!(control.window() >= PACKETS_MIN * 1400);
        assert!(control.window() < 125_000);
    }
}
