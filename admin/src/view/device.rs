//! State primitives about the underlying disk, the device made of it, and their sizes.
//!
//! Sizes are bytes, errors are error numbers (0 for none), rates are per second.
//!
//! Manual: "The State of MARS", "Predefined Primitive Macros".

use super::amount::{ReplayValue, number};
use super::eval::{Eval, Stop};
use super::number::Num;
use super::state::{actual_number, actual_text, flag, host_arg};
use super::world::{Read, is_true};

type Text = Result<String, Stop>;

/// `data-<host>`.
pub fn get_disk(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval
        .res()
        .text(&format!("data-{}", eval.var("host")))
        .to_owned())
}

/// `/dev/mars/<name>`.
pub fn get_device(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let host = eval.host();
    Ok(device_path(eval, &host))
}

/// The device of `host`; without a name of its own it is called as the resource.
fn device_path(eval: &mut Eval<'_>, host: &str) -> String {
    let res = eval.res();
    let key = format!("device-{host}");
    let name = match res.read(&key) {
        Read::Live(name) => name,
        Read::Deleted => res.name.as_str(),
        Read::Missing => {
            eval.warn(&format!(
                "cannot read symlink '/mars/resource-{}/{key}'",
                res.name
            ));
            res.name.as_str()
        }
    };
    if name.is_empty() {
        String::new()
    } else {
        format!("/dev/mars/{name}")
    }
}

/// The underlying disk is set and the daemon has not failed to find it.
pub fn disk_present(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let (res, host) = (eval.res(), eval.var("host"));
    let named = res.has(&format!("data-{host}"));
    let lost = !res.actual(host, "is-attached")
        && is_not_there(res.text(&format!("actual-{host}/disk-error")));
    Ok(flag(named && !lost))
}

/// Errors which mean that a disk does not exist: ENOENT, ENXIO, ENODEV.
fn is_not_there(error: &str) -> bool {
    matches!(error, "-2" | "-6" | "-19")
}

/// The device is there, as the host reports.
pub fn device_present(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let host = host_arg(eval, args, 0);
    Ok(flag(has_device(eval, &host)))
}

/// Whether the device of `host` is there, as that host reports; says so when it does not report anything.
pub fn has_device(eval: &mut Eval<'_>, host: &str) -> bool {
    let res = eval.res();
    let newer = format!("actual-{host}/if-on");
    let older = format!("actual-{host}/device-{host}");
    let key = if res.stamp(&older) > res.stamp(&newer) {
        older
    } else {
        newer
    };
    if res.has(&key) {
        return is_true(res.text(&key));
    }
    let device = device_path(eval, host);
    if host == eval.var("real_host") {
        eval.warn(&format!(
            "Unexpected fallback to local device detection {device} for {host}"
        ));
        eval.warn(&format!(
            "Unexpected fallback result: device '{device}' is NOT locally present"
        ));
    } else {
        eval.warn(&format!(
            "presence of device '{device}' on host '{host}' is unknown"
        ));
    }
    false
}

/// Error number of the disk.
pub fn disk_error(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(actual_number(eval, "disk-error"))
}

/// Error number of the device.
pub fn device_error(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(actual_number(eval, "if-state"))
}

/// Open count.
pub fn device_opened(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(actual_number(eval, "open-count"))
}

/// Requests in flight.
pub fn device_flying(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(actual_number(eval, "if-flying"))
}

/// Time of the last completion, as stored; `0` when there was none.
pub fn completion_stamp(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let stamp = actual_text(eval, "if-completion-stamp");
    Ok(if stamp.is_empty() {
        "0".to_owned()
    } else {
        stamp
    })
}

/// Seconds since the last completion; 0 when there was none.
pub fn completion_age(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let stamp = actual_text(eval, "if-completion-stamp").parse().ok();
    let age = stamp.map_or(0.0, |stamp| eval.world.age(stamp));
    Ok(Num::from_float(age).to_string())
}

/// Requests per second at the device.
pub fn device_ops(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(actual_number(eval, "ops-if_rate"))
}

/// Bytes per second at the device; the key holds KiB.
pub fn device_amount(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let kib = Num::parse(&actual_text(eval, "amount-if_rate"));
    Ok(kib.mul(Num::Int(1024)).to_string())
}

/// What is asked about the mount of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPart {
    /// Is it mounted?
    Mounted,
    /// Where.
    Path,
    /// With which file system.
    FsType,
    /// With which options.
    Flags,
}

/// Whether and how the device is mounted on this host; empty when it is not, or another host is asked about.
pub fn mount_of_device(eval: &Eval<'_>, part: MountPart) -> String {
    let host = eval.var("host");
    let device = format!("/dev/mars/{}", eval.res().text(&format!("device-{host}")));
    let local = host == eval.var("real_host");
    let found = eval
        .here
        .mounts
        .iter()
        .find(|mount| local && mount.device == device);
    found.map_or(String::new(), |mount| match part {
        MountPart::Mounted => flag(true),
        MountPart::Path => mount.path.clone(),
        MountPart::FsType => mount.fstype.clone(),
        MountPart::Flags => mount.flags.clone(),
    })
}

/// `actsize-<host>`.
pub fn disk_size(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let host = host_arg(eval, args, 0);
    Ok(number(eval.res().text(&format!("actsize-{host}"))).to_string())
}

/// `size`.
pub fn resource_size(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(number(eval.res().text("size")).to_string())
}

/// The smallest disk among those that belong to a replica.
pub fn possible_size(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let res = eval.res();
    let mut smallest: Option<u64> = None;
    for (host, item) in res.live_with_prefix("actsize-") {
        if res.has(&format!("data-{host}")) {
            let size = number(&item.value);
            smallest = Some(smallest.map_or(size, |old| old.min(size)));
        } else {
            eval.warn(&format!(
                "stray key '/mars/resource-{}/actsize-{host}': host '{host}' has no disk there",
                res.name
            ));
        }
    }
    Ok(smallest.unwrap_or(0).to_string())
}

/// Bytes of logs that every member has replayed.
pub fn deletable_size(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let res = eval.res();
    let limit = res
        .live_with_prefix("replay-")
        .filter_map(|(_, item)| ReplayValue::parse(&item.value))
        .map(|replay| replay.nr)
        .min();
    Ok(res.logs().below(limit.unwrap_or(0)).to_string())
}

/// Bytes of all logs held here.
pub fn occupied_size(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval.res().logs().occupied().to_string())
}
