//! Which resources and peers does a change of the key tree concern?
//!
//! Rings the bells of the resources whose keys have changed, starts a main loop for a resource this
//! host has become a member of, and calls or leaves peers as their addresses come and go. The cost
//! of a change is the cost of what it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tree::{Host, Path, Resource, Tree, VersionLink, key};

use super::{Hub, Unit};
use crate::job::{ChainEnd, Site};
use crate::keys::Changed;
use crate::main_loop::{self, Desk, ResourceLoop};
use crate::worker::shelf::Shelf;

/// Prefix of the keys with the addresses of all hosts.
const ADDRESSES: &str = "ips/";

/// Runs until it is dropped.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut dispatch = Dispatch {
        generation: 0,
        loops: JoinSet::new(),
        callers: JoinSet::new(),
        calling: BTreeMap::new(),
        hub,
    };
    let mut changes = dispatch.hub.keys.watch();
    let mut exports = dispatch.hub.exports.changes();
    dispatch.look(true).await;
    loop {
        tokio::select! {
            biased;
            Ok(()) = changes.changed() => dispatch.look(false).await,
            Ok(()) = exports.changed() => dispatch.hub.ring_all(),
        }
        while dispatch.loops.try_join_next().is_some() {}
        while dispatch.callers.try_join_next().is_some() {}
    }
}

struct Dispatch {
    hub: Arc<Hub>,
    /// Changes up to this generation have been looked at.
    generation: u64,
    loops: JoinSet<()>,
    callers: JoinSet<()>,
    calling: BTreeMap<Host, AbortHandle>,
}

impl Dispatch {
    async fn look(&mut self, all: bool) {
        let (tree, generation) = self.hub.keys.read_at();
        let changed = self.hub.keys.changed_since(self.generation);
        self.generation = generation;
        let (resources, addresses) = match changed {
            Changed::Paths(paths) if !all => touched(&paths),
            _ => (all_resources(&tree), true),
        };
        for res in resources {
            self.touch(&tree, res).await;
        }
        if addresses {
            self.call_peers(&tree);
        }
    }

    async fn touch(&mut self, tree: &Tree, res: Resource) {
        let known = self
            .hub
            .units
            .lock()
            .get(&res)
            .map(|unit| unit.bell.clone());
        match known {
            Some(bell) => bell.notify_one(),
            None => {
                // Also after this host has left: log files may still lie here.
                let member = tree.get(&key::data(&res, &self.hub.here)).is_some();
                if member {
                    self.begin(tree, res).await;
                }
            }
        }
    }

    /// Opens the shelf of a resource and starts its main loop.
    async fn begin(&mut self, tree: &Tree, res: Resource) {
        let hub = &self.hub;
        let shelf = Shelf::open(
            hub.here.clone(),
            hub.cluster.clone(),
            res.clone(),
            hub.layout.resource(&res),
            hub.ports.clone(),
            published_ends(tree, &res, &hub.here),
        )
        .await;
        let shelf = match shelf {
            Ok(shelf) => shelf,
            Err(error) => {
                tracing::error!(%res, %error, "the logs of the resource cannot be used");
                return;
            }
        };
        let (desk, bell) = (Arc::new(Desk::default()), Arc::new(Notify::new()));
        let site = Site {
            here: hub.here.clone(),
            cluster: hub.cluster.clone(),
            res: res.clone(),
            ports: hub.ports.clone(),
            keys: hub.keys.clone(),
            shelf: shelf.clone(),
        };
        let parts = main_loop::Parts {
            site,
            keys: hub.keys.clone(),
            exports: hub.exports.clone(),
            host: hub.facts.subscribe(),
            config: hub.config.clone(),
            bell: bell.clone(),
            desk: desk.clone(),
            syncing: hub.syncing.clone(),
        };
        hub.units.lock().insert(res, Unit { shelf, desk, bell });
        self.loops.spawn(ResourceLoop::new(parts).run());
    }

    /// Calls exactly the hosts that have an address.
    fn call_peers(&mut self, tree: &Tree) {
        let addresses = addresses(tree, &self.hub.here);
        self.calling.retain(|peer, task| {
            let stays = addresses.contains_key(peer);
            if !stays {
                task.abort();
            }
            stays
        });
        for peer in addresses.keys() {
            if !self.calling.contains_key(peer) {
                let gossip = self.hub.gossip.clone();
                let task = self.callers.spawn(gossip.keep_calling(peer.clone()));
                self.calling.insert(peer.clone(), task);
            }
        }
        self.hub.ports.net.set_peers(addresses);
    }
}

/// Addresses of all hosts but this one.
pub(super) fn addresses(tree: &Tree, here: &Host) -> BTreeMap<Host, String> {
    tree.texts(ADDRESSES)
        .filter_map(|(path, text)| {
            let host = Host::new(path.as_str().strip_prefix("ips/ip-")?).ok()?;
            (host != *here).then(|| (host, text.to_owned()))
        })
        .collect()
}

/// What the changed paths concern: these resources, and whether addresses are among them.
fn touched(paths: &BTreeSet<Path>) -> (BTreeSet<Resource>, bool) {
    let resources = paths.iter().filter_map(resource_of).collect();
    let addresses = paths
        .iter()
        .any(|path| path.as_str().starts_with(ADDRESSES));
    (resources, addresses)
}

fn resource_of(path: &Path) -> Option<Resource> {
    let (name, _) = path.as_str().strip_prefix("resource-")?.split_once('/')?;
    Resource::new(name).ok()
}

fn all_resources(tree: &Tree) -> BTreeSet<Resource> {
    let keys = tree.range("resource-");
    keys.filter_map(|(path, _)| resource_of(path)).collect()
}

/// The ends of logs this host has published: what lies before need not be read again.
fn published_ends(tree: &Tree, res: &Resource, here: &Host) -> Vec<ChainEnd> {
    let own = format!("-{here}");
    tree.texts(&key::version_prefix(res))
        .filter(|(path, _)| path.as_str().ends_with(&own))
        .filter(|(path, _)| {
            let parsed = tree::Key::parse(path);
            parsed.is_some_and(|(_, parts)| parts.host.as_ref() == Some(here))
        })
        .filter_map(|(_, text)| text.parse::<VersionLink>().ok())
        .map(|link| ChainEnd::of(&link))
        .collect()
}
