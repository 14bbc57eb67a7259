//! Names of transaction logs and positions in them.
//!
//! `log-000000007-alpha` is the seventh log of its resource, created by host alpha; the number is printed with at
//! least nine digits. `log-000000007-alpha@4096` is a position: 4096 bytes of records lie before it. Positions are
//! logical: offset 0 is right behind the header of the file, and an empty log has length 0.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Host;

/// Greatest log number that is accepted from outside, so that the next number always exists.
pub const SEQ_MAX: u64 = u64::MAX / 2;

/// Name of one file in the chain of writes of one resource. Ordered by number first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogName {
    /// Number in the chain, from 1. Digits after the ninth appear only when they are needed.
    pub seq: u64,
    /// The host which wrote it; it was primary then.
    pub creator: Host,
}

/// A place in a log. The unit of all progress; ordered by log, then by offset.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPos {
    /// The log.
    pub log: LogName,
    /// Bytes of records before this place.
    pub offset: u64,
}

/// Why a text is no name of a log or no position in one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogNameError {
    /// Not of the form `log-NNNNNNNNN-HOST`.
    #[error("found {found:?}, expected a log name like log-000000001-alpha")]
    Name {
        /// What was offered.
        found: String,
    },
    /// Not of the form `LOG@OFFSET`.
    #[error("found {found:?}, expected a log position like log-000000001-alpha@4096")]
    Position {
        /// What was offered.
        found: String,
    },
}

impl LogName {
    /// The name of log `seq` written by `creator`.
    pub fn new(seq: u64, creator: &Host) -> LogName {
        LogName {
            seq,
            creator: creator.clone(),
        }
    }

    /// The place `offset` bytes into this log.
    pub fn at(&self, offset: u64) -> LogPos {
        LogPos {
            log: self.clone(),
            offset,
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log-{:09}-{}", self.seq, self.creator)
    }
}

impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LogName {
    type Err = LogNameError;
    fn from_str(text: &str) -> Result<Self, LogNameError> {
        parse_name(text).ok_or_else(|| LogNameError::Name {
            found: text.to_owned(),
        })
    }
}

impl TryFrom<String> for LogName {
    type Error = LogNameError;
    fn try_from(text: String) -> Result<Self, LogNameError> {
        text.parse()
    }
}

impl From<LogName> for String {
    fn from(name: LogName) -> String {
        name.to_string()
    }
}

impl fmt::Display for LogPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.log, self.offset)
    }
}

impl fmt::Debug for LogPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LogPos {
    type Err = LogNameError;
    fn from_str(text: &str) -> Result<Self, LogNameError> {
        let parse = || {
            let (log, offset) = cut(text, b'@')?;
            Some(parse_name(log)?.at(parse_number(offset)?))
        };
        parse().ok_or_else(|| LogNameError::Position {
            found: text.to_owned(),
        })
    }
}

fn parse_name(text: &str) -> Option<LogName> {
    let (digits, creator) = cut(text.strip_prefix("log-")?, b'-')?;
    let seq = parse_seq(digits)?;
    let creator = Host::new(creator).ok()?;
    Some(LogName { seq, creator })
}

/// A log number as it stands in names of keys: nine digits, more only when the number needs them.
/// One number has one text, so two different keys never name the same log. At most [`SEQ_MAX`].
pub(crate) fn parse_seq(digits: &str) -> Option<u64> {
    let canonical = digits.len() == 9 || (digits.len() > 9 && !digits.starts_with('0'));
    let seq = decimal(digits).filter(|_| canonical);
    seq.filter(|seq| *seq <= SEQ_MAX)
}

/// A plain decimal number without sign and without superfluous zeros.
pub(crate) fn parse_number(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    decimal(digits).filter(|_| canonical && !digits.is_empty())
}

/// The number that these digits are; 0 without any.
fn decimal(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        let more = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        (digit < 10).then_some(more)
    })
}

/// Like [`str::split_once`], for the short parts of names and positions: what finds a character fast in a long text
/// takes longer than they are long.
pub(crate) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    debug_assert!(at.is_ascii(), "a text is not cut inside a character");
    let place = text.bytes().position(|byte| byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(text: &str) -> LogName {
        text.parse().expect("valid log name")
    }

    #[test]
    fn a_log_name_says_its_number_and_its_creator() {
        let name = log("log-000000007-icpu-bs6");
        assert_eq!(name.seq, 7);
        assert_eq!(name.creator.as_str(), "icpu-bs6");
        assert_eq!(log("log-1234567890-a").seq, 1_234_567_890);
    }

    #[test]
    fn a_name_which_prints_differently_is_refused() {
        for text in [
            "log-7-alpha",
            "log-0000000007-alpha",
            "log-+00000007-alpha",
            "log-000000007-",
            "log-000000007",
            "log-00000000x-alpha",
            "log-18446744073709551615-alpha",
            "log-99999999999999999999-alpha",
            "Log-000000007-alpha",
        ] {
            let error = text.parse::<LogName>().expect_err("must be refused");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn positions_are_ordered_by_number_before_length_of_text() {
        assert!(log("log-999999999-alpha") < log("log-1000000000-alpha"));
        assert!(log("log-000000001-alpha").at(9_000) < log("log-000000002-alpha").at(0));
        assert!(log("log-000000001-alpha").at(9_000) < log("log-000000001-alpha").at(10_000));
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_the_standard_library_does(text in "(0|[0-9]{1,21}|[+-]?[0-9]{0,3}|1844674407370955[0-9]{4})") {
            let plain = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
            prop_assert_eq!(parse_number(&text), plain);
        }

        #[test]
        fn a_text_is_cut_where_the_standard_library_splits_it(text in "[a\u{e4}-]{0,6}") {
            prop_assert_eq!(cut(&text, b'-'), text.split_once('-'));
        }

        #[test]
        fn names_and_positions_survive_their_text(seq in 0..=SEQ_MAX, host in "[a-zA-Z0-9_][-a-zA-Z0-9_]{0,20}", offset: u64) {
            let at = LogName { seq, creator: Host::new(&host).expect("valid") }.at(offset);
            prop_assert_eq!(at.to_string().parse::<LogPos>(), Ok(at.clone()));
            prop_assert_eq!(at.log.to_string().parse::<LogName>(), Ok(at.log));
        }

        #[test]
        fn any_text_is_refused_or_printed_back_alike(text in "log-[0-9]{0,12}-?[-a-z]{0,3}@?[0-9]{0,4}") {
            if let Ok(name) = text.parse::<LogName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(at) = text.parse::<LogPos>() {
                prop_assert_eq!(at.to_string(), text);
            }
        }
    }
}
