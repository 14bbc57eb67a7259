//! Where a name of the macro language does something else than in the original, and why. The documentation is made from it.

/// (name, what is different), ascending by name. `docs/differences.md` has the reasons at length.
#[rustfmt::skip]
const DIFFERENCES: &[(&str, &str)] = &[
    ("&", "works on numbers, not on the characters of the operands"),
    ("^", "works on numbers, not on the characters of the operands"),
    ("abort", "works"),
    ("and", "a literal `0` or empty argument does not end the list"),
    ("default-header", "`used-net-digest` shows the digest of the network"),
    ("disabled-log-digests", "`view-` works, too"),
    ("disabled-net-digests", "`view-` works, too"),
    ("disk-present", "as the daemon reports, not a test of the local path; true on other hosts, too"),
    ("diskstate", "a replica apart from the designated primary is never `UpToDate`"),
    ("enabled-log-compressions", "`view-` works, too"),
    ("enabled-net-compressions", "`view-` works, too"),
    ("get-log-status", "shows the file"),
    ("is-apart", "new, part of `diskstate`"),
    ("is-orphan", "also true in front of a hole in the numbers of the logs: nothing there is up to date"),
    ("is-split-brain", "also true when contents differ at equal length"),
    ("known-device-fstype", "compares the name of the device, not of the resource"),
    ("known-device-mounted", "compares the name of the device, not of the resource"),
    ("known-device-mountflags", "compares the name of the device, not of the resource"),
    ("known-device-mountpoint", "compares the name of the device, not of the resource"),
    ("last", "works"),
    ("log-range", "new, part of `replinfo`"),
    ("match", "expressions without back references and look-around"),
    ("max", "the largest number, not the smallest"),
    ("min", "the smallest number, not the largest"),
    ("next", "works"),
    ("or", "a literal `0` or empty argument does not end the list"),
    ("resize-hints", "new, part of `default`"),
    ("return", "works"),
    ("sleep", "no pause: a view shows one moment"),
    ("stop-eval", "works"),
    ("subst", "expressions without back references and look-around"),
    ("syncpos-pos", "works"),
    ("syncpos-size", "works"),
    ("timeout", "no pause: a view shows one moment"),
    ("todo-secondary", "`1` when nobody is designated, not always `0`"),
    ("unwritten-state", "new, part of `diskstate`"),
    ("work-rate", "`view-` works, too"),
    ("work-remain", "`view-` works, too"),
    ("|", "works on numbers, not on the characters of the operands"),
    ("~", "works on numbers, not on the characters of the operand"),
];

/// What is different about a name, if anything is.
pub fn of(name: &str) -> Option<&'static str> {
    let at = DIFFERENCES
        .binary_search_by_key(&name, |(name, _)| name)
        .ok()?;
    Some(DIFFERENCES[at].1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::view::macro_table;

    #[test]
    fn every_difference_belongs_to_a_name_and_is_found() {
        let names: BTreeSet<String> = macro_table().into_iter().map(|line| line.name).collect();
        for (name, what) in DIFFERENCES {
            assert!(names.contains(*name), "{name}");
            assert_eq!(of(name), Some(*what));
        }
    }
}
