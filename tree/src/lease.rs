//! The clock lease as it is stored, and what it was before the clock leapt.
//!
//! ```text
//! 1700000862000000000          readings are below this
//! 1700000012000000000          they were below this before the clock leapt by more than may be
//! ```
//!
//! A clock that leaps centuries ahead takes all readings with it, and everything that is written then hides what was
//! written before. Whoever is told to forget that future (`future.rs`) must go on behind what it has really used,
//! although none of its entries may show it any more.

use std::fmt;
use std::str::FromStr;

/// So many leaps are remembered. One that stood for years leaps when it starts, so the oldest are forgotten.
const LEAPS_MAX: usize = 8;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    upto: u64,
    /// Rising.
    before_leaps: Vec<u64>,
}

/// The text is no clock lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected nanoseconds since 1970, one number a line")]
pub struct LeaseTextError;

impl Lease {
    /// A lease without a past.
    pub fn new(upto_ns: u64) -> Lease {
        Lease {
            upto: upto_ns,
            before_leaps: Vec::new(),
        }
    }

    /// No reading was greater.
    pub fn upto_ns(&self) -> u64 {
        self.upto
    }

    /// The lease that follows; `leap_ns` more than before is a leap.
    #[must_use]
    pub fn raised(&self, upto_ns: u64, leap_ns: u64) -> Lease {
        let mut before_leaps = self.before_leaps.clone();
        if self.upto > 0 && upto_ns.saturating_sub(self.upto) > leap_ns {
            before_leaps.push(self.upto);
        }
        let surplus = before_leaps.len().saturating_sub(LEAPS_MAX);
        before_leaps.drain(..surplus);
        Lease {
            upto: upto_ns.max(self.upto),
            before_leaps,
        }
    }

    /// No reading up to `limit_ns` was greater than this, except those of leaps that led behind it.
    pub fn within(&self, limit_ns: u64) -> u64 {
        let all = self.before_leaps.iter().chain([&self.upto]);
        all.filter(|ns| **ns <= limit_ns)
            .max()
            .copied()
            .unwrap_or(0)
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.upto)?;
        self.before_leaps
            .iter()
            .try_for_each(|ns| writeln!(f, "{ns}"))
    }
}

impl FromStr for Lease {
    type Err = LeaseTextError;

    fn from_str(text: &str) -> Result<Lease, LeaseTextError> {
        let number = |line: &str| line.trim().parse().map_err(|_| LeaseTextError);
        let mut lines = text.trim().lines().map(number);
        let upto = lines.next().ok_or(LeaseTextError)??;
        let before_leaps = lines.collect::<Result<_, _>>()?;
        Ok(Lease { upto, before_leaps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAP: u64 = 100;

    #[test]
    fn what_was_used_before_a_leap_is_remembered() {
        let lease = Lease::new(50).raised(150, LEAP).raised(1_000, LEAP);
        let lease = lease.raised(1_050, LEAP).raised(9_000, LEAP);
        assert_eq!(lease.upto_ns(), 9_000);
        assert_eq!(lease.within(9_000), 9_000);
        assert_eq!(lease.within(8_999), 1_050);
        assert_eq!(lease.within(1_049), 150);
        assert_eq!(lease.within(149), 0);
    }

    #[test]
    fn only_so_many_leaps_are_remembered() {
        let leap = |lease: Lease, nr: u64| lease.raised(nr * 1_000, LEAP);
        let lease = (2..100).fold(Lease::new(1_000), leap);
        assert_eq!(lease.before_leaps.len(), LEAPS_MAX);
        assert_eq!(lease.within(98_999), 98_000);
    }

    #[test]
    fn the_text_is_one_number_a_line_and_says_all() {
        let lease = Lease::new(7).raised(1_000, LEAP);
        assert_eq!(lease.to_string(), "1000\n7\n");
        assert_eq!("1000\n7\n".parse(), Ok(lease));
        assert_eq!("1000".parse(), Ok(Lease::new(1_000)));
        assert_eq!("".parse::<Lease>(), Err(LeaseTextError));
        assert_eq!("1000\nx".parse::<Lease>(), Err(LeaseTextError));
    }
}
