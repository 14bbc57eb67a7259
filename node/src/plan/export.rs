//! When do applications on this host see the device?
//!
//! From the moment the logger runs until the role moves away *and* the last client has left. Never
//! before recovery is complete, because the logger does not run before (invariant 32).
//!
//! Manual: "Primary and Secondary Role"; main-loop reference 4.13.

use super::role::Role;
use super::{Ask, ExportWant, Reason, Want};
use crate::facts::Slot;

/// The export this host should have, or why it should close it.
pub fn want(ask: &Ask<'_>, role: &Role) -> Want<ExportWant> {
    let Some(name) = ask.seen.device() else {
        return Want::Rest(Reason::NotMember);
    };
    match role {
        Role::Primary if runs(ask) => Want::Run(ExportWant {
            name: name.to_owned(),
        }),
        Role::Primary | Role::MayBegin(_) => Want::Rest(Reason::BecomesPrimary),
        Role::NotYetPrimary(reason) => Want::Rest(Reason::NotYetPrimary(Box::new(reason.clone()))),
        Role::Secondary(reason) | Role::Leaving(reason) => Want::Rest(reason.clone()),
    }
}

/// Does somebody take the writes? A logger that ends while the device stays is followed by the bypass.
fn runs(ask: &Ask<'_>) -> bool {
    let stays = ask.own.export.is_some_and(|export| !export.closing);
    match ask.own.logger {
        Slot::Busy { stopping, .. } => stays || !stopping,
        Slot::Empty { .. } => ask.own.bypassing || (ask.own.held && stays),
    }
}
