//! Trouble of the network that concerns more than one pair of hosts.

use std::time::Duration;

use tree::Host;

use super::Shape;
use super::trouble::Kind;
use crate::net::Link;
use crate::world::World;

/// Makes it happen.
pub fn cause(w: &World, shape: &Shape, kind: Kind, name: &str) {
    match kind {
        Kind::HangingHost => {
            let time = Duration::from_millis(w.chance.between(200, 9_000));
            w.note(name, &format!("hangs for {time:?}"));
            w.net.pause(&w.host(name).name, time);
        }
        Kind::SlowHost => slow_host(w, shape, name),
        _ => partition(w, shape),
    }
}

fn slow_host(w: &World, shape: &Shape, name: &str) {
    let link = Link {
        delay: Duration::from_millis(w.chance.below(400)),
        jitter: Duration::from_millis(w.chance.below(400)),
        loss_permille: w.chance.below(100),
        bandwidth: w.chance.between(1, 8) * (16 << 10),
    };
    w.note(name, &format!("is slow: {link:?}"));
    let slow = &w.host(name).name;
    for peer in shape.names.iter().filter(|peer| *peer != name) {
        let peer = &w.host(peer).name;
        w.net.set_link(slow, peer, link);
        w.net.set_link(peer, slow, link);
    }
}

/// Every host draws its group; a group may be empty, and some hosts may be alone.
fn partition(w: &World, shape: &Shape) {
    let all: Vec<Host> = shape.names.iter().map(|n| w.host(n).name.clone()).collect();
    let mut groups = vec![Vec::new(); w.chance.between(2, 3) as usize];
    for host in &all {
        let group = w.chance.below(groups.len() as u64) as usize;
        groups[group].push(host.clone());
    }
    w.note("", &format!("partition into {groups:?}"));
    w.net.partition(&groups, &all);
}
