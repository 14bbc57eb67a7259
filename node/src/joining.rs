//! What the join desk of this host has to know about the cluster: addresses and the time, and how to
//! make a new host known.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use transport::BoxFuture;
use transport::join::Membership;
use tree::{Host, key};

use crate::keys::KeyService;
use crate::ports::{Clock, KeyChange, Keys};

/// Answers the desk from the key tree. The network needs the desk before the tree is open: until
/// [`TreeMembership::open`] nobody is admitted.
pub struct TreeMembership {
    clock: Arc<dyn Clock>,
    clock_difference_max_s: u64,
    /// Weak, because the network that holds this is itself one of the ports of the key service.
    keys: OnceLock<Weak<KeyService>>,
}

impl TreeMembership {
    /// A membership that admits nobody yet.
    pub fn new(clock: Arc<dyn Clock>, clock_difference_max_s: u64) -> Arc<TreeMembership> {
        Arc::new(TreeMembership {
            clock,
            clock_difference_max_s,
            keys: OnceLock::new(),
        })
    }

    /// From now on hosts can join.
    pub fn open(&self, keys: &Arc<KeyService>) {
        // Only the first call counts; there is one tree per daemon.
        let _ = self.keys.set(Arc::downgrade(keys));
    }

    fn keys(&self) -> Option<Arc<KeyService>> {
        self.keys.get()?.upgrade()
    }
}

impl Membership for TreeMembership {
    fn now_s(&self) -> u64 {
        self.clock.wall_ns() / tree::stamp::SECOND_NS
    }

    fn addresses(&self) -> BTreeMap<Host, String> {
        let Some(keys) = self.keys() else {
            return BTreeMap::new();
        };
        let tree = keys.read();
        tree.texts("ips/")
            .filter_map(|(path, text)| {
                let host = Host::new(path.as_str().strip_prefix("ips/ip-")?).ok()?;
                Some((host, text.to_owned()))
            })
            .collect()
    }

    fn clock_difference_max_s(&self) -> u64 {
        self.clock_difference_max_s
    }

    fn admit(&self, host: Host, address: String) -> BoxFuture<'_, Result<(), String>> {
        let Some(keys) = self.keys() else {
            return Box::pin(async { Err("the daemon is still starting".to_owned()) });
        };
        Box::pin(async move {
            tracing::info!(%host, address, "admitted to the cluster");
            let stored = keys.commit(admission(&host, address)).await;
            stored.map(drop).map_err(|error| error.to_string())
        })
    }
}

/// Its address; and if it had left, that is over.
fn admission(host: &Host, address: String) -> Vec<KeyChange> {
    vec![
        (key::ip(host), Some(address)),
        (key::left_cluster(host), None),
    ]
}
