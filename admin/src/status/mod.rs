//! `mars-status`: the state of a node and its cluster at a glance, reading only.
//!
//! ```text
//! snapshot ─ report (numbers and remarks) ─┬─ render, tree_text, bars, system, debug ─→ text
//!                                          └─→ JSON
//! ```
//!
//! Manual: "mars-status".

mod bars;
mod debug;
mod environment;
mod history;
mod main;
mod options;
mod paint;
mod render;
mod report;
mod system;
mod tree_text;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;

pub use environment::Environment;
pub use main::main;
pub use options::{OptionError, StatusOptions, USAGE};
pub use paint::Paint;
pub use report::{Note, Report, Tag};

use crate::check::TREE_VERSION;
use crate::output::Output;
use crate::snapshot::Snapshot;
use crate::verb::logs::MARSADM_VERSION;
use crate::view::status_api::World;
use render::Versions;

/// The limit below which a host stops, when the daemon does not tell it: 2 GiB in KiB.
const SPACE_LIMIT_KIB: u64 = 2 << 20;

/// One report.
pub fn run(
    tree: &Snapshot,
    options: &StatusOptions,
    env: &Environment,
    zone: &TimeZone,
    paint: Paint,
) -> Output {
    let mut out = Output::default();
    let versions = versions(tree, env);
    if options.version {
        out.stdout = render::header(&tree.host, &versions, options, paint);
        return out;
    }
    let names = match selected(tree, options) {
        Ok(names) => names,
        Err(reason) => {
            out.fatal(&reason);
            return out;
        }
    };
    if let Some(problem) = unusable(tree) {
        out.stdout = if options.json {
            let said = serde_json::json!({ "host": tree.host, "error": problem.trim_end() });
            format!("{said}\n")
        } else {
            render::header(&tree.host, &versions, options, paint) + &problem
        };
        out.exit = 1;
        return out;
    }
    let report = Report::new(tree, env, &names);
    if options.json {
        match serde_json::to_string_pretty(&with_blocks(tree, options, env, zone, &report)) {
            Ok(text) => out.stdout = text + "\n",
            Err(error) => out.fatal(&format!("cannot write JSON: {error}")),
        }
    } else {
        out.stdout = render::header(&tree.host, &versions, options, paint);
        out.stdout
            .push_str(&body(tree, options, env, zone, paint, &report));
    }
    out
}

/// The report, and the blocks which were asked for besides.
#[derive(Serialize)]
struct WithBlocks<'r> {
    #[serde(flatten)]
    report: &'r Report,
    /// Operating parameters by name (`--system`).
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<BTreeMap<String, f64>>,
    /// Messages of the host (the empty name) and of every resource (`--debug`).
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<BTreeMap<String, Vec<String>>>,
}

fn with_blocks<'r>(
    tree: &Snapshot,
    options: &StatusOptions,
    env: &Environment,
    zone: &TimeZone,
    report: &'r Report,
) -> WithBlocks<'r> {
    let world = World::new(tree);
    let names = report.resources.iter().map(|res| res.name.as_str());
    let messages = || {
        let of = |name: &str| (name.to_owned(), debug::messages(&world, name, zone));
        names.chain([""]).map(of).collect()
    };
    WithBlocks {
        report,
        system: options
            .system
            .then(|| system::with_tree(&world, env).parameters),
        messages: options.debug.then(messages),
    }
}

fn versions(tree: &Snapshot, env: &Environment) -> Versions {
    let module = tree.text(&format!("actual-{}/buildtag", tree.host));
    let or_unknown = |text: &str| if text.is_empty() { "unknown" } else { text }.to_owned();
    Versions {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        admin: format!("marsadm Version: {MARSADM_VERSION}"),
        module: or_unknown(module),
        kernel: or_unknown(env.kernel.as_deref().unwrap_or("")),
    }
}

/// The resources to report, in natural order.
fn selected(tree: &Snapshot, options: &StatusOptions) -> Result<Vec<String>, String> {
    match &options.resource {
        None => {
            let world = World::new(tree);
            let names = world.resource_names();
            Ok(names.iter().map(|name| (*name).to_owned()).collect())
        }
        Some(name) if tree.dir_exists(&format!("resource-{name}")) => Ok(vec![name.clone()]),
        Some(name) => Err(format!("resource '{name}' does not exist")),
    }
}

/// What keeps the tree from being reported at all.
fn unusable(tree: &Snapshot) -> Option<String> {
    if !tree.daemon_runs {
        return Some("Module Mars not running\n".to_owned());
    }
    let version = tree.text(&format!("actual-{}/tree", tree.host));
    (!version.is_empty() && version != TREE_VERSION)
        .then(|| "*** Sorry, unknown Tree-Version of Mars unknown\n".to_owned())
}

/// Everything below the header.
fn body(
    tree: &Snapshot,
    options: &StatusOptions,
    env: &Environment,
    zone: &TimeZone,
    paint: Paint,
    report: &Report,
) -> String {
    let world = World::new(tree);
    let mut text = String::new();
    if options.system {
        text.push_str(&system::block(&world, env));
    }
    let limit = env.parameter("required_free_space_mb");
    let limit = limit.map_or(SPACE_LIMIT_KIB, |mib| (mib * 1024.0) as u64);
    text.push_str(&render::cluster(&report.cluster, limit, paint));
    text.push_str(&render::resources_heading(report, paint));
    for resource in &report.resources {
        text.push_str(&render::resource(resource, paint));
        if options.history {
            let versions = &resource.history;
            text.push_str(&tree_text::history(versions, options.ascii, zone, paint));
        }
        if options.status {
            text.push_str(&bars::bars(&world, &resource.name));
        }
        if options.debug {
            text.push_str(&debug::of_resource(&world, env, &resource.name, zone));
        }
        text.push_str(&render::modus(resource, paint));
    }
    if options.debug {
        text.push_str(&debug::of_host(&world, zone));
    }
    text
}
