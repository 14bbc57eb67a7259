//! How much does this host as a whole send, receive and read for others? For people; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use transport::Class;
use transport::counters::{ClassStats, PeerStats};
use tree::Host;

use super::Hub;

/// KiB per second, of logs and syncs alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throughput {
    /// Sent to all peers.
    pub sent_kib: u64,
    /// Received from all peers.
    pub received_kib: u64,
    /// Covered by answers to the syncers of other hosts.
    pub served_kib: u64,
}

/// Bytes since the start, in the order of [`Throughput`].
pub(super) fn count(hub: &Hub) -> [u64; 3] {
    let [sent, received] = bulk(&hub.network());
    [sent, received, hub.served.bytes.load(Relaxed)]
}

/// Bytes sent and received of logs and syncs.
fn bulk(peers: &BTreeMap<Host, PeerStats>) -> [u64; 2] {
    let classes = [Class::Log, Class::Sync].map(|class| class.to_string());
    let bulk = |stats: &'_ PeerStats| -> Vec<ClassStats> {
        let found = classes.iter().filter_map(|class| stats.classes.get(class));
        found.copied().collect()
    };
    let all = peers.values().flat_map(bulk);
    all.fold([0, 0], |[sent, received], class| {
        [sent + class.sent_bytes, received + class.received_bytes]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_syncs_count_and_the_exchange_of_keys_does_not() {
        let class = |sent_bytes, received_bytes| ClassStats {
            sent_bytes,
            received_bytes,
            ..ClassStats::default()
        };
        let classes = [(Class::State, 1000), (Class::Log, 100), (Class::Sync, 10)];
        let peer = PeerStats {
            classes: classes
                .into_iter()
                .map(|(name, bytes)| (name.to_string(), class(bytes, bytes * 2)))
                .collect(),
            ..PeerStats::default()
        };
        let peers = ["beta", "gamma"].map(|host| (Host::new(host).expect("name"), peer.clone()));
        assert_eq!(bulk(&BTreeMap::from(peers)), [220, 440]);
        assert_eq!(bulk(&BTreeMap::new()), [0, 0]);
    }
}
