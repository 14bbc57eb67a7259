//! Words of earlier times: what DRBD users type, and listings from before `view`.
//!
//! Manual: "Old commands".

use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Session, of, refuse};
use crate::wait;

/// Words which mean nothing here and do no harm.
pub fn ignore(s: &mut Session<'_>, res: &str) -> Step {
    let command = s.command.clone();
    s.say(format!("ignoring command '{command}' on resource '{res}'"));
    Ok(Progress::Done)
}

/// Words which make no sense here.
pub fn senseless(s: &mut Session<'_>, res: &str) -> Step {
    let command = s.command.clone();
    s.say(format!(
        "command '{command}' makes no sense with MARS (ignoring on resource '{res}')"
    ));
    Ok(Progress::Done)
}

/// Words which would do harm.
pub fn forbidden(s: &mut Session<'_>, res: &str) -> Step {
    refuse(format!(
        "command '{}' on resource '{res}' is forbidden",
        s.command
    ))
}

/// Words nobody has made true.
pub fn not_implemented(s: &mut Session<'_>, res: &str) -> Step {
    refuse(format!(
        "command '{}'  on resource '{res}' is not yet implemented",
        s.command
    ))
}

/// `role`, `state`
pub fn role(s: &mut Session<'_>, res: &str) -> Step {
    let host = asked_host(s);
    let role = if check::is_actual_primary(&s.tree, res, &host) {
        "primary"
    } else {
        "secondary"
    };
    match check::designated(&s.tree, res) {
        Some(other) if other != host => s.say(format!(
            "I am actually {role} and {other} should be primary"
        )),
        _ => s.say(format!("I am actually {role}")),
    }
    Ok(Progress::Done)
}

fn asked_host(s: &Session<'_>) -> String {
    s.args.first().cloned().unwrap_or_else(|| s.host.clone())
}

/// `show-state`, `mars-state`
pub fn state(s: &mut Session<'_>, res: &str) -> Step {
    let host = asked_host(s);
    let line = state_line(s, res, &host);
    s.say(line);
    Ok(Progress::Done)
}

fn state_line(s: &Session<'_>, res: &str, host: &str) -> String {
    let primary = check::designated(&s.tree, res);
    if check::is_actual_primary(&s.tree, res, host) {
        return "is_primary".to_owned();
    }
    if primary.as_deref() == Some(host) {
        return "becoming_primary".to_owned();
    }
    let size = s.tree.number(&of(res, "size")).unwrap_or(0);
    let done = s
        .tree
        .number(&of(res, format!("syncstatus-{host}")))
        .unwrap_or(0);
    if done < size {
        return format!("secondary inconsistent ({done} bytes of {size})");
    }
    let Some(primary) = primary else {
        return "secondary".to_owned();
    };
    let replay = |host: &str| s.text(&of(res, format!("replay-{host}")));
    let (own, theirs) = (replay(host), replay(&primary));
    if own == theirs {
        "secondary uptodate".to_owned()
    } else {
        format!("secondary outdated ({own} instead of {theirs})")
    }
}

/// `show`
pub fn show(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    let mut keys = vec![format!("ips/ip-{host}")];
    if !res.is_empty() {
        keys.extend([of(res, "primary"), of(res, "size")]);
        keys.extend(
            ["actsize", "syncstatus", "replay"].map(|key| of(res, format!("{key}-{host}"))),
        );
        for dir in ["actual", "todo"] {
            let below = s.tree.below(&of(res, format!("{dir}-{host}")));
            keys.extend(below.map(|(path, _)| path.to_owned()));
        }
    }
    for key in keys {
        if let Some(value) = s.tree.live(&key) {
            let line = format!("{key}={value}");
            s.say(line);
        }
    }
    Ok(Progress::Done)
}

/// `show-errors`: the messages of this host that say more than `OK`.
pub fn show_errors(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    let messages: Vec<String> = s
        .tree
        .with_prefix(&of(res, format!("actual-{host}/msg-")))
        .filter(|(path, item)| item.is_live() && item.value != "OK" && !path.contains("/msg-inf-"))
        .map(|(path, item)| format!("{path}={}", item.value))
        .collect();
    if messages.is_empty() {
        s.say("no errors/warnings are reported.");
    }
    for line in messages {
        s.say(line);
    }
    Ok(Progress::Done)
}

/// `show-info`, `mars-info`
pub fn info(s: &mut Session<'_>, res: &str) -> Step {
    let key = of(res, format!("logstatus-{}.status", s.host));
    if let Some(text) = s.tree.live(&key) {
        let text = text
            .strip_prefix("text:")
            .unwrap_or(text)
            .replace("\\n", "\n");
        for line in text.lines() {
            s.say(line);
        }
    }
    let device = wait::device_path(s, res);
    s.say_verbose(1, format!("device='{device}'"));
    Ok(Progress::Done)
}
