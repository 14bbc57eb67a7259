//! Natural order of names: `r2` before `r10`.

use std::cmp::Ordering;

/// The names of a comma list in natural order. Commas at its end say nothing. Of a name said twice one is worked on, except of
/// the last one in order: the original works on that as often as it was said.
pub fn selection(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .trim_end_matches(',')
        .split(',')
        .map(str::to_owned)
        .collect();
    names.sort_by(|a, b| compare(a, b));
    let last = names.last().cloned();
    let again = names
        .iter()
        .filter(|name| Some(*name) == last.as_ref())
        .skip(1)
        .count();
    names.dedup();
    names.extend(last.into_iter().cycle().take(again));
    names
}

/// Sorts names so that every run of digits counts as a number, and drops repeated ones.
pub fn sort(names: &mut Vec<String>) {
    names.sort_by(|a, b| compare(a, b));
    names.dedup();
}

/// Compares two names; a run of digits counts as one number, everything else character by character.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        match (left.first(), right.first()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (m, n) = (digits(left), digits(right));
                let order = by_value(&left[..m], &right[..n]);
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (&left[m..], &right[n..]);
            }
            (Some(x), Some(y)) if x != y => return x.cmp(y),
            _ => (left, right) = (&left[1..], &right[1..]),
        }
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

fn by_value(a: &[u8], b: &[u8]) -> Ordering {
    let zeros = |run: &[u8]| run.iter().take_while(|b| **b == b'0').count();
    let (a, b) = (&a[zeros(a)..], &b[zeros(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_comma_list_is_sorted_and_only_its_last_name_is_repeated() {
        let check = |text: &str, want: &[&str]| assert_eq!(super::selection(text), want, "{text}");
        check("r10,r2", &["r2", "r10"]);
        check("a,b,a", &["a", "b"]);
        check("a,b,b,b", &["a", "b", "b", "b"]);
        check("a,a", &["a", "a"]);
        check("a,,", &["a"]);
        check(",a", &["", "a"]);
    }

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = ["r10", "r2", "a", "r2", "r02b", "r2a"]
            .map(str::to_owned)
            .to_vec();
        super::sort(&mut names);
        assert_eq!(names, ["a", "r2", "r2a", "r02b", "r10"]);
    }
}
