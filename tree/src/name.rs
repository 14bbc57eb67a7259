//! Names of hosts and resources: short, printable, safe inside a path component.
//!
//! Both follow one rule: the first character is a letter, a digit or `_`, the others may also be `-`, at most
//! [`NAME_BYTES_MAX`] bytes. Cheap to clone; a name that exists is valid.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name: the longest label of a domain name, so every host name without domain fits.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is no name of a host or resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("{what} name is empty, expected a letter, digit or '_' first")]
    Empty {
        /// "host" or "resource".
        what: &'static str,
    },
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("{what} name has {bytes} bytes, expected at most {NAME_BYTES_MAX}")]
    TooLong {
        /// "host" or "resource".
        what: &'static str,
        /// How many bytes were offered.
        bytes: usize,
    },
    /// A character which is not allowed at its place.
    #[error(
        "{what} name {name:?} has {found:?} at byte {at}, expected letters, digits, '_' or (not first) '-'"
    )]
    Character {
        /// "host" or "resource".
        what: &'static str,
        /// The text that was offered.
        name: String,
        /// The first bad character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

/// A machine of the cluster. Ordered by bytes; this order breaks ties between equal Lamport times.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(Arc<str>);

/// One replicated block device with all its replicas.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource(Arc<str>);

macro_rules! name_type {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Checks `text` against the rule for names.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it and where.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $what)?;
                Ok(Self(text.into()))
            }

            /// The bare name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, " {}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(Host, "host");
name_type!(Resource, "resource");

fn check(text: &str, what: &'static str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong {
            what,
            bytes: text.len(),
        });
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes().enumerate();
    let bad = bytes.find(|(at, byte)| !fits(*byte) && (*byte != b'-' || *at == 0));
    // Before it stand ASCII characters only.
    match bad.and_then(|(at, _)| Some((at, text[at..].chars().next()?))) {
        None => Ok(()),
        Some((at, found)) => Err(NameError::Character {
            what,
            name: text.to_owned(),
            found,
            at,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(text: &str, why: &str) {
        let error = Host::new(text).expect_err("must be refused");
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn names_in_daily_use_are_accepted() {
        for text in ["alpha", "icpu-bs6", "_x", "7", "A-b_c-1"] {
            assert_eq!(Host::new(text).expect("valid name").as_str(), text);
            assert_eq!(Resource::new(text).expect("valid name").to_string(), text);
        }
    }

    #[test]
    fn a_name_that_could_change_the_meaning_of_a_path_is_refused() {
        check_refused("", "empty");
        check_refused("-alpha", "'-' at byte 0");
        check_refused("al/pha", "'/' at byte 2");
        check_refused("alpha.example", "'.' at byte 5");
        check_refused("al\npha", "'\\n' at byte 2");
        check_refused("älpha", "'ä' at byte 0");
        check_refused(&"x".repeat(64), "64 bytes");
    }

    #[test]
    fn a_bad_name_does_not_come_in_through_serde() {
        assert!(serde_json::from_str::<Host>("\"alpha\"").is_ok());
        assert!(serde_json::from_str::<Host>("\"../alpha\"").is_err());
    }
}
