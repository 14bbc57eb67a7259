//! The reading words of earlier times: `role`, `state`, `show-state`, `mars-state`, `show-info`, `show`, `show-errors`.
//!
//! They print fixed texts instead of running macros. Manual: "Deprecated commands".

use super::amount::number;
use super::world::{Res, World};
use crate::output::Output;
use crate::snapshot::Snapshot;

/// Whether [`run_legacy`] knows the command.
pub fn is_legacy(command: &str) -> bool {
    matches!(
        command,
        "role"
            | "state"
            | "show-state"
            | "mars-state"
            | "show-info"
            | "mars-info"
            | "show"
            | "show-errors"
    )
}

/// Runs one of them for a resource (for `show` also `all`), about `host` instead of the acting one if given.
pub fn run_legacy(tree: &Snapshot, command: &str, res: &str, host: Option<&str>) -> Output {
    let world = World::new(tree);
    let host = host.unwrap_or(&tree.host);
    let stdout = match command {
        "role" | "state" => role(&world.res(res), host),
        "show-state" | "mars-state" => state(&world.res(res), host),
        "show-info" | "mars-info" => info(&world.res(res), host),
        "show" => show(&world, res, host),
        _ => "no errors/warnings are reported.\n".to_owned(),
    };
    Output {
        stdout,
        ..Output::default()
    }
}

fn role(res: &Res<'_>, host: &str) -> String {
    let actual = if res.actual(host, "is-primary") {
        "primary"
    } else {
        "secondary"
    };
    let designated = res.designated();
    if designated == host {
        format!("I am actually {actual}\n")
    } else {
        format!("I am actually {actual} and {designated} should be primary\n")
    }
}

fn state(res: &Res<'_>, host: &str) -> String {
    let designated = res.designated();
    if res.actual(host, "is-primary") {
        return "is_primary\n".to_owned();
    }
    if designated == host {
        return "becoming_primary\n".to_owned();
    }
    let size = number(res.text("size"));
    let synced = number(res.text(&format!("syncstatus-{host}")));
    if synced < size {
        return format!("secondary inconsistent ({synced} bytes of {size})\n");
    }
    let own = res.text(&format!("replay-{host}"));
    let goal = res.text(&format!("replay-{designated}"));
    if goal.is_empty() {
        "secondary\n".to_owned()
    } else if own == goal {
        "secondary uptodate\n".to_owned()
    } else {
        format!("secondary outdated ({own} instead of {goal})\n")
    }
}

fn info(res: &Res<'_>, host: &str) -> String {
    let text = res.text(&format!("logstatus-{host}.status"));
    let text = text.strip_prefix("text:").unwrap_or(text);
    let (text, _) = super::parse::without_escapes(text);
    super::with_newline(&text)
}

fn show(world: &World<'_>, res: &str, host: &str) -> String {
    let mut lines = Vec::new();
    let mut add = |key: String, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{key}={value}\n"));
        }
    };
    let address = format!("ips/ip-{host}");
    let value = world.text(&address);
    add(address, value);
    let names: Vec<&str> = match res {
        "" | "all" => world.resource_names().to_vec(),
        one => vec![one],
    };
    for name in names {
        let res = world.res(name);
        let own = ["actsize", "syncstatus", "replay"].map(|key| format!("{key}-{host}"));
        for key in ["primary".to_owned(), "size".to_owned()]
            .into_iter()
            .chain(own)
        {
            add(format!("resource-{name}/{key}"), res.text(&key));
        }
        for dir in [format!("actual-{host}/"), format!("todo-{host}/")] {
            for (key, item) in res.live_with_prefix(&dir) {
                add(format!("resource-{name}/{dir}{key}"), &item.value);
            }
        }
    }
    lines.concat()
}
