//! The device of a resource is at one place only, unless somebody has typed `primary --force` (invariant 31). What is
//! written at two places after that must be two histories: the application checks this (`app.rs`).

use crate::world::World;

/// Counts the hosts that show the device.
///
/// # Errors
/// Two of them, and nobody has forced anything.
pub fn look(w: &World) -> Result<(), String> {
    if w.was_forced() {
        return Ok(());
    }
    for res in w.apps.keys() {
        let shown = w.hosts.keys().filter(|name| w.shows(name, res));
        let shown: Vec<&str> = shown.map(String::as_str).collect();
        if shown.len() > 1 {
            return Err(format!(
                "the device {res} is at {} at once, and nothing was forced (31)",
                shown.join(" and ")
            ));
        }
    }
    Ok(())
}
