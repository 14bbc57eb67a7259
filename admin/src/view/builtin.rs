//! The predefined macros: their texts lie beside this file, one per macro.
//!
//! The names and what they print are fixed by the manual; the texts are ours. A few small ones that the manual does
//! not name are helpers of others.
//!
//! Manual: "Predefined Complex Macros".

/// (name, text with comments), ascending.
#[rustfmt::skip]
const SOURCES: &[(&str, &str)] = &[
    ("1and1", include_str!("builtin/1and1.txt")),
    ("comminfo", include_str!("builtin/comminfo.txt")),
    ("commstate", include_str!("builtin/commstate.txt")),
    ("cstate", include_str!("builtin/cstate.txt")),
    ("default", include_str!("builtin/default.txt")),
    ("default-footer", include_str!("builtin/default-footer.txt")),
    ("default-global", include_str!("builtin/default-global.txt")),
    ("default-header", include_str!("builtin/default-header.txt")),
    ("default-resource", include_str!("builtin/default-resource.txt")),
    ("device-info", include_str!("builtin/device-info.txt")),
    ("device-stats", include_str!("builtin/device-stats.txt")),
    ("diskstate", include_str!("builtin/diskstate.txt")),
    ("diskstate-1and1", include_str!("builtin/diskstate-1and1.txt")),
    ("dstate", include_str!("builtin/dstate.txt")),
    ("fetch-line", include_str!("builtin/fetch-line.txt")),
    ("fetch-line-1and1", include_str!("builtin/fetch-line-1and1.txt")),
    ("flags", include_str!("builtin/flags.txt")),
    ("flags-1and1", include_str!("builtin/flags-1and1.txt")),
    ("log-range", include_str!("builtin/log-range.txt")),
    ("outdated-flags", include_str!("builtin/outdated-flags.txt")),
    ("primarynode", include_str!("builtin/primarynode.txt")),
    ("primarynode-1and1", include_str!("builtin/primarynode-1and1.txt")),
    ("replay-line", include_str!("builtin/replay-line.txt")),
    ("replay-line-1and1", include_str!("builtin/replay-line-1and1.txt")),
    ("replinfo", include_str!("builtin/replinfo.txt")),
    ("replinfo-1and1", include_str!("builtin/replinfo-1and1.txt")),
    ("replstate", include_str!("builtin/replstate.txt")),
    ("replstate-1and1", include_str!("builtin/replstate-1and1.txt")),
    ("resize-hints", include_str!("builtin/resize-hints.txt")),
    ("resource-errors", include_str!("builtin/resource-errors.txt")),
    ("resource-errors-1and1", include_str!("builtin/resource-errors-1and1.txt")),
    ("role", include_str!("builtin/role.txt")),
    ("role-1and1", include_str!("builtin/role-1and1.txt")),
    ("state", include_str!("builtin/state.txt")),
    ("status", include_str!("builtin/status.txt")),
    ("sync-line", include_str!("builtin/sync-line.txt")),
    ("sync-line-1and1", include_str!("builtin/sync-line-1and1.txt")),
    ("syncinfo", include_str!("builtin/syncinfo.txt")),
    ("syncinfo-1and1", include_str!("builtin/syncinfo-1and1.txt")),
    ("todo-role", include_str!("builtin/todo-role.txt")),
    ("unwritten-state", include_str!("builtin/unwritten-state.txt")),
];

/// The text of a predefined macro.
pub fn source(name: &str) -> Option<&'static str> {
    let at = SOURCES.binary_search_by_key(&name, |(name, _)| name).ok()?;
    Some(SOURCES[at].1)
}

/// Name and text of all predefined macros, in order.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    SOURCES.iter().copied()
}

/// What a predefined macro is for: the first comment of its text.
pub fn about(text: &str) -> &str {
    let comment = text
        .strip_prefix("/*")
        .and_then(|rest| rest.split_once("*/"));
    comment.map_or("", |(about, _)| about.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_predefined_macro_is_found_and_says_what_it_is_for() {
        for (name, text) in all() {
            assert_eq!(source(name), Some(text));
            assert!(!about(text).is_empty(), "{name}");
        }
    }
}
