//! Clusters of hundreds of hosts: after what time all of them know a key, and what they say while nothing happens.
//!
//! Whole nodes, as in every world here, with an ordinary network: 1.0 to 1.2 ms one way. Times are virtual, so they hold
//! what the protocol costs and nothing of what so many hosts cost the one processor they share here; that is reported
//! apart (`cpu`).

use std::time::Duration;

use anyhow::Context;
use node::ports::Keys;
use tree::{Host, Path};

use crate::net::Counts;
use crate::world::World;

/// Keys set, one after the other, each at another host.
const KEYS: usize = 20;

/// Between two looks at all hosts.
const LOOK: Duration = Duration::from_millis(1);

/// A key that takes longer has got lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing is set for so long, and what is said meanwhile is counted. With many hosts the pause between two exchanges of a pair
/// is longer, but the exchanges of a host are spread over it.
const REST: Duration = Duration::from_secs(60);

/// The same with a thousand hosts, of which one second takes some twenty.
const REST_OF_THE_LARGEST: Duration = Duration::from_secs(20);
const LARGEST: usize = 1000;

/// What was found with so many hosts.
#[derive(Debug)]
pub struct Found {
    /// Hosts.
    pub hosts: usize,
    /// Milliseconds from setting a key until each other host had it, sorted; all keys together.
    pub seen_ms: Vec<f64>,
    /// Until the last host had it, sorted; one for each key.
    pub last_ms: Vec<f64>,
    /// Seconds from the start of the hosts until every one had exchanged its keys with every other.
    pub joined_s: f64,
    /// Messages per second and host at rest.
    pub messages: f64,
    /// Their bytes per second and host.
    pub bytes: f64,
    /// Seconds of the processor for each second of one host at rest.
    pub cpu: f64,
    /// Memory of the process for each host, in bytes.
    pub memory: u64,
}

/// Runs a cluster of so many hosts.
///
/// # Errors
/// When a host does not start, or does not hear of a key.
pub async fn measure(mut world: World, hosts: usize) -> anyhow::Result<Found> {
    let (_, memory_before) = used()?;
    let began = world.now();
    world.crowd(hosts).await?;
    let met = world.run_until(PATIENCE * 10, everybody_has_met).await;
    anyhow::ensure!(met, "not all of {hosts} hosts have exchanged their keys");
    let joined_s = (world.now() - began).as_secs_f64();
    let (mut seen_ms, mut last_ms) = (Vec::new(), Vec::new());
    for nr in 0..KEYS {
        let times = spread(&world, nr * hosts / KEYS, nr).await?;
        last_ms.push(times.last().copied().unwrap_or_default());
        seen_ms.extend(times);
    }
    seen_ms.sort_by(f64::total_cmp);
    last_ms.sort_by(f64::total_cmp);
    let (counts, (cpu_before, _)) = (world.net.counts(), used()?);
    let rest = if hosts < LARGEST {
        REST
    } else {
        REST_OF_THE_LARGEST
    };
    world.run_for(rest).await;
    let Counts {
        messages, bytes, ..
    } = world.net.counts();
    let (cpu, memory) = used()?;
    let each = rest.as_secs_f64() * hosts as f64;
    Ok(Found {
        hosts,
        seen_ms,
        last_ms,
        joined_s,
        messages: (messages - counts.messages) as f64 / each,
        bytes: (bytes - counts.bytes) as f64 / each,
        cpu: (cpu - cpu_before) / each,
        memory: memory.saturating_sub(memory_before) / hosts as u64,
    })
}

/// Seconds of processors and bytes of memory this process has used so far.
fn used() -> anyhow::Result<(f64, u64)> {
    let me = std::process::id();
    let mib = admin::bench::resident_mib(me)?;
    Ok((admin::bench::cpu_seconds(me)?, (mib * 1048576.0) as u64))
}

fn everybody_has_met(world: &World) -> bool {
    let others = world.hosts.len() - 1;
    let met = |node: &node::node::Node| {
        let facts = node.hub().gossip().facts();
        facts.borrow().exchanged.len() == others
    };
    world
        .hosts
        .values()
        .all(|host| host.node().is_some_and(met))
}

/// Sets one key at one host; milliseconds until each of the others has it, sorted.
async fn spread(world: &World, at: usize, nr: usize) -> anyhow::Result<Vec<f64>> {
    let key = Path::new(&format!("userkeys/spread-{nr}"))?;
    let mut hosts: Vec<_> = world.hosts.values().collect();
    let writer = hosts.remove(at);
    let node = writer.node().context("the writer is down")?;
    let set = world.now();
    let keys = node.keys();
    keys.commit(vec![(key.clone(), Some("1".to_owned()))])
        .await?;
    let mut times = Vec::new();
    while !hosts.is_empty() {
        let elapsed = world.now() - set;
        anyhow::ensure!(
            elapsed < PATIENCE,
            "{} hosts have not heard of a key of {}: {:?} …",
            hosts.len(),
            writer.name,
            hosts.first().map(|host| &host.name)
        );
        hosts.retain(|host| {
            let knows = host
                .node()
                .is_some_and(|node| node.keys().read().text(key.as_str()).is_some());
            if knows {
                times.push(elapsed.as_secs_f64() * 1e3);
            }
            !knows
        });
        world.run_for(LOOK).await;
    }
    Ok(times)
}

/// One of sorted values, `share` of the way from the first to the last.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>5} hosts: key seen after {:.1} ms (p50), {:.1} (p99), by the last host {:.1} (p50), {:.1} (longest); \
             all had met after {:.1} s; at rest {:.0} messages and {:.0} bytes per second and host, {:.4} of a core, \
             {:.1} MiB",
            self.hosts,
            quantile(&self.seen_ms, 0.5),
            quantile(&self.seen_ms, 0.99),
            quantile(&self.last_ms, 0.5),
            quantile(&self.last_ms, 1.0),
            self.joined_s,
            self.messages,
            self.bytes,
            self.cpu,
            self.memory as f64 / 1048576.0
        )
    }
}

/// The name of a host of a crowd.
///
/// # Errors
/// None for any number: letters and digits are a name.
pub fn name(nr: usize) -> anyhow::Result<Host> {
    Ok(Host::new(&format!("host{nr:04}"))?)
}
