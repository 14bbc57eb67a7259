//! How members and guests leave a resource, and how it ends.
//!
//! Leaving is refused while anything of the member is switched on or running, because a worker that goes on would write keys
//! of a member that is gone. What remains of its history is purged as far as nobody needs it.
//!
//! Manual: "Creating and Maintaining Resources".

use crate::check;
use crate::phases::{Progress, Step};
use crate::ping::{self, Scope};
use crate::session::{Session, of, refuse, shown};
use crate::snapshot::Kind;
use crate::verb::purge;
use crate::wait;

/// `leave-resource`: not primary, and everything off.
pub fn may_leave(s: &mut Session<'_>, res: &str) -> Step {
    if check::participants(&s.tree, res).len() > 2 {
        ping::peers(s, Scope::Everybody, "*")?;
    }
    check::not_primary(s, res, true)?;
    let host = s.host.clone();
    let busy = |dir: String, only: &str| -> Vec<String> {
        let below = s.tree.below(&dir);
        let on = below.filter(|(path, item)| {
            let name = path.rsplit('/').next().unwrap_or(path);
            item.is_live() && item.value != "0" && name.starts_with(only)
        });
        on.map(|(path, _)| shown(path)).collect()
    };
    let switches = busy(of(res, format!("todo-{host}")), "");
    let running = busy(of(res, format!("actual-{host}")), "is-");
    // A limit in percent is no switch.
    let switches: Vec<String> = switches
        .into_iter()
        .filter(|key| !key.ends_with("/emergency-limit"))
        .collect();
    for key in &switches {
        s.warn(format!("switch '{key}' is not off"));
    }
    for key in &running {
        s.warn(format!("running status '{key}' is not off"));
    }
    if s.forced() {
        return Ok(Progress::Done);
    }
    wait::actual(s, res, "is-attached", false, false, &host)?;
    if !switches.is_empty() || !running.is_empty() {
        return refuse(format!(
            "some switches or workers of resource '{res}' are not off: use 'down' first"
        ));
    }
    Ok(Progress::Done)
}

/// `leave-resource`: forget that this host was a member.
pub fn drop_membership(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    for key in ["replay", "data", "syncstatus", "device", "actsize"] {
        s.delete(of(res, format!("{key}-{host}")));
    }
    for key in ["syncpos", "skip-check", "verifystatus"] {
        let key = of(res, format!("{key}-{host}"));
        if s.tree.live(&key).is_some() {
            s.delete(key);
        }
    }
    let dir = format!("resource-{res}");
    let suffix = format!("-{host}");
    let keys: Vec<String> = s
        .tree
        .below(&dir)
        .filter(|(_, item)| item.is_live() && matches!(item.kind, Kind::Key | Kind::Dir))
        .filter(|(path, item)| {
            let (first, deeper) = path[dir.len() + 1..]
                .split_once('/')
                .unwrap_or((&path[dir.len() + 1..], ""));
            first.ends_with(&suffix) && (!deeper.is_empty() || item.kind == Kind::Dir)
        })
        .map(|(path, _)| path.to_owned())
        .collect();
    for key in keys {
        s.delete(key);
    }
    Ok(Progress::Done)
}

/// `leave-resource`: own history that nobody needs.
pub fn purge_left(s: &mut Session<'_>, res: &str) -> Step {
    purge::purge_logs(s, res, false)?;
    purge::purge_errors(s, res);
    Ok(Progress::Done)
}

/// `leave-resource`: with other replicas around, let them see it and purge once more.
pub fn wait_for_deletions(s: &mut Session<'_>, res: &str) -> Step {
    if check::participants(&s.tree, res).len() > 1 {
        ping::peers(s, Scope::Resource(res), "*")?;
        purge::purge_logs(s, res, false)?;
    }
    Ok(Progress::Done)
}

/// `delete-resource`: forget all of it, except how far its log numbers have come.
pub fn delete_keys(s: &mut Session<'_>, res: &str) -> Step {
    let dir = format!("resource-{res}");
    if !s.tree.dir_exists(&dir) {
        s.say(format!("resource '{res}' does not exist - nothing to do"));
        return Ok(Progress::Done);
    }
    let mut hosts = check::participants(&s.tree, res);
    hosts.extend(
        s.tree
            .owners(&of(res, "device-"))
            .into_iter()
            .map(str::to_owned),
    );
    hosts.sort();
    hosts.dedup();
    if !hosts.is_empty() {
        let names = hosts.join(",");
        if !s.forced() {
            return refuse(format!(
                "resource '{res}' has {} members ({names}), cannot delete it",
                hosts.len()
            ));
        }
        s.warn(format!(
            "BRUTE FORCE resource destruction: '{res}' has {} members ({names}) THESE ARE FINALLY TRASHED right now -- you are \
             RESPONSIBLE for any subsequent problems.",
            hosts.len()
        ));
    }
    // Tombstones are written anew, so that nothing which is still on its way can bring a key back.
    let keys: Vec<String> = s
        .tree
        .below(&dir)
        .filter(|(path, item)| !path.ends_with("/maxnr") && !is_hollow(s, path, item.kind))
        .map(|(path, _)| path.to_owned())
        .collect();
    for key in keys.into_iter().rev() {
        s.delete(key);
    }
    Ok(Progress::Done)
}

/// A directory with keys of its own vanishes with them.
fn is_hollow(s: &Session<'_>, path: &str, kind: Kind) -> bool {
    kind == Kind::Dir && s.tree.below(path).any(|(_, item)| item.is_live())
}

/// `deactivate-guest`
pub fn deactivate_guest(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    for key in ["data", "replay"] {
        if s.tree.live(&of(res, format!("{key}-{host}"))).is_some() {
            return refuse(format!(
                "host '{host}' is a member of resource '{res}', not a guest: use 'leave-resource'"
            ));
        }
    }
    s.delete(of(res, format!("device-{host}")));
    Ok(Progress::Done)
}
