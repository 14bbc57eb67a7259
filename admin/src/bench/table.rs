//! Medians, spreads and ratios, as a table or as JSON.

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

/// One measured figure, and the peer's in the same rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Unit of the figures; more is better.
    pub unit: &'static str,
    /// Our figures, one a round.
    pub ours: Vec<f64>,
    /// Name of the peer, when one was measured.
    pub peer: Option<String>,
    /// The peer's figures, one a round.
    pub theirs: Vec<f64>,
    /// The least ratio wanted, where there is a target.
    pub target: Option<f64>,
}

impl Row {
    /// Median of the ratios of each round, ours by theirs.
    pub fn ratio(&self) -> Option<f64> {
        let pairs = self.ours.iter().zip(&self.theirs);
        let ratios: Vec<f64> = pairs
            .filter(|(_, b)| **b > 0.0)
            .map(|(a, b)| a / b)
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }
}

/// The middle value; the mean of the two middle ones when their number is even; 0 without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Prints all rows.
pub fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header([
        "what",
        "ours (median)",
        "spread",
        "peer",
        "theirs (median)",
        "ratio",
        "target",
    ]);
    for row in rows {
        table.add_row([
            row.what.clone(),
            format!("{:.0} {}", median(&row.ours), row.unit),
            spread(&row.ours),
            row.peer.clone().unwrap_or_default(),
            if row.theirs.is_empty() {
                String::new()
            } else {
                format!("{:.0} {}", median(&row.theirs), row.unit)
            },
            row.ratio().map_or(String::new(), |r| format!("{r:.2}")),
            row.target.map_or(String::new(), |t| format!("≥ {t:.2}")),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    if values.is_empty() {
        String::new()
    } else {
        format!("{low:.0} … {high:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        let row = Row {
            what: "x".into(),
            unit: "IOPS",
            ours: vec![10.0, 100.0, 30.0],
            peer: Some("y".into()),
            theirs: vec![5.0, 50.0, 10.0],
            target: None,
        };
        assert_eq!(row.ratio(), Some(2.0));
    }
}
