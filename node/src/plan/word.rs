//! Under whose designation does a host not write, and may it say the same of another one?
//!
//! What a host publishes as `knows-primary` is its word not to write under a designation. The host that is named there may
//! begin on it, and may have begun long before anybody hears of that. So a word that was given stands: a host gives
//! it to another one only once the host it was given to has given its own word for the new designation, or is
//! known to write under it, or has left the resource. Only force passes by this.
//!
//! Manual: "Switching Primary / Secondary Roles"; invariants 30 and 31.

use tree::key;
use tree::{Host, Key};

use super::Ask;

/// What `knows-primary` of this host should say; `writes`: it is primary.
pub fn own(ask: &Ask<'_>, writes: bool) -> String {
    let held = ask.seen.member(ask.seen.here).text(Key::KnowsPrimary);
    match ask.seen.designation() {
        Some(_) if binding(ask).is_some() && !writes => held.unwrap_or_default().to_owned(),
        Some(now) if !writes => now,
        _ => "0".to_owned(),
    }
}

/// The host whose turn it still may be by the word this host has given.
pub fn binding(ask: &Ask<'_>) -> Option<Host> {
    let seen = &ask.seen;
    let held = seen.member(seen.here).text(Key::KnowsPrimary)?;
    let (_, name) = held.rsplit_once(',')?;
    let given_to = Host::new(name).ok()?;
    let now = seen.designated_primary();
    let is_over = given_to == *seen.here
        || now.as_ref() == Some(&given_to)
        || !seen.is_member(&given_to)
        || seen.knows_primary(&given_to)
        || now.is_some_and(|now| has_begun(ask, &now));
    (!is_over).then_some(given_to)
}

/// Does `host` write under the designation in force? Then it has the turn, by whatever means.
fn has_begun(ask: &Ask<'_>, host: &Host) -> bool {
    let seen = &ask.seen;
    let stamp = |path: &tree::Path| seen.tree.get(path).map(|entry| entry.stamp.clone());
    let said = stamp(&key::of_member(Key::IsPrimary, seen.res, host));
    seen.is_actual_primary(host) && said > stamp(&key::primary(seen.res))
}
