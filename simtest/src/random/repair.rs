//! The end of a random world: faults end, operators repair what only they may repair, and then everything
//! has to become equal within a bounded time.

use std::time::Duration;

use node::node::Node;
use tree::Resource;
use tree::view::ResourceView;

use super::{RES, Shape, by_hand, far};
use crate::app::App;
use crate::host::CAPACITY;
use crate::promises::{self, Watch};
use crate::world::World;

/// Everything that can go on by itself has done so after this time.
const PATIENCE: Duration = Duration::from_secs(240);

/// Operators purge so often before they give up on a join.
const PURGES_MAX: usize = 5;
/// ... and wait so long in between.
const PURGE_PAUSE: Duration = Duration::from_secs(60);

/// All faults end, all hosts run, all switches are on.
pub async fn heal(w: &mut World, shape: &Shape) -> Result<(), String> {
    w.note("", "all faults end");
    w.net.heal();
    w.end_commands();
    for name in &shape.names {
        let host = w.host(name);
        host.fs.end_faults(CAPACITY);
        if let Some(exec) = &host.exec {
            exec.end_stalls();
        }
    }
    for name in &shape.names {
        if w.host(name).fs.is_off() {
            w.crash(name, crate::host::Crash::Power);
        }
        w.start_again(name).await;
    }
    far::set_clocks_right(w, shape).await;
    w.run_for(Duration::from_secs(40)).await;
    restart_after_log_errors(w, shape).await;
    by_hand::clear_keys(w, shape, &shape.names[0]).await;
    switch_on(w, shape).await;
    Ok(())
}

async fn switch_on(w: &World, shape: &Shape) {
    for name in &shape.names {
        w.type_at(name, &format!("marsadm up {RES} --timeout=20"))
            .await;
    }
}

/// A primary that could not write its log takes no changes any more and says so; so does one that has lost its disk while
/// it wrote past the log. Operators restart it.
async fn restart_after_log_errors(w: &mut World, shape: &Shape) {
    for name in &shape.names {
        let log = promises::progress::log_error(w, name, RES);
        let disk = promises::progress::disk_lost_past_log(w, name, RES);
        if log.or(disk).is_some() {
            w.count("repaired by a restart after a log or disk error");
            w.stop(name).await;
            w.start_again(name).await;
            w.run_for(Duration::from_secs(20)).await;
        }
    }
}

/// Somebody is primary and all others follow, or the reason why not is one for operators, who act then. `false` when operators have
/// given up every replica: at each host, while it could not ask the others.
pub async fn until_up_to_date(
    w: &mut World,
    app: &App,
    shape: &Shape,
    watch: &mut Watch,
) -> Result<bool, String> {
    app.work();
    join_again(w, shape).await;
    let was_shown = is_shown(w, shape);
    let Some(primary) = find_primary(w, shape).await? else {
        w.count("no replica is left");
        return Ok(false);
    };
    if !was_shown {
        // While nobody is designated, syncing cannot be switched on.
        switch_on(w, shape).await;
    }
    // While somebody was designated whom nobody knows, there was nothing to join.
    join_again(w, shape).await;
    for name in &shape.names {
        if *name == primary || follows(w, name, watch).await? {
            continue;
        }
        // Only a command may resolve a split brain or a hole; everything else has to heal by itself.
        let why = promises::progress::reason(w, name, RES);
        let gone = promises::progress::is_gone(&why);
        let half = promises::progress::is_half_invalidated(w, name, &why);
        if !gone && !half && !promises::progress::is_for_operators(&why) {
            return Err(stuck(w, name, &why));
        }
        w.count("resolved by invalidate");
        w.type_at(name, &format!("marsadm invalidate {RES} --timeout=60"))
            .await;
        if !follows(w, name, watch).await? {
            let why = promises::progress::reason(w, name, RES);
            return Err(stuck(w, name, &why));
        }
    }
    Ok(true)
}

fn stuck(w: &World, name: &str, why: &str) -> String {
    w.note(name, &w.explain(RES));
    format!("{name} does not become up to date (44): {why}")
}

/// Whoever has left the resource in the middle of something joins again. Joining gives up where logs are rotated too
/// fast; the membership is there then, and is switched on.
async fn join_again(w: &mut World, shape: &Shape) {
    for name in &shape.names {
        if !w.is_member(name, RES) {
            join_without_remains(w, name).await;
            w.type_at(name, &format!("marsadm up {RES} --timeout=20"))
                .await;
        }
    }
}

/// Joins, and does what the refusal says: traces of an earlier life, above all of a host of the same name that was lost,
/// are purged first. What somebody else wrote last is spared for some minutes, so it takes patience.
async fn join_without_remains(w: &mut World, name: &str) {
    let disk = crate::host::SimHost::disk_path(RES);
    let join = format!(
        "marsadm join-resource {RES} {} --timeout=60",
        disk.display()
    );
    for _ in 0..PURGES_MAX {
        let joined = w.type_at(name, &join).await;
        if !joined.stderr.contains("log-purge-all") {
            return;
        }
        w.count("purged remains before joining");
        w.type_at(name, &format!("marsadm log-purge-all {RES} --timeout=20"))
            .await;
        w.run_for(PURGE_PAUSE).await;
    }
}

