//! The 16 byte digest of log contents, as it stands in version links: 32 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Running digest of everything written up to some log position, chained over all logs before.
/// All zeros means "not known yet"; `create-resource` writes it before the first log exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest128(pub [u8; 16]);

/// The text is not 32 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected 32 lower-case hex digits")]
pub struct DigestError {
    /// What was offered.
    pub found: String,
}

impl Digest128 {
    /// The digest of nothing known.
    pub const ZERO: Digest128 = Digest128([0; 16]);

    /// Does it stand for "not known yet"?
    pub fn is_zero(&self) -> bool {
        *self == Digest128::ZERO
    }
}

impl fmt::Display for Digest128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest128 {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(text.as_bytes()).ok_or_else(|| DigestError {
            found: text.to_owned(),
        })
    }
}

/// By a table and without a branch for each digit: links of logs are read often, and no guess about a digit is ever right.
fn parse(text: &[u8]) -> Option<Digest128> {
    let digits: &[u8; 32] = text.try_into().ok()?;
    let mut bytes = [0; 16];
    let mut all = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all < NO_HEX).then_some(Digest128(bytes))
}

/// Stands in [`HEX`] for what is no lower-case hex digit.
const NO_HEX: u8 = 0x10;

/// What each byte stands for as a hex digit.
const HEX: [u8; 256] = {
    let mut table = [NO_HEX; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};

impl TryFrom<String> for Digest128 {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest128> for String {
    fn from(digest: Digest128) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_exact_text_form_is_accepted() {
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(text.parse::<Digest128>().expect("valid").to_string(), text);
        for bad in [
            &text[1..],
            &text.to_uppercase(),
            "",
            "+123456789abcdef0123456789abcdef0",
            "0123456789abcdef0123456789abcdeg",
            "\u{e9}123456789abcdef0123456789abcde",
        ] {
            assert!(bad.parse::<Digest128>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_survives_its_text(bytes: [u8; 16]) {
            prop_assert_eq!(Digest128(bytes).to_string().parse(), Ok(Digest128(bytes)));
        }
    }
}
