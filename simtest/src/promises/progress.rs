//! Nothing is stuck once faults have ended: every replica becomes up to date within a bounded time, or shows
//! the reason why not, and then it is one that only an operator can deal with (invariants 44 and 45).

use node::plan::{Reason, ResourcePlan};
use tree::Resource;

use crate::world::World;

/// Why a replica does not go on, as its host shows it.
pub fn reason(w: &World, name: &str, res: &str) -> String {
    let plan = w.host(name).node().and_then(|node| {
        let res = Resource::new(res).ok()?;
        node.hub().plans().remove(&res)
    });
    match plan {
        None => "no plan".to_owned(),
        Some(plan) => reasons(&plan)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn reasons(plan: &ResourcePlan) -> Vec<&Reason> {
    let all = [
        plan.replayer.reason(),
        plan.fetcher.reason(),
        plan.syncer.reason(),
        plan.disk.reason(),
    ];
    all.into_iter().flatten().collect()
}

/// What a running host says about a log that it could not write; `None` while all is well.
pub fn log_error(w: &World, name: &str, res: &str) -> Option<String> {
    let tree = w.host(name).node()?.keys().read();
    let text = tree.text(&format!("resource-{res}/actual-{name}/msg-err-log"))?;
    (text != "OK").then(|| text.to_owned())
}

/// What a running host says about its disk while it writes past its log: what was lost there is in no log, and only a
/// restart attaches the disk again. `None` when all is well.
pub fn disk_lost_past_log(w: &World, name: &str, res: &str) -> Option<String> {
    let tree = w.host(name).node()?.keys().read();
    let text = |key: &str| tree.text(&format!("resource-{res}/actual-{name}/{key}"));
    let lost = text("msg-err-disk").filter(|text| *text != "OK")?;
    (text("is-emergency") == Some("1")).then(|| lost.to_owned())
}

/// Can what is missing be had from nobody, although all faults have ended long ago?
pub fn is_gone(reason: &str) -> bool {
    reason.contains("no reachable member has more")
}

/// Is this a reason that only a command may do something about?
pub fn is_for_operators(reason: &str) -> bool {
    let signs = [
        "split brain",
        "missing for ever",
        "damaged",
        "creator says",
        "went past the log",
    ];
    signs.iter().any(|sign| reason.contains(sign))
}

/// Was `invalidate` begun at this host and not ended? It gives up the own place before it has another one.
pub fn is_half_invalidated(w: &World, name: &str, reason: &str) -> bool {
    let lost = Reason::NoReplayPosition.to_string();
    reason.contains(&lost) && w.typed_at(name, "invalidate") > 0
}
