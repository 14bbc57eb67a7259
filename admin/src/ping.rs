//! Asking the peers for a sign of life, and waiting for it.
//!
//! A peer is alive when its `actual-<peer>/time` has moved after the question; dead when it has been silent for half a window or
//! longer. Dead peers are told to the operator, they do not make a command fail.
//!
//! Manual: "Waiting for Status" (`wait-cluster`, `update-cluster`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::Trigger;
use crate::session::{Refusal, Session, of};
use crate::snapshot::{Snapshot, Time};

/// Whose peers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Those of one resource.
    Resource(&'a str),
    /// Those of all resources known here.
    Mentioned,
    /// Every host with an address.
    Everybody,
}

/// Up to this many peers are listed by name.
const LISTED_PEERS_MAX: usize = 9;

/// What is known of a peer during the wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Unknown,
    Alive,
    Dead,
}

/// Asks and waits. `filter` is `*` or one host. Bounded by half a window of silence and by `--timeout`.
pub fn peers(s: &mut Session<'_>, scope: Scope<'_>, filter: &str) -> Result<(), Refusal> {
    s.flush()?;
    if filter == s.host {
        return Ok(());
    }
    let trigger = match (scope, filter) {
        (Scope::Everybody, _) => Trigger::Full,
        (_, "*") => Trigger::Fetch,
        _ => Trigger::Notify,
    };
    let peers = whom(s, scope, filter);
    let before: BTreeMap<String, Option<Time>> = peers
        .iter()
        .map(|peer| (peer.clone(), last_sign(&s.tree, peer)))
        .collect();
    s.say(format!("Ping {filter} trigger={}", trigger.code()));
    announce(s, scope, &peers);
    s.trigger(trigger)?;
    let lives = listen(s, &before, trigger)?;
    let count = |life| lives.iter().filter(|l| **l == life).count();
    let (all, alive, dead) = (
        lives.len(),
        count(Life::Alive),
        lives.len() - count(Life::Alive),
    );
    if dead == 0 {
        s.say(format!("{alive}/{all} peer(s) seem to be alive"));
    } else {
        s.warn(format!("{alive}/{all} peer(s) seem to be alive, and {dead} peer(s) seem to be dead / not reachable"));
    }
    Ok(())
}

fn whom(s: &Session<'_>, scope: Scope<'_>, filter: &str) -> Vec<String> {
    let hosts: Vec<&str> = match scope {
        Scope::Everybody => s.tree.owners("ips/ip-"),
        Scope::Resource(res) => s.tree.owners(&of(res, "device-")),
        Scope::Mentioned => {
            let resources = s.tree.resources();
            resources
                .iter()
                .flat_map(|res| s.tree.owners(&of(res, "device-")))
                .collect()
        }
    };
    let mut peers: Vec<String> = hosts
        .into_iter()
        .filter(|host| *host != s.host && (filter == "*" || filter == *host))
        .map(str::to_owned)
        .collect();
    peers.sort();
    peers.dedup();
    peers
}

fn announce(s: &mut Session<'_>, scope: Scope<'_>, peers: &[String]) {
    let scope = match scope {
        Scope::Resource(res) => format!("resource '{res}'"),
        Scope::Mentioned => "locally mentioned".to_owned(),
        Scope::Everybody => "any known or unknown".to_owned(),
    };
    if (1..=LISTED_PEERS_MAX).contains(&peers.len()) {
        s.say(format!(
            "Wait for answers from {scope} peer(s) {}",
            peers.join(",")
        ));
    } else {
        s.say(format!(
            "Wait for answers from {}  peer(s) ({scope})",
            peers.len()
        ));
    }
}

fn listen(
    s: &mut Session<'_>,
    before: &BTreeMap<String, Option<Time>>,
    trigger: Trigger,
) -> Result<Vec<Life>, Refusal> {
    let (began, mut asked) = (s.daemon.elapsed(), s.daemon.elapsed());
    let start = s.tree.now;
    loop {
        let waited = s.daemon.elapsed().saturating_sub(began);
        let window = s.options.window / 2;
        let judge = |(peer, old): (&String, &Option<Time>)| match (*old, last_sign(&s.tree, peer)) {
            (old, Some(now)) if Some(now) > old && now >= start => Life::Alive,
            (_, Some(now)) if now.is_recent(s.tree.now, window) => Life::Unknown,
            (_, None) if waited.as_secs() < window => Life::Unknown,
            _ => Life::Dead,
        };
        let lives: Vec<Life> = before.iter().map(judge).collect();
        if !lives.contains(&Life::Unknown) || s.options.timeout.is_over(waited) {
            return Ok(lives);
        }
        if s.daemon.elapsed().saturating_sub(asked) >= Duration::from_secs(1) {
            s.trigger_quietly(trigger)?;
            asked = s.daemon.elapsed();
        }
        s.pause(Duration::from_secs(1))?;
    }
}

fn last_sign(tree: &Snapshot, peer: &str) -> Option<Time> {
    tree.live(&format!("actual-{peer}/time"))?.parse().ok()
}
