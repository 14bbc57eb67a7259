//! Seeds that break a promise for a reason that is known and not yet removed: `known.txt`, as data.

/// Each seed and its reason; comments and lines without a number at the beginning are passed over.
pub fn parse(text: &str) -> Vec<(u64, &str)> {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(seed, why)| Some((seed.parse().ok()?, why)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_seed_and_its_reason() {
        let text = "# 3: a comment\n\n20: forks\n";
        assert_eq!(parse(text), [(20, "forks")]);
    }
}
