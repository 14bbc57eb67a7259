//! Natural order of names: `r2` before `r10`.

/// Sorts names so that every run of digits counts as a number, and drops repeated ones.
pub fn sort(names: &mut Vec<String>) {
    names.sort_by_cached_key(|name| key(name));
    names.dedup();
}

/// The name with every run of digits as a 12-digit number.
fn key(name: &str) -> String {
    let mut key = String::new();
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(at);
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        key.push_str(before);
        key.push_str(&format!("{:0>12}", &digits[..end]));
        rest = &digits[end..];
    }
    key.push_str(rest);
    key
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_count_as_numbers() {
        let mut names = ["r10", "r2", "a", "r2"].map(str::to_owned).to_vec();
        super::sort(&mut names);
        assert_eq!(names, ["a", "r2", "r10"]);
    }
}
