//! The table of deliberate defects, `mutations.txt`, as data, and how all of them get into one copy of the sources.
//!
//! Each defect replaces one expression. In the copy a switch stands at its place, so one build holds them all and a
//! variable of the environment, [`VARIABLE`], says which one a process has:
//!
//! ```text
//! the sources:   writer.flush()?
//! the copy:      (if crate::deliberate_defect(3) { … } else { writer.flush()? })
//! ```

use std::collections::BTreeMap;
use std::path::Path;

/// Number of the defect that a process with defects has; none when it is not set.
pub const VARIABLE: &str = "SIMTEST_DEFECT";

/// The crate that all others know: the switch is there.
const SWITCH_CRATE: &str = "tree";

/// One deliberate defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Its place in the table, from 1.
    pub nr: usize,
    /// What would be wrong.
    pub name: String,
    /// The story which is told to show it; without one it is up to the seeds.
    pub by: Option<String>,
    /// Source file, from the root of the repository.
    pub file: String,
    /// What comes before the expression, exactly once in the code of the file together with it.
    pub before: String,
    /// The expression as it is.
    pub old: String,
    /// The expression with the defect.
    pub new: String,
}

/// Reads the table.
///
/// # Errors
/// The block that lacks a line.
pub fn parse(table: &str) -> Result<Vec<Mutation>, String> {
    let text: Vec<&str> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let blocks = text
        .split(|line| line.trim().is_empty())
        .filter(|block| !block.is_empty());
    let read = |(index, block)| read_block(index + 1, block);
    blocks.enumerate().map(read).collect()
}

fn read_block(nr: usize, block: &[&str]) -> Result<Mutation, String> {
    let optional = |sign: &str| block.iter().find_map(|line| line.strip_prefix(sign));
    let field = |sign: &str| {
        let found = optional(sign).map(str::to_owned);
        found.ok_or_else(|| format!("no line {sign:?} in {block:?}"))
    };
    let old = field("- ")?;
    // Where the expression alone is not unique, its line says which one is meant: `let a = [[expression]]`.
    let marked = old
        .split_once("[[")
        .and_then(|(before, rest)| Some((before, rest.split_once("]]")?.0)));
    let (before, old) = marked.unwrap_or(("", &old));
    Ok(Mutation {
        nr,
        name: field("name: ")?,
        by: optional("by: ").map(str::to_owned),
        file: field("file: ")?,
        before: before.to_owned(),
        old: old.to_owned(),
        new: field("+ ")?,
    })
}

/// All files with defects, by path, with a switch at the place of each defect.
///
/// # Errors
/// Defects whose place is not there, or not there exactly once before the tests of the file, or which overlap.
pub fn plant(all: &[Mutation], root: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut files: BTreeMap<&str, Vec<&Mutation>> = BTreeMap::new();
    for mutation in all {
        files.entry(&mutation.file).or_default().push(mutation);
    }
    let mut planted = BTreeMap::new();
    let mut lost = Vec::new();
    for (file, here) in files {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{file}: {e}"))?;
        match plant_in(&text, &here) {
            Ok(text) => drop(planted.insert(file.to_owned(), text)),
            Err(why) => lost.push(format!("{file}: {why}")),
        }
    }
    match lost.is_empty() {
        true => Ok(planted),
        false => Err(lost.join("\n")),
    }
}

fn plant_in(text: &str, here: &[&Mutation]) -> Result<String, String> {
    let code = &text[..text.find("#[cfg(test)]").unwrap_or(text.len())];
    let mut places: BTreeMap<usize, Vec<&Mutation>> = BTreeMap::new();
    for mutation in here {
        let whole = format!("{}{}", mutation.before, mutation.old);
        let found: Vec<usize> = code.match_indices(&whole).map(|(at, _)| at).collect();
        let [at] = found[..] else {
            return Err(format!("{} times: {whole}", found.len()));
        };
        let place = places.entry(at + mutation.before.len());
        place.or_default().push(mutation);
    }
    let (mut out, mut done) = (String::new(), 0);
    for (at, mutations) in places {
        let old = &mutations[0].old;
        if at < done || mutations.iter().any(|mutation| mutation.old != *old) {
            return Err(format!("overlaps with another defect: {old}"));
        }
        out += &text[done..at];
        out += "(";
        for mutation in mutations {
            let krate = match mutation.file.split('/').next() {
                Some(SWITCH_CRATE) => "crate",
                _ => SWITCH_CRATE,
            };
            let (nr, new) = (mutation.nr, &mutation.new);
            out += &format!("if {krate}::deliberate_defect({nr}) {{ {new} }} else ");
        }
        out += &format!("{{ {old} }})");
        done = at + old.len();
    }
    Ok(out + &text[done..])
}

/// The switch, and the file of the sources to which it has to be added.
pub fn switch() -> (String, String) {
    let text = format!(
        "
/// Has this process the deliberate defect `nr`?
pub fn deliberate_defect(nr: usize) -> bool {{
    static WANTED: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let wanted = || std::env::var(\"{VARIABLE}\").ok()?.parse().ok();
    *WANTED.get_or_init(wanted) == Some(nr)
}}
"
    );
    (format!("{SWITCH_CRATE}/src/lib.rs"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<Mutation> {
        parse(include_str!("../mutations.txt")).expect("well-formed")
    }

    #[test]
    fn every_defect_of_the_table_still_has_its_place_in_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(table().len() >= 30, "{}", table().len());
        let planted = plant(&table(), &root);
        assert_eq!(planted.err(), None);
    }

    #[test]
    fn no_two_defects_have_one_name() {
        let mut names: Vec<String> = table().into_iter().map(|m| m.name).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_story_of_the_table_is_told() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story");
        let files = std::fs::read_dir(dir).expect("the stories");
        let told: String = files
            .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
            .collect();
        for by in table().into_iter().filter_map(|m| m.by) {
            assert!(told.contains(&format!("fn {by}(")), "{by}");
        }
    }

    #[test]
    fn a_switch_stands_where_the_expression_was_and_the_rest_stays() {
        let block = "name: n\nfile: node/src/a.rs\n- let b = [[f()]];\n+ g()";
        let other = "\n\nname: m\nfile: node/src/a.rs\n- x < y\n+ x > y";
        let all = parse(&(block.to_owned() + other)).expect("two blocks");
        let here: Vec<&Mutation> = all.iter().collect();
        let planted = plant_in("let a = f(); let b = f(); x < y", &here);
        let want = "let a = f(); let b = (if tree::deliberate_defect(1) { g() } else { f() }); \
                    (if tree::deliberate_defect(2) { x > y } else { x < y })";
        assert_eq!(planted.as_deref(), Ok(want));
        assert!(plant_in("let b = f(); x < y; x < y", &here).is_err());
    }
}
