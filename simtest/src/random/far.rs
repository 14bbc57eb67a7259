//! What happens to whole hosts for long: absence of hours, replacement by an empty one, clocks that are centuries off.

use std::time::Duration;

use super::{RES, Shape};
use crate::host::{Crash, SimHost};
use crate::world::World;

/// A clock shows some year between these and the right one, in years from now.
const YEARS_BACK: u64 = 50;
const YEARS_AHEAD: u64 = 277;
const YEAR_NS: i64 = 365 * 86_400 * 1_000_000_000;

/// A host is down for hours; the application rests most of the time, for nobody has to look at what it would write.
pub async fn away(w: &mut World, name: &str) {
    if w.counted("LongAbsence") > 1 {
        return;
    }
    let time = Duration::from_secs(w.chance.between(1_000, 8_000));
    match w.chance.chance(500) {
        true => w.stop(name).await,
        false => w.crash(name, Crash::Power),
    }
    w.note(name, &format!("is away for {time:?}"));
    let app = w.apps.get(RES).cloned();
    if let Some(app) = &app {
        app.rest();
    }
    w.run_for(time).await;
    if let Some(app) = &app {
        app.work();
    }
    w.start_again(name).await;
}

/// The machine of a secondary is gone for good. An empty one gets its name, joins the cluster, and then the resource.
pub async fn replace(w: &mut World, shape: &Shape, name: &str) {
    let shown = |w: &World, host: &str| w.host(host).node().is_some() && w.shows(host, RES);
    let helper = shape
        .names
        .iter()
        .find(|host| *host != name && shown(w, host));
    let Some(helper) = helper.cloned().filter(|_| !w.shows(name, RES)) else {
        return;
    };
    // Whoever joins through a host of another century is caught there with it.
    if w.any_far_ahead_but("") {
        return;
    }
    w.crash(name, Crash::Power);
    w.run_for(Duration::from_millis(w.chance.below(20_000)))
        .await;
    let leave = format!("marsadm leave-resource {RES} --host={name} --force --timeout=20");
    w.type_at(&helper, &leave).await;
    if let Err(error) = w.replace(name).await {
        return w.note(name, &format!("is not replaced: {error}"));
    }
    w.run_for(Duration::from_millis(w.chance.below(20_000)))
        .await;
    let disk = SimHost::disk_path(RES);
    let size = w.host(&helper).fs.bytes(&disk, false, <[u8]>::len);
    w.host(name).fs.make_disk(&disk, size.unwrap_or(0) as u64);
    let join = format!(
        "marsadm join-resource {RES} {} --timeout=30",
        disk.display()
    );
    w.type_at(name, &join).await;
}

/// The clock of a host jumps, far ahead or far back.
pub fn far_clock(w: &mut World, name: &str) {
    // Two hosts in the same wrong century believe each other; only one that is alone there can be told to forget.
    if w.any_far_ahead_but(name) {
        return;
    }
    let years = w.chance.below(YEARS_BACK + YEARS_AHEAD) as i64 - YEARS_BACK as i64;
    w.note(name, &format!("clock jumps by {years} years"));
    w.set_clock(name, years * YEAR_NS);
}

/// Clocks are right again; whoever was far ahead is told to forget what it wrote then.
pub async fn set_clocks_right(w: &mut World, shape: &Shape) {
    for name in &shape.names {
        w.host(name).clock.set_skew_ns(0);
        if !w.was_far_ahead(name) {
            continue;
        }
        w.count("told to forget the future");
        w.stop(name).await;
        w.forget_future(name, true);
        w.start_again(name).await;
        w.forget_future(name, false);
    }
}
