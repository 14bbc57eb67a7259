//! What went over the network, per peer and class.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tree::Host;

use crate::net::Class;

/// Counters of one class with one peer since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassStats {
    /// Bytes of messages sent, without the transport's overhead.
    pub sent_bytes: u64,
    /// Messages sent.
    pub sent_messages: u64,
    /// Bytes of messages received.
    pub received_bytes: u64,
    /// Messages received.
    pub received_messages: u64,
}

/// Counters of one peer since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// By class.
    pub classes: BTreeMap<String, ClassStats>,
    /// Connections made to it or by it.
    pub connects: u64,
    /// Attempts to reach it that failed.
    pub failed: u64,
    /// Connections or channels refused, by either side.
    pub refused: u64,
    /// Connections ended for breaking the protocol.
    pub violations: u64,
    /// Connections that exist now.
    pub connections: u64,
    /// Round trip time of the newest of them in microseconds; 0 without one.
    pub rtt_us: u64,
}

#[derive(Debug, Default)]
pub(crate) struct ClassCounters {
    pub sent_bytes: AtomicU64,
    pub sent_messages: AtomicU64,
    pub received_bytes: AtomicU64,
    pub received_messages: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct PeerCounters {
    pub classes: [Arc<ClassCounters>; Class::ALL.len()],
    pub connects: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
    pub violations: AtomicU64,
}

/// Counters of all peers ever met; peers are hosts with a certificate of this cluster, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    peers: Mutex<BTreeMap<Host, Arc<PeerCounters>>>,
    /// Connections of nobody we know: no or a foreign certificate, or no handshake in time.
    pub strangers: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    pub fn of(&self, peer: &Host) -> Arc<PeerCounters> {
        self.peers.lock().entry(peer.clone()).or_default().clone()
    }

    pub fn stats(&self) -> BTreeMap<Host, PeerStats> {
        let peers = self.peers.lock();
        peers
            .iter()
            .map(|(host, counters)| (host.clone(), counters.stats()))
            .collect()
    }
}

impl PeerCounters {
    fn stats(&self) -> PeerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let classes = Class::ALL.into_iter().zip(&self.classes);
        PeerStats {
            classes: classes
                .map(|(class, c)| (class.to_string(), c.stats()))
                .collect(),
            connects: read(&self.connects),
            failed: read(&self.failed),
            refused: read(&self.refused),
            violations: read(&self.violations),
            connections: 0,
            rtt_us: 0,
        }
    }
}

impl ClassCounters {
    pub fn sent(&self, bytes: u64) {
        add(&self.sent_bytes, bytes);
        add(&self.sent_messages, 1);
    }

    pub fn received(&self, bytes: u64) {
        add(&self.received_bytes, bytes);
        add(&self.received_messages, 1);
    }

    fn stats(&self) -> ClassStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClassStats {
            sent_bytes: read(&self.sent_bytes),
            sent_messages: read(&self.sent_messages),
            received_bytes: read(&self.received_bytes),
            received_messages: read(&self.received_messages),
        }
    }
}
