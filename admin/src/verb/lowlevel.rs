//! `lowlevel-*`: addresses of hosts, without any of the usual checks.
//!
//! Manual: "Expert commands".

use crate::args::is_address;
use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Session, refuse};

/// The warning in front of each of them.
fn experts_only(s: &mut Session<'_>) {
    let command = s.command.clone();
    s.warn(format!(
        "EXPERTS ONLY -- risky lowlevel command '{command}'"
    ));
}

/// `lowlevel-ls-host-ips`
pub fn list_ips(s: &mut Session<'_>, _res: &str) -> Step {
    experts_only(s);
    let hosts: Vec<String> = s
        .tree
        .owners("ips/ip-")
        .into_iter()
        .map(str::to_owned)
        .collect();
    for host in hosts {
        let ip = s.text(&format!("ips/ip-{host}"));
        s.say(format!("{host} {ip}"));
    }
    Ok(Progress::Done)
}

/// `lowlevel-set-host-ip HOST [IP]`
pub fn set_ip(s: &mut Session<'_>, _res: &str) -> Step {
    experts_only(s);
    let Some(host) = s.args.first().cloned() else {
        return refuse("lowlevel-set-host-ip needs a host name as argument");
    };
    check::identifier(s, &host)?;
    let key = format!("ips/ip-{host}");
    let old = s.text(&key);
    let new = match s
        .args
        .get(1)
        .cloned()
        .or_else(|| s.options.peer_ips.get(&host).cloned())
    {
        Some(ip) => ip,
        None => s.need(&key)?,
    };
    if !is_address(&new) {
        return refuse(format!("'{new}' is not an IP address"));
    }
    s.set(key, new.as_str());
    s.say(format!("Set host '{host}' IP from '{old}' to '{new}'"));
    Ok(Progress::Done)
}

/// `lowlevel-delete-host HOST`
pub fn delete_host(s: &mut Session<'_>, _res: &str) -> Step {
    experts_only(s);
    let Some(host) = s.args.first().cloned() else {
        return refuse("lowlevel-delete-host needs a host name as argument");
    };
    check::identifier(s, &host)?;
    check::host_is_known(s, &host)?;
    s.delete(format!("ips/ip-{host}"));
    Ok(Progress::Done)
}
