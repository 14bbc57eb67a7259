//! Which resources and peers does a change of the key tree concern?
//!
//! Rings the bells of the resources whose keys have changed, starts a main loop for a resource this
//! host has become a member of, and calls or leaves peers as their addresses come and go. The cost
//! of a change is the cost of what it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use transport::Class;
use tree::{Host, Path, Resource, Tree, VersionLink, key};

use super::{Hub, Unit, traffic};
use crate::job::{ChainEnd, Site};
use crate::keys::Changed;
use crate::main_loop::{self, Desk, Doubt, ResourceLoop};
use crate::plan::Reason;
use crate::ports::{KeyChange, Keys};
use crate::worker::shelf::Shelf;

/// Prefix of the keys with the addresses of all hosts.
const ADDRESSES: &str = "ips/";

/// How often it is looked whether a host that is leaving has had its time.
const LEAVING_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut dispatch = Dispatch {
        generation: 0,
        loops: JoinSet::new(),
        callers: JoinSet::new(),
        calling: BTreeMap::new(),
        leaving: false,
        rates: BTreeMap::new(),
        hub,
    };
    let clock = dispatch.hub.ports.clock.clone();
    let mut changes = dispatch.hub.keys.watch();
    let mut exports = dispatch.hub.exports.changes();
    dispatch.look(true).await;
    loop {
        tokio::select! {
            biased;
            Ok(()) = changes.changed() => dispatch.look(false).await,
            Ok(()) = exports.changed() => dispatch.hub.ring_all(),
            () = clock.sleep(LEAVING_LOOK_EVERY), if dispatch.leaving => {
                let tree = dispatch.hub.keys.read();
                dispatch.cut_off(&tree);
            }
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
    /// A host is about to leave: its last words may still be on their way.
    leaving: bool,
    /// Limits in force, bytes per second.
    rates: BTreeMap<Class, u64>,
}

impl Dispatch {
    async fn look(&mut self, all: bool) {
        let (tree, generation) = self.hub.keys.read_at();
        let changed = self.hub.keys.changed_since(self.generation);
        self.generation = generation;
        let (resources, addresses) = match changed {
            Changed::Paths(paths) if !all => {
                if paths
                    .iter()
                    .any(|path| path.as_str().starts_with(traffic::KEYS))
                {
                    self.limit_traffic(&tree);
                }
                touched(&paths)
            }
            _ => {
                self.limit_traffic(&tree);
                (all_resources(&tree), true)
            }
        };
        for res in resources {
            self.touch(&tree, res).await;
        }
        if addresses {
            self.call_peers(&tree);
            self.cut_off(&tree);
        }
    }

    fn limit_traffic(&mut self, tree: &Tree) {
        let limits = traffic::limits(tree, &self.hub.here, &self.hub.config);
        for (class, rate) in traffic::changes(&mut self.rates, limits) {
            match rate {
                Some(rate) => {
                    tracing::info!(%class, bytes_per_second = rate, "the traffic is limited")
                }
                None => tracing::info!(%class, "the limit of the traffic is lifted"),
            }
            self.hub.ports.net.set_rate(class, rate);
        }
    }

    async fn touch(&mut self, tree: &Tree, res: Resource) {
        let here = &self.hub.here;
        if let Some(change) = guest_indicator(tree, &res, here) {
            self.hub.keys.commit_lazy(vec![change]);
        }
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
        let doubt = match Doubt::look(&hub.ports, &hub.layout, tree, &res, &hub.here).await {
            Ok(doubt) => doubt,
            Err(error) => {
                tracing::error!(%res, %error, "the state directory cannot be used");
                return;
            }
        };
        if doubt.stands() {
            let reason = Reason::FormerLife;
            tracing::error!(%res, %reason, "nothing is done for this resource");
        }
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
            copying: hub.copying.clone(),
        };
        let parts = main_loop::Parts {
            site,
            keys: hub.keys.clone(),
            exports: hub.exports.clone(),
            host: hub.facts.subscribe(),
            config: hub.config.clone(),
            bell: bell.clone(),
            desk: desk.clone(),
            doubt,
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

    /// Hosts that have left get nothing any more. A deletion is forgotten one day, so it is noted apart.
    fn cut_off(&mut self, tree: &Tree) {
        let now_ns = self.hub.keys.now_ns();
        let grace_ns = u64::try_from(self.hub.config.leave_grace.as_nanos()).unwrap_or(u64::MAX);
        let before_ns = now_ns.saturating_sub(grace_ns);
        let (left, to_note, leaving) = left_cluster(tree, &self.hub.here, before_ns);
        self.leaving = leaving;
        self.hub.ports.net.set_refused(left);
        if !to_note.is_empty() {
            let now = tree::ns_to_text(now_ns);
            let notes = to_note
                .iter()
                .map(|host| (key::left_cluster(host), Some(now.clone())));
            self.hub.keys.commit_lazy(notes.collect());
        }
    }
}

/// A guest says that it uses the device, a host that is none any more says so no longer; `None` while that is told already.
fn guest_indicator(tree: &Tree, res: &Resource, here: &Host) -> Option<KeyChange> {
    let has = |path: Path| tree.text(path.as_str()).is_some();
    let member = has(key::data(res, here)) || has(key::replay(res, here));
    let uses = has(key::device(res, here)) && !member;
    let path = key::actual(res, here, "prosumer-on");
    let told = tree.text(path.as_str());
    match uses {
        true if told != Some("1") => Some((path, Some("1".to_owned()))),
        false if told.is_some() => Some((path, None)),
        _ => None,
    }
}

/// Hosts without an address that had one before `before_ns`, or are noted to have left; those of them that are not noted
/// yet; and whether somebody is about to leave.
fn left_cluster(
    tree: &Tree,
    here: &Host,
    before_ns: u64,
) -> (BTreeSet<Host>, BTreeSet<Host>, bool) {
    let named = |path: &Path| {
        let name = path.as_str().strip_prefix(ADDRESSES)?;
        let host = name.strip_prefix("ip-").or(name.strip_prefix("left-"))?;
        Host::new(host).ok().filter(|host| host != here)
    };
    let hosts: BTreeSet<Host> = tree
        .range(ADDRESSES)
        .filter_map(|(path, _)| named(path))
        .collect();
    let (mut left, mut to_note, mut leaving) = (BTreeSet::new(), BTreeSet::new(), false);
    for host in hosts {
        let address = tree.get(&key::ip(&host));
        if address.is_some_and(|entry| !entry.is_tombstone()) {
            continue;
        }
        let noted = tree.text(key::left_cluster(&host).as_str()).is_some();
        let deleted_ns = address.map(|entry| entry.stamp.ns);
        match (noted, deleted_ns) {
            (false, Some(then)) if then > before_ns => leaving = true,
            (false, Some(_)) => {
                to_note.insert(host.clone());
                left.insert(host);
            }
            (true, _) => drop(left.insert(host)),
            // It came and went while nobody looked.
            (false, None) => {}
        }
    }
    (left, to_note, leaving)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{Entry, Issue, Stamp, Value};

    fn check(keys: &[&str], expected: Option<Option<&str>>) {
        let here = Host::new("beta").expect("name");
        let res = Resource::new("data").expect("name");
        let mut tree = Tree::new();
        for name in keys {
            let entry = Entry {
                value: Value::text("1").expect("value"),
                stamp: Stamp::new(1, &here),
                issue: Issue {
                    nr: 1,
                    writer: here.clone(),
                },
                lazy: false,
            };
            let path = format!("resource-data/{name}");
            tree.merge(Path::new(&path).expect("path"), entry);
        }
        let path = key::actual(&res, &here, "prosumer-on");
        let expected = expected.map(|text| (path, text.map(str::to_owned)));
        assert_eq!(guest_indicator(&tree, &res, &here), expected, "{keys:?}");
    }

    #[test]
    fn a_host_says_that_it_is_a_guest_exactly_while_it_is_one() {
        const TOLD: &str = "actual-beta/prosumer-on";
        check(&[], None);
        check(&["device-alpha", "data-alpha"], None);
        check(&["device-beta"], Some(Some("1")));
        check(&["device-beta", TOLD], None);
        check(&["device-beta", "data-beta"], None);
        check(&["device-beta", "replay-beta", TOLD], Some(None));
        check(&[TOLD], Some(None));
    }
}