async fn follows(w: &mut World, name: &str, watch: &mut Watch) -> Result<bool, String> {
    // The main loop has not looked yet at what a command before this has changed.
    w.run_for(Duration::from_secs(1)).await;
    let deadline = w.now() + PATIENCE;
    while w.now() < deadline {
        watch.look(w)?;
        if let Some(first) = w.broken().first() {
            return Err(first.clone());
        }
        // What the disk state of the manual compares is lengths; a fork is shown beside it.
        let why = promises::progress::reason(w, name, RES);
        if promises::progress::is_for_operators(&why) {
            return Ok(false);
        }
        if w.view(name, "diskstate", RES).await == "UpToDate" {
            return Ok(true);
        }
        w.run_for(Duration::from_secs(4)).await;
    }
    Ok(false)
}

fn is_shown(w: &World, shape: &Shape) -> bool {
    shape.names.iter().any(|name| w.shows(name, RES))
}

/// Has every replica been given up by a command at its host?
fn is_given_up(w: &World, shape: &Shape) -> bool {
    let Ok(res) = Resource::new(RES) else {
        return false;
    };
    shape.names.iter().all(|name| {
        let host = w.host(name);
        let typed = ["invalidate", "leave-resource"].map(|word| w.typed_at(name, word));
        let lacks = |node: &Node| {
            let tree = node.keys().read();
            ResourceView::new(&tree, &res)
                .member(&host.name)
                .needs_sync()
        };
        typed.iter().any(|times| *times > 0) && host.node().is_some_and(lacks)
    })
}

/// The host that shows the device. When nobody does, operators try `primary` everywhere, then by force. Nobody when no replica is left.
async fn find_primary(w: &mut World, shape: &Shape) -> Result<Option<String>, String> {
    let shown = |w: &World| is_shown(w, shape);
    w.run_until(Duration::from_secs(60), shown).await;
    for force in [false, true] {
        for name in &shape.names {
            if let Some(name) = shape.names.iter().find(|name| w.shows(name, RES)) {
                return Ok(Some(name.clone()));
            }
            if force {
                w.count("repaired by force");
                w.type_at(name, &format!("marsadm pause-fetch {RES}")).await;
                w.type_at(name, &format!("marsadm primary {RES} --force --timeout=30"))
                    .await;
                w.type_at(name, &format!("marsadm resume-fetch {RES}"))
                    .await;
            } else {
                w.type_at(name, &format!("marsadm primary {RES} --timeout=30"))
                    .await;
            }
            w.run_until(Duration::from_secs(20), shown).await;
        }
    }
    if let Some(name) = shape.names.iter().find(|name| w.shows(name, RES)) {
        return Ok(Some(name.clone()));
    }
    if is_given_up(w, shape) {
        return Ok(None);
    }
    w.note("", &w.explain(RES));
    Err("nobody can be made primary, not even by force".to_owned())
}

/// Trees and disks have to be equal in the end.
pub async fn compare(w: &mut World, app: &App, shape: &Shape) -> Result<(), String> {
    app.rest();
    if !w
        .run_until(Duration::from_secs(60), |_| app.is_closed())
        .await
    {
        return Err("requests of the application are never answered (43)".to_owned());
    }
    let primary = shape.names.iter().find(|name| w.shows(name, RES));
    let primary = primary.cloned().unwrap_or_else(|| shape.names[0].clone());
    w.run_for(Duration::from_secs(20)).await;
    promises::trees::must_converge(w).await?;
    w.stop(&primary).await;
    w.run_for(Duration::from_secs(15)).await;
    for name in &shape.names {
        if *name != primary {
            w.stop(name).await;
        }
    }
    // What the disks have behind the end of the device is nobody's.
    let device = device_bytes(w, &primary).unwrap_or(shape.size);
    let disk = |name: &str| {
        let mut bytes = w.host(name).disk(RES);
        bytes.truncate(device as usize);
        bytes
    };
    let first = disk(&primary);
    // What a resource has grown by is not written to.
    let size = first.len().min(shape.size as usize);
    app.check_newest(&primary, &first[..size])?;
    for name in &shape.names {
        if disk(name) != first {
            return Err(format!(
                "the disks of {name} and {primary} differ in the end (33, 44)"
            ));
        }
    }
    Ok(())
}

/// The size of the device as the last tree of a host has it.
fn device_bytes(w: &World, name: &str) -> Option<u64> {
    let path = tree::Path::new(&format!("resource-{RES}/size")).ok()?;
    w.host(name).medium.get(&path)?.text()?.parse().ok()
}
