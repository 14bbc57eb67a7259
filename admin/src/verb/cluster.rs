//! Belonging to a cluster: leave, compare, merge, split; `create-cluster` and `join-cluster` on a saved tree.
//!
//! With a real state directory `create-cluster` and `join-cluster` are done by [`crate::offline`], which makes keys, certificates
//! and the first tree; here are the checks they share with an evaluation of a saved tree.
//!
//! Manual: "Creating and Maintaining a Cluster".

use crate::check;
use crate::phases::{Progress, Step};
use crate::ping::{self, Scope};
use crate::session::{Refusal, Session, refuse};
use crate::snapshot::Snapshot;
use crate::verb::logs::MARSADM_VERSION;

/// Address of the host acted for: said on the command line, or known already.
fn own_address(s: &Session<'_>) -> Result<String, Refusal> {
    let known = || {
        s.tree
            .live(&format!("ips/ip-{}", s.host))
            .map(str::to_owned)
    };
    let said = s
        .options
        .own_ip
        .clone()
        .or_else(|| s.options.peer_ips.get(&s.host).cloned());
    match said.or_else(known).or_else(crate::offline::first_address) {
        Some(address) => Ok(address),
        None => refuse("cannot find out the address of this host: use --ip="),
    }
}

/// `create-cluster` on a saved tree.
pub fn create(s: &mut Session<'_>, _res: &str) -> Step {
    if !s.forced() && s.tree.dir_exists("ips") {
        return refuse("cluster is already created");
    }
    if s.tree.daemon_runs && s.tree.live("uuid").is_some() {
        return refuse("the mars daemon is running: stop it first");
    }
    if s.tree.live("uuid").is_some() {
        return refuse(format!("cluster uuid '{}' exists already", s.text("uuid")));
    }
    let address = own_address(s)?;
    let host = s.host.clone();
    let uuid = format!("{}_{}", s.real_host, s.tree.now);
    s.set(format!("actual-{host}/marsadm-version"), MARSADM_VERSION);
    s.set("uuid", &uuid);
    s.flush()?;
    s.say(format!("New cluster UUID is '{uuid}'"));
    write_defaults(s);
    s.set(format!("ips/ip-{host}"), address);
    Ok(Progress::Done)
}

fn write_defaults(s: &mut Session<'_>) {
    let host = s.host.clone();
    s.set(format!("defaults-{host}/sync-limit"), "0");
    s.set(format!("defaults-{host}/sync-pref-list"), "(none)");
}

/// `join-cluster PEER [PEER_IP]`: what can be refused without asking anybody.
pub fn join(s: &mut Session<'_>, _res: &str) -> Step {
    let Some(word) = s.args.first().cloned() else {
        return refuse("join-cluster needs the name of a host of the cluster as argument");
    };
    let peer = word.split(':').next().unwrap_or(&word).to_owned();
    if peer == s.host {
        return refuse(format!(
            "Cannot join myself (peer='{peer}', host='{}')",
            s.host
        ));
    }
    check::identifier(s, &peer)?;
    if !s.tree.resources().is_empty() {
        s.warn("there are resources on this host already");
        s.warn("joining another cluster may destroy them");
        s.refuse_unless_forced("refusing to join a cluster with resources of another one")?;
    }
    let uuid = s.text("uuid");
    if !uuid.is_empty() && uuid != "(any)" {
        return refuse(format!("this host belongs to the cluster '{uuid}' already"));
    }
    refuse(format!(
        "cannot ask host '{peer}': a saved tree cannot join a cluster"
    ))
}

/// `leave-cluster`
pub fn leave(s: &mut Session<'_>, _res: &str) -> Step {
    check::daemon_runs(
        s,
        "mars kernel module is not loaded. This is needed for communication with some other hosts!",
    )?;
    let host = s.host.clone();
    let resources: Vec<String> = s.tree.resources().into_iter().map(str::to_owned).collect();
    if resources.iter().any(|res| {
        s.tree
            .live(&format!("resource-{res}/data-{host}"))
            .is_some()
    }) {
        s.refuse_unless_forced("I am member of some resources")?;
    }
    ask_unless_forced(s)?;
    delete_named(s);
    s.delete(format!("ips/ip-{host}"));
    s.flush()?;
    ask_unless_forced(s)?;
    delete_named(s);
    s.delete(format!("todo-global/deleted-{host}"));
    s.flush()?;
    ask_unless_forced(s)?;
    let left: Vec<String> = named_after_host(s, &["todo-", "actual-"], 2);
    if !left.is_empty() {
        s.forget(&left)?;
    }
    Ok(Progress::Done)
}

fn ask_unless_forced(s: &mut Session<'_>) -> Result<(), Refusal> {
    if s.forced() {
        return Ok(());
    }
    ping::peers(s, Scope::Mentioned, "*")
}

