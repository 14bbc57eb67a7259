//! File name patterns over the key tree: `*`, `?`, `[…]`; no sign of them matches a slash.

use std::collections::BTreeSet;

use crate::snapshot::{Kind, Snapshot};

/// Everything live which matches `pattern`, written as the pattern is: with or without `/mars/`, sorted.
pub fn find(snap: &Snapshot, pattern: &str) -> Vec<String> {
    let (front, below) = match pattern.strip_prefix("/mars/") {
        Some(below) => ("/mars/", below),
        None => ("", pattern),
    };
    let literal = below.find(['*', '?', '[']).unwrap_or(below.len());
    let parts: Vec<Vec<char>> = below
        .split('/')
        .map(|part| part.chars().collect())
        .collect();
    let found: BTreeSet<&str> = snap
        .with_prefix(&below[..literal])
        .filter(|(_, item)| item.is_live() && item.kind != Kind::Remote)
        .filter_map(|(path, _)| head(path, parts.len()))
        .filter(|path| {
            let names = path.split('/').zip(&parts);
            names.fold(true, |all, (name, part)| all && matches(part, name))
        })
        .collect();
    found
        .into_iter()
        .map(|path| format!("{front}{path}"))
        .collect()
}

/// The first `count` components of a path, if it has that many.
fn head(path: &str, count: usize) -> Option<&str> {
    let slashes = path.match_indices('/').map(|(at, _)| at);
    let ends: Vec<usize> = slashes.chain([path.len()]).collect();
    ends.get(count.checked_sub(1)?).map(|end| &path[..*end])
}

/// Whether a name matches one component of a pattern.
pub fn matches(pattern: &[char], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // Where to go on when the text behind the last star does not match: one character later.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    loop {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        match name.get(n) {
            None if p == pattern.len() => return true,
            None => return false,
            Some(sign) => match one(&pattern[p..], *sign) {
                Some(len) => (p, n) = (p + len, n + 1),
                None => match retry {
                    Some((behind, from)) => {
                        retry = Some((behind, from + 1));
                        (p, n) = (behind, from + 1);
                    }
                    None => return false,
                },
            },
        }
    }
}

/// How many characters of the pattern match this one character of the name.
fn one(pattern: &[char], sign: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => class(pattern, sign),
        literal => (*literal == sign).then_some(1),
    }
}

fn class(pattern: &[char], sign: char) -> Option<usize> {
    let negated = usize::from(matches!(pattern.get(1), Some('!' | '^')));
    let from = 1 + negated;
    let len = pattern.get(from + 1..)?.iter().position(|c| *c == ']')? + 1;
    let set = &pattern[from..from + len];
    let mut found = false;
    let mut at = 0;
    while at < set.len() {
        if set.get(at + 1) == Some(&'-') && at + 2 < set.len() {
            found |= (set[at]..=set[at + 2]).contains(&sign);
            at += 3;
        } else {
            found |= set[at] == sign;
            at += 1;
        }
    }
    (found != (negated == 1)).then_some(from + len + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let pattern: Vec<char> = pattern.chars().collect();
        assert_eq!(matches(&pattern, name), expected, "{pattern:?} {name}");
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        check("log-*-alpha", "log-000000001-alpha", true);
        check("log-*-alpha", "log-000000001-beta", false);
        check("a*b*c", "aXbYbZc", true);
        check("[a-c]?[!0-9]", "bxx", true);
        check("[a-c]?[!0-9]", "bx7", false);
        check("*", "", true);
        check("", "x", false);
    }
}
