//! Limits and features: what is stored for the daemon, per host, per resource or for the cluster.
//!
//! Manual: "Tuning", "Compression and Checksums".

use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, of, refuse, shown};

/// Names of the feature flags, by bit.
pub const FEATURES: &[(u32, &str)] = &[
    (0x0001_0000, "CHKSUM_MD5_OLD"),
    (0x0002_0000, "CHKSUM_MD5"),
    (0x0004_0000, "CHKSUM_CRC32C"),
    (0x0008_0000, "CHKSUM_CRC32"),
    (0x0010_0000, "CHKSUM_SHA1"),
    (0x0100_0000, "COMPRESS_LZO"),
    (0x0200_0000, "COMPRESS_LZ4"),
    (0x0400_0000, "COMPRESS_ZLIB"),
];

/// `set-emergency-limit RESOURCE PERCENT`
pub fn set_emergency_limit(s: &mut Session<'_>, res: &str) -> Step {
    let limit = match s.args.first().map(|word| word.parse::<u64>()) {
        Some(Ok(limit)) if limit <= 100 => limit,
        _ => return refuse("the emergency limit must be an integer between 0 and 100 (percent)"),
    };
    let host = s.host.clone();
    s.set(
        of(res, format!("todo-{host}/emergency-limit")),
        limit.to_string(),
    );
    Ok(Progress::Done)
}

/// `get-emergency-limit RESOURCE`
pub fn get_emergency_limit(s: &mut Session<'_>, res: &str) -> Step {
    let limit = s.need(&of(res, format!("todo-{}/emergency-limit", s.host)))?;
    s.say(limit);
    Ok(Progress::Done)
}

/// `set-global-sync-limit-value N`: how many syncs this host runs at once.
pub fn set_sync_limit(s: &mut Session<'_>, _res: &str) -> Step {
    if s.command == "set-sync-limit-value" {
        old_syntax(s);
    }
    let value = s.args.first().cloned().unwrap_or_default();
    let host = s.host.clone();
    s.set(format!("defaults-{host}/sync-limit"), value);
    Ok(Progress::Done)
}

/// `get-global-sync-limit-value`
pub fn get_sync_limit(s: &mut Session<'_>, _res: &str) -> Step {
    if s.command == "get-sync-limit-value" {
        old_syntax(s);
    }
    let value = s.need(&format!("defaults-{}/sync-limit", s.host))?;
    s.say(value);
    Ok(Progress::Done)
}

fn old_syntax(s: &mut Session<'_>) {
    let command = s.command.clone();
    s.warn(format!(
        "The old syntax '{command}' is deprecated - please use the new syntax {{get,set}}-global-*"
    ));
}

/// `set-global-enabled-log-compressions NAMES` and its three sisters.
pub fn set_features(s: &mut Session<'_>, _res: &str) -> Step {
    let name = s.command.trim_start_matches("set-global-").to_owned();
    let names = s.args.first().cloned().unwrap_or_default();
    let key = format!("defaults/{name}");
    if names.is_empty() {
        s.say(format!("Delete '{}'", shown(&key)));
        s.delete(key);
        return Ok(Progress::Done);
    }
    let mask = format!("0x{:08x}", feature_mask(&names, name.ends_with("digests"))?);
    s.say(format!("Set '{}' to '{mask}'", shown(&key)));
    s.set(key, mask);
    Ok(Progress::Done)
}

fn feature_mask(names: &str, digests: bool) -> Result<u32, Refusal> {
    let mut mask = 0;
    for name in names.split('|') {
        if let Some(bits) = number(name) {
            mask |= bits;
            continue;
        }
        if digests && !name.starts_with("CHKSUM") {
            return refuse("Digest names must start with 'CHKSUM_'");
        }
        match FEATURES.iter().find(|(_, known)| *known == name) {
            Some((bit, _)) => mask |= bit,
            None => return refuse(format!("Unknown symbolic feature flag '{name}'")),
        }
    }
    Ok(mask)
}

/// Decimal, `0x…`, or octal with a leading zero.
fn number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// `set-connect-pref-list RESOURCE HOST,HOST`
pub fn set_connect_list(s: &mut Session<'_>, res: &str) -> Step {
    deprecated(s);
    let list = s.args.first().cloned().unwrap_or_default();
    let key = of(res, format!("connect-{}", s.host));
    if list.is_empty() {
        s.delete(key);
        return Ok(Progress::Done);
    }
    for host in list.split(',') {
        check::identifier(s, host)?;
        check::host_is_known(s, host)?;
    }
    s.set(key, list);
    Ok(Progress::Done)
}

/// `get-connect-pref-list RESOURCE`
pub fn get_connect_list(s: &mut Session<'_>, res: &str) -> Step {
    deprecated(s);
    let list = s.text(&of(res, format!("connect-{}", s.host)));
    s.say(list);
    Ok(Progress::Done)
}

fn deprecated(s: &mut Session<'_>) {
    let command = s.command.clone();
    s.warn(format!("'{command}' is deprecated"));
}
