//! Medians, spreads and ratios, as a table or as JSON.

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The ratio to the peer is at least this.
    RatioAtLeast(f64),
    /// The median is at most this.
    AtMost(f64),
    /// The median is at least this.
    AtLeast(f64),
}

/// One measured figure, and the peer's in the same rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Unit of the figures.
    pub unit: &'static str,
    /// Our figures, one a round.
    pub ours: Vec<f64>,
    /// Name of the peer, when one was measured.
    pub peer: Option<String>,
    /// The peer's figures, one a round.
    pub theirs: Vec<f64>,
    /// What is wanted, where there is a target.
    pub target: Option<Target>,
}

impl Row {
    /// A figure without a peer.
    pub fn new(what: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Row {
        Row {
            what: what.into(),
            unit,
            ours,
            ..Row::default()
        }
    }

    /// With what the peer reached in the same rounds.
    pub fn against(mut self, peer: &str, theirs: Vec<f64>) -> Row {
        (self.peer, self.theirs) = (Some(peer.to_owned()), theirs);
        self
    }

    /// With what is wanted.
    pub fn wanted(mut self, target: Target) -> Row {
        self.target = Some(target);
        self
    }

    /// Median of the ratios of each round, ours by theirs.
    pub fn ratio(&self) -> Option<f64> {
        let pairs = self.ours.iter().zip(&self.theirs);
        let ratios: Vec<f64> = pairs
            .filter(|(_, b)| **b > 0.0)
            .map(|(a, b)| a / b)
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// Whether the target is met; `None` without one.
    pub fn is_met(&self) -> Option<bool> {
        let middle = median(&self.ours);
        Some(match self.target? {
            Target::RatioAtLeast(least) => self.ratio()? >= least,
            Target::AtMost(most) => middle <= most,
            Target::AtLeast(least) => middle >= least,
        })
    }
}

/// The middle value; the mean of the two middle ones when their number is even; 0 without values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the share `q` (0 to 1) of all values lies, between neighbours in proportion; 0 without values.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    low + (high - low) * place.fract()
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
            format!("{} {}", short(median(&row.ours)), row.unit),
            spread(&row.ours),
            row.peer.clone().unwrap_or_default(),
            if row.theirs.is_empty() {
                String::new()
            } else {
                format!("{} {}", short(median(&row.theirs)), row.unit)
            },
            row.ratio().map_or(String::new(), |r| format!("{r:.2}")),
            wish(row),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn wish(row: &Row) -> String {
    let text = match row.target {
        None => return String::new(),
        Some(Target::RatioAtLeast(least)) => format!("ratio ≥ {least}"),
        Some(Target::AtMost(most)) => format!("≤ {most} {}", row.unit),
        Some(Target::AtLeast(least)) => format!("≥ {least} {}", row.unit),
    };
    match row.is_met() {
        Some(true) => format!("{text}: met"),
        Some(false) => format!("{text}: missed"),
        None => text,
    }
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    if values.is_empty() {
        String::new()
    } else {
        format!("{} … {}", short(low), short(high))
    }
}

/// Three digits at least.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
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
    fn a_quantile_of_a_hundred_and_one_values_is_one_of_them() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        let row = Row::new("x", "IOPS", vec![10.0, 100.0, 30.0])
            .against("y", vec![5.0, 50.0, 10.0])
            .wanted(Target::RatioAtLeast(2.1));
        assert_eq!(row.ratio(), Some(2.0));
        assert_eq!(row.is_met(), Some(false));
    }

    #[test]
    fn limits_are_about_the_median() {
        let row = Row::new("x", "ms", vec![1.0, 2.0, 300.0]).wanted(Target::AtMost(2.0));
        assert_eq!(row.is_met(), Some(true));
        assert_eq!(row.wanted(Target::AtLeast(2.5)).is_met(), Some(false));
    }
}
