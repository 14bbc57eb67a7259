//! `dump-macros`, `dump-all-macros`: the predefined macros as files in the current directory, to be changed by the operator.
//!
//! An existing file is kept under another name.

use std::io;
use std::path::{Path, PathBuf};

use crate::session::Refusal;
use crate::view;

/// Writes `<name>.tpl` for every macro into `dir`; with `all`, those for primitives, too. Answers how many.
pub fn macros(dir: &Path, all: bool) -> Result<usize, Refusal> {
    let sources = view::macro_sources(all);
    for (name, text) in &sources {
        let file = dir.join(format!("{name}.tpl"));
        keep_old(&file)
            .and_then(|()| std::fs::write(&file, text))
            .map_err(|error| Refusal(format!("cannot write '{}': {error}", file.display())))?;
    }
    Ok(sources.len())
}

fn keep_old(file: &Path) -> io::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let old = |nr: u32| PathBuf::from(format!("{}.old{nr}", file.display()));
    let free = (0..).map(old).find(|path| !path.exists());
    free.map_or(Ok(()), |path| std::fs::rename(file, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumping_twice_keeps_the_first_files_under_another_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let count = macros(dir.path(), false).expect("an empty directory");
        std::fs::write(dir.path().join("default.tpl"), "mine").expect("a file of our own");
        macros(dir.path(), false).expect("a full directory");
        let kept = std::fs::read_to_string(dir.path().join("default.tpl.old0"));
        assert_eq!(kept.ok().as_deref(), Some("mine"));
        assert!(count > 10);
    }
}
