//! The state directory must belong to whoever runs the daemon, and be readable by nobody else. Repairs that, and says so.
//!
//! Manual: "Security of /mars".

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// What it should look like.
const MODE: u32 = 0o700;

/// Looks at the directory `dir` and at the control socket in it; answers warnings about what was wrong and what became of it.
pub fn repair(dir: &Path) -> Vec<String> {
    let Ok(meta) = std::fs::metadata(dir) else {
        // Whoever needs it says what is missing.
        return Vec::new();
    };
    let mut said = Vec::new();
    let owner = std::fs::metadata(dir.join("mars.sock")).map_or(meta.uid(), |socket| socket.uid());
    if meta.uid() != owner {
        said.push(format!(
            "/mars belongs to user {} instead of {owner}",
            meta.uid()
        ));
        said.push(match chown(dir, Some(owner), None) {
            Ok(()) => format!("/mars belongs to user {owner} now"),
            Err(error) => format!("the owner of /mars cannot be changed: {error}"),
        });
    }
    let mode = meta.mode() & 0o7777;
    if mode != MODE {
        said.push(format!(
            "/mars has the mode {mode:04o} instead of {MODE:04o}"
        ));
        said.push(
            match std::fs::set_permissions(dir, Permissions::from_mode(MODE)) {
                Ok(()) => format!("/mars has the mode {MODE:04o} now"),
                Err(error) => format!("the mode of /mars cannot be changed: {error}"),
            },
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_open_to_others_is_closed_with_two_warnings_and_then_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("set");
        let said = repair(dir.path());
        assert_eq!(
            said,
            [
                "/mars has the mode 0755 instead of 0700",
                "/mars has the mode 0700 now"
            ]
        );
        assert_eq!(repair(dir.path()), Vec::<String>::new());
        assert_eq!(
            std::fs::metadata(dir.path()).expect("there").mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn what_is_not_there_is_not_repaired() {
        assert_eq!(repair(Path::new("/nosuch/mars")), Vec::<String>::new());
    }
}
