//! Limits per class: a token bucket which can be changed while running.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::net::Class;

/// How much may be sent at once after a silence, as a share of a second: small enough that a limit holds
/// over any second, large enough that one chunk passes at 10 MB/s without a pause.
const BURST: Duration = Duration::from_millis(100);

/// Tokens for bytes, filled at a rate. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When everything taken so far has been paid for.
    paid_at: Duration,
}

impl Bucket {
    /// Takes `bytes` at `now` (monotonic) at `rate` bytes per second, and says how long to wait before sending them.
    /// The rate counts for what is taken from now on; 0 means no limit.
    pub fn take(&mut self, now: Duration, bytes: u64, rate: u64) -> Duration {
        if rate == 0 {
            self.paid_at = Duration::ZERO;
            return Duration::ZERO;
        }
        let wait = self.paid_at.saturating_sub(now + BURST);
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
        wait
    }
}

/// One bucket per class, shared by all peers of this host.
#[derive(Debug)]
pub struct Buckets {
    classes: [Limited; Class::ALL.len()],
    started: tokio::time::Instant,
}

#[derive(Debug, Default)]
struct Limited {
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
    changed: Notify,
}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets {
            classes: Default::default(),
            started: tokio::time::Instant::now(),
        }
    }
}

impl Buckets {
    /// Limits a class to `rate` bytes per second from now on; `None` lifts the limit. Whoever waits under the old
    /// limit goes on at once.
    pub fn set(&self, class: Class, rate: Option<u64>) {
        let limited = &self.classes[class as usize];
        limited.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
        *limited.bucket.lock() = Bucket::default();
        limited.changed.notify_waiters();
    }

    /// The limit of a class in bytes per second.
    pub fn rate(&self, class: Class) -> Option<u64> {
        let rate = self.classes[class as usize].rate.load(Ordering::Relaxed);
        (rate > 0).then_some(rate)
    }

    /// Waits until `bytes` of this class may be sent.
    pub async fn take(&self, class: Class, bytes: u64) {
        let limited = &self.classes[class as usize];
        let changed = limited.changed.notified();
        let rate = limited.rate.load(Ordering::Relaxed);
        let wait = limited
            .bucket
            .lock()
            .take(self.started.elapsed(), bytes, rate);
        if wait > Duration::ZERO {
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            assert_eq!(bucket.take(SECOND, 1 << 30, 0), Duration::ZERO);
        }
    }

    #[test]
    fn over_ten_seconds_no_more_than_the_rate_and_one_burst_passes() {
        let rate = 1_000_000;
        let chunk = 10_000;
        let mut bucket = Bucket::default();
        let mut now = SECOND;
        let mut sent = 0;
        while now < 11 * SECOND {
            now += bucket.take(now, chunk, rate);
            sent += chunk;
        }
        assert!((10_000_000..=10_200_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_silence_is_not_saved_up() {
        let mut bucket = Bucket::default();
        bucket.take(SECOND, 1000, 1000);
        let later = 100 * SECOND;
        assert_eq!(bucket.take(later, 1000, 1000), Duration::ZERO);
        assert!(bucket.take(later, 1000, 1000) > SECOND / 2);
    }

    #[tokio::test]
    async fn a_lifted_limit_frees_whoever_waits() {
        let buckets = std::sync::Arc::new(Buckets::default());
        buckets.set(Class::Sync, Some(1));
        buckets.take(Class::Sync, 3600).await;
        let waiting = tokio::spawn({
            let buckets = buckets.clone();
            async move { buckets.take(Class::Sync, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        buckets.set(Class::Sync, None);
        let began = tokio::time::Instant::now();
        waiting.await.expect("finishes");
        assert!(began.elapsed() < SECOND);
    }
}
