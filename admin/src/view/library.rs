//! Where macros come from: files of the operator, then the predefined ones.
//!
//! `<name>.tpl` in one of the directories of the search path wins over a predefined macro of that name. The current
//! directory is not searched: who stands in a foreign directory must not run foreign macros as root.
//!
//! Manual: "The Macro Processor" (lookup), "Creating your own Macros".

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::builtin;
use super::parse::{Template, without_comments};
use super::primitive;

/// A macro, ready to run.
#[derive(Debug)]
pub struct Macro {
    /// Its name, which `%{0}` gives.
    pub name: String,
    /// Its text without comments.
    pub source: String,
    /// The same, parsed.
    pub template: Template,
}

impl Macro {
    /// As operators write it: comments go first, then `\n` becomes a newline.
    pub fn typed(name: &str, source: &str) -> Macro {
        let source = without_comments(source).replace("\\n", "\n");
        Macro {
            name: name.to_owned(),
            template: Template::parse(&source),
            source,
        }
    }

    /// Removes comments and parses.
    pub fn new(name: &str, source: &str) -> Macro {
        let source = without_comments(source);
        Macro {
            name: name.to_owned(),
            template: Template::parse(&source),
            source,
        }
    }
}

/// All macros there are; each is parsed once.
pub struct Library {
    /// Files of the operator by macro name.
    files: BTreeMap<String, PathBuf>,
    parsed: RefCell<BTreeMap<String, Option<Rc<Macro>>>>,
}

impl Library {
    /// Looks which macro files lie in `dirs`; the first directory that has a name wins.
    pub fn new(dirs: &[PathBuf]) -> Library {
        let mut files = BTreeMap::new();
        for dir in dirs {
            for (name, path) in macro_files(dir) {
                files.entry(name).or_insert(path);
            }
        }
        Library {
            files,
            parsed: RefCell::default(),
        }
    }

    /// Whether the operator has macros.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// An own or predefined macro. Says on `stderr` when an own one takes the place of a predefined one.
    pub fn find(&self, name: &str, stderr: &mut String) -> Option<Rc<Macro>> {
        if let Some(known) = self.parsed.borrow().get(name) {
            return known.clone();
        }
        let found = self
            .read_file(name, stderr)
            .or_else(|| Some(Macro::new(name, builtin::source(name)?)))
            .map(Rc::new);
        self.parsed
            .borrow_mut()
            .insert(name.to_owned(), found.clone());
        found
    }

    /// As [`Library::find`], but also a state primitive which may be viewed, as a macro that calls it.
    pub fn find_any(&self, name: &str, stderr: &mut String) -> Option<Rc<Macro>> {
        if let Some(found) = self.find(name, stderr) {
            return Some(found);
        }
        primitive::find(name)
            .filter(|def| def.view)
            .map(|_| Rc::new(Macro::new(name, &trivial_source(name))))
    }

    fn read_file(&self, name: &str, stderr: &mut String) -> Option<Macro> {
        let path = self.files.get(name)?;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                stderr.push_str(&format!(
                    "WARNING: cannot read macro file '{}': {error}\n",
                    path.display()
                ));
                return None;
            }
        };
        let hides = builtin::source(name).is_some() || primitive::find(name).is_some();
        if hides {
            stderr.push_str(&format!("using macro file '{}'\n", path.display()));
        }
        Some(Macro::typed(name, &text))
    }
}

/// The macro text which a state primitive stands for when it is viewed.
pub fn trivial_source(name: &str) -> String {
    format!("%primitive-{name}{{%{{1}}}}")
}

/// The macro files of one directory, by macro name. A directory that cannot be read has none.
fn macro_files(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_suffix(".tpl")?.to_owned(), entry.path()))
        })
        .collect()
}

/// `$MARS_PATH`, else the places where the manual says macros may lie.
pub fn search_path() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("MARS_PATH") {
        return std::env::split_paths(&path)
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect();
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".marsadm"));
    let fixed = ["/etc/marsadm", "/usr/lib/marsadm", "/usr/local/lib/marsadm"];
    home.into_iter()
        .chain(fixed.iter().map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_macro_wins_and_says_so_only_when_it_hides_one() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("role.tpl"), "mine\\n").expect("written");
        std::fs::write(dir.path().join("other.tpl"), "x").expect("written");
        let library = Library::new(&[dir.path().to_owned()]);
        let mut stderr = String::new();
        let role = library.find("role", &mut stderr).expect("found");
        assert_eq!(role.source, "mine\n");
        assert!(stderr.starts_with("using macro file '"), "{stderr}");
        stderr.clear();
        assert!(library.find("other", &mut stderr).is_some());
        assert_eq!(stderr, "");
        assert!(library.find("flags", &mut stderr).is_some());
        assert!(library.find("nosuch", &mut stderr).is_none());
    }
}
