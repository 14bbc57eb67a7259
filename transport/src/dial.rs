//! Reaching one peer: its address, one attempt at a time, pauses between failures.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tree::Host;

use crate::counters::add;
use crate::link::{Kind, Link};
use crate::net::NetError;
use crate::peers::BackOff;
use crate::quic::Inner;

/// The port where an address names none.
pub const PORT: u16 = 7777;

/// "address" or "address:port", as in `ips/ip-<host>`; `None` for anything else.
pub fn address_of(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| {
        let ip: IpAddr = bare.unwrap_or(text).parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    })
}

/// How one peer is reached.
pub(crate) struct Dial {
    address: Mutex<String>,
    /// Pauses end: a new address, a sign of life, or the end of this network.
    news: Notify,
    news_count: AtomicU64,
    lines: [Attempts; 2],
    born: Instant,
}

/// Attempts for one kind of connection.
#[derive(Default)]
struct Attempts {
    /// Failures so far: whoever waited for somebody else's failed attempt need not try again at once.
    failures: AtomicU64,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    back_off: BackOff,
    seen_news: u64,
    last: Option<NetError>,
}

impl Default for Dial {
    fn default() -> Dial {
        Dial {
            address: Mutex::default(),
            news: Notify::new(),
            news_count: AtomicU64::new(0),
            lines: Default::default(),
            born: Instant::now(),
        }
    }
}

impl Dial {
    pub fn set_address(&self, address: String) {
        let mut held = self.address.lock();
        if *held != address {
            *held = address;
            drop(held);
            self.news();
        }
    }

    /// Something has changed for the better: the pause is over.
    pub fn news(&self) {
        self.news_count.fetch_add(1, Ordering::Relaxed);
        self.news.notify_waiters();
    }

    /// A connection to the peer: the preferred one, or a new one after the pause. One attempt at most.
    pub async fn link(
        &self,
        net: &Arc<Inner>,
        to: &Host,
        kind: Kind,
    ) -> Result<Arc<Link>, NetError> {
        let attempts = &self.lines[kind as usize];
        let failures = attempts.failures.load(Ordering::Acquire);
        let mut state = attempts.state.lock().await;
        if let Some(link) = net.preferred(to, kind) {
            return Ok(link);
        }
        if attempts.failures.load(Ordering::Acquire) != failures
            && let Some(why) = &state.last
        {
            return Err(why.clone());
        }
        self.pause(&mut state).await;
        if net.is_down() {
            return Err(NetError::ShutDown);
        }
        if let Some(link) = net.preferred(to, kind) {
            return Ok(link);
        }
        let address = self.address.lock().clone();
        let outcome = net.connect(to, &address, kind).await;
        if let Err(why) = &outcome {
            add(&net.counters.of(to).failed, 1);
            self.note(attempts, &mut state, why);
        }
        outcome
    }

    /// How a new connection turned out when it was used first.
    pub async fn judge(&self, kind: Kind, failure: Option<&NetError>) {
        let attempts = &self.lines[kind as usize];
        let mut state = attempts.state.lock().await;
        match failure {
            Some(why) => self.note(attempts, &mut state, why),
            None => state.back_off.reset(),
        }
    }

    fn note(&self, attempts: &Attempts, state: &mut State, why: &NetError) {
        state.back_off.failed(self.born.elapsed(), rand::random());
        state.last = Some(why.clone());
        attempts.failures.fetch_add(1, Ordering::AcqRel);
    }

    async fn pause(&self, state: &mut State) {
        let news = self.news.notified();
        let count = self.news_count.load(Ordering::Relaxed);
        if count != state.seen_news {
            state.seen_news = count;
            state.back_off.reset();
        }
        let pause = state.back_off.remaining(self.born.elapsed());
        if !pause.is_zero() {
            tokio::select! {
                biased;
                () = news => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_port_or_not() {
        let same = |text: &str, all: &str| assert_eq!(address_of(text), all.parse().ok(), "{text}");
        same("10.0.0.1", "10.0.0.1:7777");
        same("10.0.0.1:99", "10.0.0.1:99");
        same("::1", "[::1]:7777");
        same("[::1]", "[::1]:7777");
        same("[::1]:99", "[::1]:99");
        for bad in ["", "alpha", "10.0.0", "10.0.0.1:", "10.0.0.1:70000"] {
            assert_eq!(address_of(bad), None, "{bad}");
        }
    }
}
