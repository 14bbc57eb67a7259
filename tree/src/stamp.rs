//! Lamport stamps and issue numbers: when an entry was written, and in which order its writer gave it away.
//!
//! The [`Stamp`] decides merging: of two values the one with the greater stamp stays, everywhere. The [`Issue`]
//! decides spreading: it rises with everything a writer gives to the cluster, even where a command sets an old
//! stamp on purpose (a withdrawn designation is stamped 1 ns after the old one, provisional keys at join are
//! stamped 1 s after the epoch, so that any real value wins). Readings come from `clock.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::log_name::parse_number;
use crate::name::Host;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// When and by whom a value was written. Totally ordered; the greater one wins a merge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Lamport time in nanoseconds since the Unix epoch.
    pub ns: u64,
    /// The host that wrote it; decides between equal times.
    pub writer: Host,
}

/// The place of an entry among everything its writer gave to the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Issue {
    /// A Lamport reading, strictly rising for each writer.
    pub nr: u64,
    /// The host that issued the entry.
    pub writer: Host,
}

/// The text is no stamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected a stamp like 1700000000.000000001 (seconds, dot, nine digits)")]
pub struct StampError {
    /// What was offered.
    pub found: String,
}

/// A Lamport time as text: seconds, a dot, nine digits.
pub fn ns_to_text(ns: u64) -> String {
    format!("{}.{:09}", ns / SECOND_NS, ns % SECOND_NS)
}

/// Reads `sec.nnnnnnnnn` into nanoseconds.
///
/// # Errors
/// [`StampError`] when the text is not exactly of that form or lies beyond the year 2554.
pub fn ns_from_text(text: &str) -> Result<u64, StampError> {
    let parse = || {
        let (sec, nsec) = text.split_once('.')?;
        if nsec.len() != 9 || !nsec.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nsec: u64 = nsec.parse().ok()?;
        parse_number(sec)?.checked_mul(SECOND_NS)?.checked_add(nsec)
    };
    parse().ok_or_else(|| StampError {
        found: text.to_owned(),
    })
}

impl Stamp {
    /// The stamp `ns` nanoseconds after the epoch, written by `writer`.
    pub fn new(ns: u64, writer: &Host) -> Stamp {
        Stamp {
            ns,
            writer: writer.clone(),
        }
    }
}

/// Only the time; the writer is shown where it matters.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&ns_to_text(self.ns))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", ns_to_text(self.ns), self.writer)
    }
}

impl fmt::Debug for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} by {}", self.nr, self.writer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_has_nine_digits_behind_the_dot() {
        assert_eq!(ns_to_text(1), "0.000000001");
        assert_eq!(ns_from_text("1.000000000"), Ok(SECOND_NS));
        for bad in [
            "",
            "1",
            "1.",
            ".5",
            "1.5",
            "01.000000000",
            "-1.000000000",
            "1.00000000x",
        ] {
            assert!(ns_from_text(bad).is_err(), "{bad}");
        }
        assert!(ns_from_text("18446744074.000000000").is_err());
    }

    #[test]
    fn at_the_same_time_the_name_of_the_writer_decides() {
        let alpha = Host::new("alpha").expect("valid");
        let beta = Host::new("beta").expect("valid");
        assert!(Stamp::new(7, &alpha) < Stamp::new(7, &beta));
        assert!(Stamp::new(7, &beta) < Stamp::new(8, &alpha));
    }

    proptest! {
        #[test]
        fn any_time_survives_its_text(ns: u64) {
            prop_assert_eq!(ns_from_text(&ns_to_text(ns)), Ok(ns));
        }
    }
}
