//! Programs of the operator which run before and after a command: `hook-pre`, `hook-pre-<command>`, and everything in `hook-pre.d/`
//! and `hook-pre-<command>.d/`; afterwards the same with `hook-post`. Around lists also `hook-all-pre` and `hook-all-post`.
//!
//! They lie in the directories where macros are looked for, are called with command, resource and further words, and may refuse: a
//! status other than 0 ends the command for that resource, unless forced. Only what belongs to root or to the caller, and nobody
//! else may write, is run. Never runs under `--dry-run` or on a saved tree.
//!
//! Manual: "Hooks".

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::session::{Refusal, Session, refuse};
use crate::verbs::Verb;
use crate::view;

/// Runs the hooks called `base` for one resource (`all` around a list, the empty text where there is none).
pub fn run(s: &mut Session<'_>, verb: &Verb, base: &str, res: &str) -> Result<(), Refusal> {
    if s.options.dry_run || s.daemon.program().is_none() || is_exempt(verb.name) {
        return Ok(());
    }
    for hook in found(&view::search_path(), base, verb.name) {
        match trusted(&hook) {
            Ok(()) => call(s, &hook, res)?,
            Err(why) => s.warn(format!("hook '{}' is not run: {why}", hook.display())),
        }
    }
    Ok(())
}

/// Commands on single keys, for which no resource is looked at.
fn is_exempt(command: &str) -> bool {
    let starts = ["cat", "set-global-", "get-global-", "lowlevel-"];
    let ends = ["-file", "-list", "-link", "-value"];
    starts.iter().any(|start| command.starts_with(start))
        || ends.iter().any(|end| command.ends_with(end))
}

/// All hooks of that name, in the order in which they run.
fn found(dirs: &[PathBuf], base: &str, command: &str) -> Vec<PathBuf> {
    let names = [base.to_owned(), format!("{base}-{command}")];
    let mut hooks = Vec::new();
    for dir in dirs {
        hooks.extend(names.iter().map(|name| dir.join(name)));
        hooks.extend(
            names
                .iter()
                .flat_map(|name| inside(&dir.join(format!("{name}.d")))),
        );
    }
    hooks.retain(|hook| is_executable(hook));
    hooks
}

/// The files of a directory by name, without those an editor has left. A directory that cannot be read has none.
fn inside(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| !file.as_os_str().as_encoded_bytes().ends_with(b"~"));
    files.sort();
    files
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whoever can write a hook can do what the caller can do.
fn trusted(hook: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(hook).map_err(|error| error.to_string())?;
    let caller = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != caller {
        return Err(format!("it belongs to user {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err("others may write it".to_owned());
    }
    Ok(())
}

fn call(s: &mut Session<'_>, hook: &Path, res: &str) -> Result<(), Refusal> {
    let name = hook.display();
    let mut program = Command::new(hook);
    program
        .arg(&s.command)
        .arg(res)
        .args(&s.args)
        .stdin(Stdio::null());
    let failure = match program.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("hook '{name}' ended with {status}"),
        Err(error) => format!("hook '{name}' cannot be run: {error}"),
    };
    s.warn(&failure);
    if s.forced() {
        return Ok(());
    }
    refuse(format!(
        "command '{}' was refused by hook '{name}'",
        s.command
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, name: &str, mode: u32) {
        let file = dir.join(name);
        std::fs::create_dir_all(file.parent().expect("below the directory")).expect("made");
        std::fs::write(&file, "#!/bin/sh\n").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn hooks_run_general_ones_first_and_files_of_editors_never() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in [
            "hook-pre",
            "hook-pre-up",
            "hook-pre-down",
            "hook-pre.d/b",
            "hook-pre.d/a",
            "hook-pre.d/a~",
            "hook-pre-up.d/z",
        ] {
            put(dir.path(), name, 0o700);
        }
        put(dir.path(), "hook-pre.d/plain", 0o600);
        let hooks = found(&[dir.path().to_owned(), "/nosuch".into()], "hook-pre", "up");
        let names: Vec<_> = hooks
            .iter()
            .map(|hook| hook.strip_prefix(dir.path()).expect("inside").to_str())
            .collect();
        let want = [
            "hook-pre",
            "hook-pre-up",
            "hook-pre.d/a",
            "hook-pre.d/b",
            "hook-pre-up.d/z",
        ];
        assert_eq!(names, want.map(Some));
    }

    #[test]
    fn what_others_may_write_is_not_run() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        put(dir.path(), "own", 0o700);
        put(dir.path(), "shared", 0o722);
        assert_eq!(trusted(&dir.path().join("own")), Ok(()));
        assert_eq!(
            trusted(&dir.path().join("shared")),
            Err("others may write it".to_owned())
        );
    }
}
