//! The state directory must belong to whoever runs the daemon, and be readable by nobody else. Repairs that, and says so.
//!
//! Only what is known to be the state directory of a node is touched: `--dir=` and `MARS_DIR` may name anything by mistake.
//!
//! Manual: "Security of /mars".

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// What it should look like.
const MODE: u32 = 0o700;

/// Looks at the directory `dir` and at the control socket in it; answers warnings about what was wrong and what became of it.
/// A directory without a node is left alone.
pub fn repair(dir: &Path) -> Vec<String> {
    let Ok(meta) = std::fs::metadata(dir) else {
        // Whoever needs it says what is missing.
        return Vec::new();
    };
    if !is_of_a_node(dir) {
        return Vec::new();
    }
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

/// Whether `dir` holds what a member of a cluster, or its running daemon, has put there.
fn is_of_a_node(dir: &Path) -> bool {
    let is_socket = |meta: std::fs::Metadata| meta.file_type().is_socket();
    dir.join("pki").is_dir()
        || dir.join("cluster-id").is_file()
        || std::fs::metadata(dir.join("mars.sock")).is_ok_and(is_socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(dir: &Path) -> u32 {
        std::fs::metadata(dir).expect("there").mode() & 0o7777
    }

    fn set_mode(dir: &Path, mode: u32) {
        std::fs::set_permissions(dir, Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn a_directory_without_a_node_is_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("mars.sock"), "no socket").expect("written");
        set_mode(dir.path(), 0o1777);
        assert_eq!(repair(dir.path()), Vec::<String>::new());
        assert_eq!(mode(dir.path()), 0o1777);
    }

    #[test]
    fn what_a_node_has_left_behind_shows_whose_directory_it_is() {
        let check = |make: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            make(dir.path());
            set_mode(dir.path(), 0o750);
            assert_eq!(repair(dir.path()).len(), 2);
            assert_eq!(mode(dir.path()), 0o700);
        };
        check(&|dir| std::fs::create_dir(dir.join("pki")).expect("made"));
        check(&|dir| std::fs::write(dir.join("cluster-id"), "7").expect("written"));
        check(&|dir| {
            std::os::unix::net::UnixListener::bind(dir.join("mars.sock")).expect("bound");
        });
    }

    #[test]
    fn a_directory_open_to_others_is_closed_with_two_warnings_and_then_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("pki")).expect("made");
        set_mode(dir.path(), 0o755);
        let said = repair(dir.path());
        assert_eq!(
            said,
            [
                "/mars has the mode 0755 instead of 0700",
                "/mars has the mode 0700 now"
            ]
        );
        assert_eq!(repair(dir.path()), Vec::<String>::new());
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn what_is_not_there_is_not_repaired() {
        assert_eq!(repair(Path::new("/nosuch/mars")), Vec::<String>::new());
    }
}
