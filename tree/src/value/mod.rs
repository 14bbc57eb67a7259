//! Typed values and their stored text.
//!
//! Every type here prints exactly the text form of the original and reads back exactly what it prints.
//! Reading garbage is an error that says what was found and what was expected; it never panics.
//! [`Kind`] names the type which the key table gives to each key.
//!
//! Positions in logs are in `position.rs`, everything else in `plain.rs`.

mod plain;
mod position;

pub use plain::{
    ClusterId, Features, HostList, Mask, MaybeHost, Message, OnOff, ReplayCode, SkipCheck, Verify,
    number,
};
pub use position::{ReplayPos, VersionLink};

use crate::stamp::ns_from_text;

/// A stored text does not have the form its key demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected {expected}")]
pub struct ValueError {
    /// The stored text, shortened where it is long.
    pub found: String,
    /// The form that was expected, with an example.
    pub expected: &'static str,
}

/// Longest piece of a bad value that is repeated in a message, in characters.
const FOUND_CHARS_MAX: usize = 100;

impl ValueError {
    /// An error about `found`, of which only the beginning is kept.
    pub fn new(found: &str, expected: &'static str) -> ValueError {
        let mut found = found.to_owned();
        if let Some((end, _)) = found.char_indices().nth(FOUND_CHARS_MAX) {
            found.truncate(end);
            found.push('…');
        }
        ValueError { found, expected }
    }
}

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Any text.
    Text,
    /// `host_sec.nsec`, or `(any)` before a join is complete.
    ClusterId,
    /// IP address or name, with optional port.
    Address,
    /// A host, or `(none)`.
    HostOrNone,
    /// Hosts separated by commas, best first.
    HostList,
    /// `0` or `1`.
    Switch,
    /// A number from 0.
    Number,
    /// A number that may be negative.
    Signed,
    /// A number of bytes.
    Bytes,
    /// 0 to 100.
    Percent,
    /// 0 to 4.
    Level,
    /// `sec.nnnnnnnnn`.
    Stamp,
    /// A set of bits, `0x%08x` or decimal.
    Mask,
    /// `feature,strategy,mask`.
    Features,
    /// `OK`, or two stamps and a text.
    Message,
    /// Absolute path of a disk.
    DiskPath,
    /// Name of a device, or `(none)` for a guest that is only passing.
    DeviceName,
    /// How far a disk has come.
    ReplayPos,
    /// A link of the digest chain.
    VersionLink,
    /// State of replay.
    ReplayCode,
    /// A permitted gap in the log numbers.
    SkipCheck,
    /// Equal and unequal blocks.
    Verify,
}

impl Kind {
    /// Is `text` a value of this kind?
    ///
    /// # Errors
    /// [`ValueError`] with what was expected.
    pub fn check(self, text: &str) -> Result<(), ValueError> {
        match self {
            Kind::Text => Ok(()),
            Kind::ClusterId => text.parse::<ClusterId>().map(drop),
            Kind::Address => demand(
                !text.is_empty() && !text.contains(' '),
                text,
                "an address like 10.0.0.1:7777",
            ),
            Kind::HostOrNone => text.parse::<MaybeHost>().map(drop),
            Kind::HostList => text.parse::<HostList>().map(drop),
            Kind::Switch => text.parse::<OnOff>().map(drop),
            Kind::Number | Kind::Bytes => number(text).map(drop),
            Kind::Signed => demand(text.parse::<i64>().is_ok(), text, "a number like 0 or -5"),
            Kind::Percent => demand(number(text)? <= 100, text, "a percentage from 0 to 100"),
            Kind::Level => demand(number(text)? <= 4, text, "a level from 0 to 4"),
            Kind::Stamp => demand(
                ns_from_text(text).is_ok(),
                text,
                "a stamp like 1700000000.000000001",
            ),
            Kind::Mask => text.parse::<Mask>().map(drop),
            Kind::Features => text.parse::<Features>().map(drop),
            Kind::Message => text.parse::<Message>().map(drop),
            Kind::DiskPath => demand(text.starts_with('/'), text, "the absolute path of a disk"),
            Kind::DeviceName => demand(
                !text.is_empty() && !text.contains('/'),
                text,
                "a device name without slashes",
            ),
            Kind::ReplayPos => text.parse::<ReplayPos>().map(drop),
            Kind::VersionLink => text.parse::<VersionLink>().map(drop),
            Kind::ReplayCode => text.parse::<ReplayCode>().map(drop),
            Kind::SkipCheck => text.parse::<SkipCheck>().map(drop),
            Kind::Verify => text.parse::<Verify>().map(drop),
        }
    }
}

fn demand(holds: bool, found: &str, expected: &'static str) -> Result<(), ValueError> {
    if holds {
        return Ok(());
    }
    Err(ValueError::new(found, expected))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::keys::KEYS;

    proptest! {
        /// Whatever an old tree or a broken peer holds: every codec answers, none panics.
        #[test]
        fn any_text_is_a_value_or_an_error(
            text in "(log-00000000[0-9]-a|[0-9a-f]{32}|[-0-9]{1,21}|[,:.+x]|OK|\\(none\\)|\\PC){0,6}"
        ) {
            for def in KEYS {
                if let Err(error) = def.kind.check(&text) {
                    prop_assert!(error.to_string().contains("expected"), "{}", error);
                }
            }
        }
    }
}
