//! The device of a resource is at one place only, unless somebody has typed `primary --force` (invariant 31). What is
//! written at two places after that must be two histories: the application checks this (`app.rs`).

use crate::world::World;

/// Counts the hosts that show the device.
///
/// # Errors
/// Two of them, and nobody has forced anything.
pub fn look(w: &World) -> Result<(), String> {
    for res in w.apps.keys() {
        let shown = w.hosts.keys().filter(|name| w.shows(name, res));
        judge(
            res,
            &shown.map(String::as_str).collect::<Vec<_>>(),
            w.was_forced(),
        )?;
    }
    Ok(())
}

fn judge(res: &str, shown: &[&str], was_forced: bool) -> Result<(), String> {
    if shown.len() <= 1 || was_forced {
        return Ok(());
    }
    Err(format!(
        "the device {res} is at {} at once, and nothing was forced (31)",
        shown.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_force_may_show_a_device_twice() {
        assert_eq!(judge("data", &["alpha"], false), Ok(()));
        assert!(judge("data", &["alpha", "beta"], false).is_err());
        assert_eq!(judge("data", &["alpha", "beta"], true), Ok(()));
    }
}
