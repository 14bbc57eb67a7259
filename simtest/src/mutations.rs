//! The table of deliberate defects, `mutations.txt`, as data.

use std::path::Path;

/// One deliberate defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What would be wrong.
    pub name: String,
    /// Source file, from the root of the repository.
    pub file: String,
    /// Text as it is, exactly once in the code of the file.
    pub old: String,
    /// Text with the defect.
    pub new: String,
}

/// Reads the table.
///
/// # Errors
/// The block that is not four lines of the right kinds.
pub fn parse(table: &str) -> Result<Vec<Mutation>, String> {
    let text: Vec<&str> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let blocks = text
        .split(|line| line.trim().is_empty())
        .filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let field = |nr: usize, sign: &str| {
                let found = block.get(nr).and_then(|line| line.strip_prefix(sign));
                found
                    .map(str::to_owned)
                    .ok_or_else(|| format!("no line {sign:?} in {block:?}"))
            };
            Ok(Mutation {
                name: field(0, "name: ")?,
                file: field(1, "file: ")?,
                old: field(2, "- ")?,
                new: field(3, "+ ")?,
            })
        })
        .collect()
}

impl Mutation {
    /// The file below `root` with the defect in it.
    ///
    /// # Errors
    /// When the file cannot be read, or the text is not there exactly once before its tests.
    pub fn apply(&self, root: &Path) -> Result<String, String> {
        let path = root.join(&self.file);
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let code_end = text.find("#[cfg(test)]").unwrap_or(text.len());
        let (code, tests) = text.split_at(code_end);
        match code.matches(&self.old).count() {
            1 => Ok(code.replacen(&self.old, &self.new, 1) + tests),
            count => Err(format!("{}: {count} times: {}", self.file, self.old)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_of_the_table_still_has_its_place_in_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let all = parse(include_str!("../mutations.txt")).expect("well-formed");
        assert!(all.len() >= 30, "{}", all.len());
        let lost: Vec<String> = all.iter().filter_map(|m| m.apply(&root).err()).collect();
        assert!(lost.is_empty(), "{lost:#?}");
    }
}
