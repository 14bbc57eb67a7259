//! What every command checks of a resource before its first step: does it exist, is this host a member, are the
//! replicas of one history?
//!
//! Manual: "Resource names"; `reference` of the per-resource gate in the verb table ([`crate::verbs::Gate`]).

use crate::output::Output;
use crate::ping::{self, Scope};
use crate::session::{Refusal, Session, of, refuse};
use crate::split_brain;
use crate::verbs::{Gate, Verb};
use crate::view;

/// Checks one resource. `Some(name)` when the operator named a device and another name is meant.
pub fn pass(s: &mut Session<'_>, verb: &Verb, name: &str) -> Result<Option<String>, Refusal> {
    if name.is_empty() || verb.gate == Gate::None {
        return Ok(None);
    }
    if matches!(verb.gate, Gate::Exists | Gate::Member)
        && !s.tree.dir_exists(&format!("resource-{name}"))
    {
        return find_by_device(s, name).map(Some);
    }
    if verb.gate == Gate::Member {
        must_be_member(s, name)?;
        must_be_large_enough(s, name)?;
    }
    report_split_brain(s, name);
    Ok(None)
}

/// The line in front of each resource of a list.
pub fn announce(s: &mut Session<'_>, name: &str) {
    let is_member = s.tree.live(&of(name, format!("data-{}", s.host))).is_some();
    let kind = if is_member { "resource" } else { "guest" };
    let text = view::default_resource(&s.tree, name, &s.options);
    s.say(format!("--------- {kind} {}", text.trim_end()));
}

/// No such resource, unless exactly one has a device of that name here.
fn find_by_device(s: &mut Session<'_>, name: &str) -> Result<String, Refusal> {
    ping::peers(s, Scope::Mentioned, "*")?;
    if s.tree.dir_exists(&format!("resource-{name}")) {
        return Ok(name.to_owned());
    }
    let host = s.host.clone();
    let has_device = |res: &&str| s.tree.live(&of(res, format!("device-{host}"))) == Some(name);
    let found: Vec<String> = s
        .tree
        .resources()
        .into_iter()
        .filter(has_device)
        .map(str::to_owned)
        .collect();
    match &found[..] {
        [res] => {
            s.warn(format!(
                "substituting bad resource name '{name}' by uniquely matching resource name '{res}'"
            ));
            Ok(res.clone())
        }
        _ => refuse(format!("resource '{name}' does not exist")),
    }
}

fn must_be_member(s: &mut Session<'_>, name: &str) -> Result<(), Refusal> {
    let host = s.host.clone();
    let has =
        |s: &Session<'_>, key: &str| s.tree.live(&of(name, format!("{key}-{host}"))).is_some();
    if has(s, "data") || has(s, "device") {
        return Ok(());
    }
    if has(s, "replay") {
        s.warn(format!(
            "Sorry, resource '{name}' has been left by this host, but not yet completely"
        ));
    } else {
        s.warn(format!("Sorry, I have not yet joined to resource '{name}'"));
    }
    s.refuse_unless_forced(format!("Refusing work on resource name '{name}'"))
}

fn must_be_large_enough(s: &mut Session<'_>, name: &str) -> Result<(), Refusal> {
    let (disk, size) = (
        s.tree.number(&of(name, format!("actsize-{}", s.host))),
        s.tree.number(&of(name, "size")),
    );
    match (disk, size) {
        (Some(disk), Some(size)) if disk < size => {
            s.warn(format!(
                "underlying disk of resource '{name}' has only {disk} bytes instead of {size}"
            ));
            s.refuse_unless_forced(format!("underlying disk of resource '{name}' is too small"))
        }
        _ => Ok(()),
    }
}

fn report_split_brain(s: &mut Session<'_>, name: &str) {
    if let Some(found) = split_brain::find(&s.tree, name) {
        let mut said = Output::default();
        split_brain::report(&s.tree, name, &found, s.options.window, &mut said);
        s.pass_on(&said);
    }
}