/// What the indicators of all hosts say about the host that leaves.
fn delete_named(s: &mut Session<'_>) {
    let keys = named_after_host(s, &["actual-"], 1);
    for key in keys {
        if s.tree.live(&key).is_some() {
            s.delete(key);
        }
    }
}

/// Keys named after the host acted for, right inside directories with such beginnings, so many levels deep.
fn named_after_host(s: &Session<'_>, dirs: &[&str], levels: usize) -> Vec<String> {
    let suffix = format!("-{}", s.host);
    let is_meant = |path: &&String| {
        let mut parts = path.rsplit('/');
        let (name, dir) = (parts.next(), parts.next());
        name.is_some_and(|name| name.ends_with(&suffix))
            && dir.is_some_and(|dir| dirs.iter().any(|start| dir.starts_with(start)))
            && path.matches('/').count() <= levels
    };
    s.tree.entries.keys().filter(is_meant).cloned().collect()
}

/// `create-uuid`
pub fn create_uuid(s: &mut Session<'_>, _res: &str) -> Step {
    if s.tree.live("uuid").is_some() {
        return refuse(format!("cluster uuid '{}' exists already", s.text("uuid")));
    }
    let uuid = format!("{}_{}", s.real_host, s.tree.now);
    s.set("uuid", &uuid);
    s.say(format!("New cluster UUID is '{uuid}'"));
    Ok(Progress::Done)
}

/// `merge-cluster-list`
pub fn merge_list(s: &mut Session<'_>, _res: &str) -> Step {
    let uuid = s.text("uuid");
    s.say(format!("UUID: {uuid}"));
    s.say("IPs:");
    for host in s
        .tree
        .owners("ips/ip-")
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    {
        s.say(format!("/mars/ips/ip-{host}"));
    }
    s.say("RESOURCEs:");
    for res in s
        .tree
        .resources()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    {
        s.say(format!("/mars/resource-{res}"));
    }
    Ok(Progress::Done)
}

/// `merge-cluster PEER`, `merge-cluster-check PEER`: two clusters have two authorities, and neither trusts the other.
pub fn merge(s: &mut Session<'_>, _res: &str) -> Step {
    let Some(peer) = s.args.first().cloned() else {
        return refuse(format!(
            "{} needs the name of a host of the other cluster as argument",
            s.command
        ));
    };
    if peer == s.host {
        return refuse(format!(
            "Cannot merge with myself (peer='{peer}', host='{}')",
            s.host
        ));
    }
    check::identifier(s, &peer)?;
    if s.tree.live(&format!("ips/ip-{peer}")).is_some() {
        s.say(format!(
            "host '{peer}' belongs to this cluster already, nothing to do"
        ));
        return Ok(Progress::Done);
    }
    refuse(format!(
        "host '{peer}' does not belong to this cluster, and merging two clusters is not available in this version: \
         let its hosts leave theirs, and use join-cluster"
    ))
}

/// `split-cluster`: says which hosts could do without each other. All of them read the same tree, so nobody can be told
/// to forget the others while these keep what they have: a real separation is refused.
pub fn split(s: &mut Session<'_>, _res: &str) -> Step {
    let hosts: Vec<String> = names(s.tree.owners("ips/ip-"));
    s.say("IPS:");
    for host in &hosts {
        let ip = s.text(&format!("ips/ip-{host}"));
        s.say(format!("  {host} => {ip}"));
    }
    let groups = groups(&s.tree, &hosts);
    s.say("PEER GROUPS:");
    for (nr, group) in groups.iter().enumerate() {
        let first = group.first().map_or("", String::as_str);
        s.say(format!("  #{nr}: {first} => {}", group.join(",")));
    }
    if groups.len() < 2 {
        s.say("Nothing to do: there is only one group of hosts");
        return Ok(Progress::Done);
    }
    refuse(format!(
        "'{}' is not available in this version: let the hosts of one group use leave-cluster",
        s.command
    ))
}

fn names(hosts: Vec<&str>) -> Vec<String> {
    hosts.into_iter().map(str::to_owned).collect()
}

/// Hosts which are members or guests of the same resources, directly or by way of others, belong together.
fn groups(tree: &Snapshot, hosts: &[String]) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = hosts.iter().map(|host| vec![host.clone()]).collect();
    for res in tree.resources() {
        let mut together = check::participants(tree, res);
        together.extend(names(tree.owners(&format!("resource-{res}/device-"))));
        let touched = |group: &Vec<String>| group.iter().any(|host| together.contains(host));
        let (touched, mut others): (Vec<_>, Vec<_>) = groups.into_iter().partition(touched);
        if !touched.is_empty() {
            let mut joined = touched.concat();
            joined.sort();
            others.push(joined);
        }
        groups = others;
    }
    groups.sort();
    groups
}
