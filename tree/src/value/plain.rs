//! Values that are no positions: switches, numbers, masks, messages and the like.

use std::fmt;
use std::str::FromStr;

use crate::log_name::parse_number;
use crate::name::Host;
use crate::stamp::{ns_from_text, ns_to_text};
use crate::value::ValueError;

/// A switch or indicator: `0` or `1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnOff(pub bool);

/// A host, or `(none)`: the designated primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaybeHost(pub Option<Host>);

/// Hosts in order of preference, separated by commas; the empty text is the empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostList(pub Vec<Host>);

/// A set of feature bits: printed as `0x%08x`, read also in decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask(pub u32);

/// What a daemon can do: `4,5,0x071f0000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Version of the features.
    pub version: u32,
    /// Version of the strategy.
    pub strategy: u32,
    /// Digests and compressions.
    pub mask: Mask,
}

/// A message for people: `OK`, or two stamps (wall clock and Lamport time of its first appearance) and a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Message {
    /// Nothing to say.
    #[default]
    Ok,
    /// Something is said, since then.
    Said {
        /// Wall clock, nanoseconds since the epoch.
        wall_ns: u64,
        /// Lamport time, nanoseconds since the epoch.
        lamport_ns: u64,
        /// The text.
        text: String,
    },
}

/// State of replay: `0` running, `1` done, `2` incomplete, a negative error number when the log is damaged; then
/// optionally the number of the cause, and one byte in hex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCode {
    /// The first number.
    pub code: i64,
    /// The second: what is wrong with the record.
    pub cause: Option<i64>,
    /// The third: the byte that was found instead. Printed only together with a cause and when it is not 0.
    pub byte: u8,
}

/// One permitted gap in the log numbers: the number it leads to, and a free text behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkipCheck {
    /// The log behind the gap.
    pub seq: u64,
    /// For people; does not begin with a digit.
    pub note: String,
}

/// Counts of the last sync: `<equal>,<unequal>` blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// Blocks that were equal already.
    pub equal: u64,
    /// Blocks that had to be copied.
    pub unequal: u64,
}

/// Identity of a cluster: `<host>_<sec.nsec>` of its creation, or `(any)` while a host is joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterId {
    /// Not known yet; accepts any cluster.
    Any,
    /// Created there and then.
    Created {
        /// The first host.
        by: Host,
        /// Lamport time in nanoseconds.
        ns: u64,
    },
}

/// A plain number from 0, as in sizes and counters.
///
/// # Errors
/// [`ValueError`] when there is anything but digits, superfluous zeros, or more than 64 bits.
pub fn number(text: &str) -> Result<u64, ValueError> {
    parse_number(text).ok_or_else(|| ValueError::new(text, "a number like 4096"))
}

/// `Display` and `FromStr` of a type from two functions and the form in words.
macro_rules! text_form {
    ($type:ty, $expected:literal, $print:expr, $parse:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let print: fn(&$type) -> String = $print;
                f.pad(&print(self))
            }
        }

        impl FromStr for $type {
            type Err = ValueError;
            fn from_str(text: &str) -> Result<Self, ValueError> {
                let parse: fn(&str) -> Option<$type> = $parse;
                parse(text).ok_or_else(|| ValueError::new(text, $expected))
            }
        }
    };
}

text_form!(OnOff, "0 or 1", |v| u8::from(v.0).to_string(), |text| {
    match text {
        "0" => Some(OnOff(false)),
        "1" => Some(OnOff(true)),
        _ => None,
    }
});

text_form!(
    MaybeHost,
    "a host name or (none)",
    |v| v.0.as_ref().map_or("(none)".to_owned(), Host::to_string),
    |text| match text {
        "(none)" => Some(MaybeHost(None)),
        name => Some(MaybeHost(Some(Host::new(name).ok()?))),
    }
);

text_form!(
    HostList,
    "host names separated by commas",
    |v| {
        let names: Vec<&str> = v.0.iter().map(Host::as_str).collect();
        names.join(",")
    },
    |text| match text {
        "" => Some(HostList::default()),
        names => {
            let hosts = names.split(',').map(|name| Host::new(name).ok());
            Some(HostList(hosts.collect::<Option<_>>()?))
        }
    }
);

text_form!(
    Mask,
    "a set of bits like 0x00040000",
    |v| format!("{:#010x}", v.0),
    |text| match text.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok().map(Mask),
        Some(_) => None,
        None => u32::try_from(parse_number(text)?).ok().map(Mask),
    }
);

text_form!(
    Features,
    "features like 4,5,0x071f0000",
    |v| format!("{},{},{}", v.version, v.strategy, v.mask),
    |text| {
        let (version, rest) = text.split_once(',')?;
        let (strategy, mask) = rest.split_once(',')?;
        Some(Features {
            version: parse_number(version)?.try_into().ok()?,
            strategy: parse_number(strategy)?.try_into().ok()?,
            mask: mask.parse().ok()?,
        })
    }
);

text_form!(
    Message,
    "OK, or two stamps and a text",
    |v| match v {
        Message::Ok => "OK".to_owned(),
        Message::Said {
            wall_ns,
            lamport_ns,
            text,
        } => {
            format!(
                "{} {} {text}",
                ns_to_text(*wall_ns),
                ns_to_text(*lamport_ns)
            )
        }
    },
    |text| {
        if text == "OK" {
            return Some(Message::Ok);
        }
        let (wall, rest) = text.split_once(' ')?;
        let (lamport, text) = rest.split_once(' ')?;
        Some(Message::Said {
            wall_ns: ns_from_text(wall).ok()?,
            lamport_ns: ns_from_text(lamport).ok()?,
            text: text.to_owned(),
        })
    }
);

text_form!(
    ReplayCode,
    "a replay code like 0 or -74,10101,0x1f",
    |v| match (v.cause, v.byte) {
        (None, _) => v.code.to_string(),
        (Some(cause), 0) => format!("{},{cause}", v.code),
        (Some(cause), byte) => format!("{},{cause},{byte:#04x}", v.code),
    },
    |text| {
        let mut parts = text.split(',');
        let code = parse_signed(parts.next()?)?;
        let cause = parts
            .next()
            .map_or(Some(None), |part| parse_signed(part).map(Some))?;
        let byte = match parts.next() {
            None => 0,
            Some(part) => {
                let hex = part
                    .strip_prefix("0x")
                    .filter(|hex| !hex.starts_with('+'))?;
                u8::from_str_radix(hex, 16).ok()?
            }
        };
        let end = parts.next().is_none();
        end.then_some(ReplayCode { code, cause, byte })
    }
);

text_form!(
    SkipCheck,
    "a log number and an optional text",
    |v| format!("{}{}", v.seq, v.note),
    |text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let seq = text[..digits].parse().ok()?;
        let note = text[digits..].to_owned();
        Some(SkipCheck { seq, note })
    }
);

text_form!(
    Verify,
    "two numbers like 1024,3",
    |v| format!("{},{}", v.equal, v.unequal),
    |text| {
        let (equal, unequal) = text.split_once(',')?;
        Some(Verify {
            equal: parse_number(equal)?,
            unequal: parse_number(unequal)?,
        })
    }
);

text_form!(
    ClusterId,
    "a cluster id like alpha_1700000000.000000001, or (any)",
    |v| match v {
        ClusterId::Any => "(any)".to_owned(),
        ClusterId::Created { by, ns } => format!("{by}_{}", ns_to_text(*ns)),
    },
    |text| match text {
        "(any)" => Some(ClusterId::Any),
        text => {
            let (by, stamp) = text.rsplit_once('_')?;
            Some(ClusterId::Created {
                by: Host::new(by).ok()?,
                ns: ns_from_text(stamp).ok()?,
            })
        }
    }
);

fn parse_signed(text: &str) -> Option<i64> {
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The texts are those of real trees; each must be printed back alike.
    fn check_texts<T>(texts: &[&str])
    where
        T: FromStr<Err = ValueError> + fmt::Display,
    {
        for text in texts {
            match text.parse::<T>() {
                Ok(value) => assert_eq!(value.to_string(), *text),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn check_refused<T: FromStr<Err = ValueError> + fmt::Debug>(texts: &[&str]) {
        for text in texts {
            let error = text.parse::<T>().expect_err(text);
            assert_eq!(error.found, *text);
        }
    }

    fn check_survives<T>(value: T) -> Result<(), TestCaseError>
    where
        T: FromStr<Err = ValueError> + fmt::Display + PartialEq + fmt::Debug,
    {
        prop_assert_eq!(value.to_string().parse(), Ok(value));
        Ok(())
    }

    #[test]
    fn texts_of_the_original_are_read_and_printed_alike() {
        check_texts::<OnOff>(&["0", "1"]);
        check_texts::<MaybeHost>(&["(none)", "alpha"]);
        check_texts::<HostList>(&["", "alpha", "beta,alpha"]);
        check_texts::<Mask>(&["0x00000000", "0x071f0000"]);
        check_texts::<Features>(&["4,5,0x071f0000"]);
        check_texts::<Message>(&["OK", "1.000000000 2.000000001 fetch, of log 7"]);
        check_texts::<ReplayCode>(&["0", "1", "2", "-74", "-74,10101", "-52,10021,0x05"]);
        check_texts::<SkipCheck>(&["7", "7 by set-replay"]);
        check_texts::<Verify>(&["1024,3"]);
        check_texts::<ClusterId>(&["(any)", "my_host_1700000000.000000001"]);
    }

    #[test]
    fn what_is_none_of_these_is_refused() {
        check_refused::<OnOff>(&["", "2", "on", "01"]);
        check_refused::<MaybeHost>(&["", "(none", "(any)", "a/b"]);
        check_refused::<HostList>(&[",", "a,", "a b"]);
        check_refused::<Mask>(&["", "0x", "0x+1", "0x123456789", "4294967296", "x"]);
        check_refused::<Features>(&["4,5", "4,5,", "4,x,0x0"]);
        check_refused::<Message>(&["", "ok", "1.0 2.0 x", "1.000000000 text"]);
        check_refused::<ReplayCode>(&["", "x", "1,", "1,2,3", "1,2,0x100", "1,2,0x01,4"]);
        check_refused::<SkipCheck>(&["", "x7", "99999999999999999999"]);
        check_refused::<Verify>(&["", "1", "1,2,3", "-1,0"]);
        check_refused::<ClusterId>(&["", "alpha", "alpha_1", "(none)"]);
        for text in ["", "-1", "007", "1k", "99999999999999999999"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_decimal_mask_is_read_too() {
        assert_eq!("262144".parse(), Ok(Mask(0x0004_0000)));
    }

    proptest! {
        #[test]
        fn plain_values_survive_their_text(
            a: u64, b: u64, c: i64, d: u32, byte: u8, on: bool, note in "(|[ a-z][ -~]{0,20})",
            hosts in prop::collection::vec("[a-z_][-a-z0-9_]{0,9}", 0..4),
        ) {
            let hosts: Vec<Host> = hosts.iter().map(|h| Host::new(h).expect("valid")).collect();
            check_survives(OnOff(on))?;
            check_survives(MaybeHost(hosts.first().cloned()))?;
            check_survives(Mask(d))?;
            check_survives(Features { version: d, strategy: !d, mask: Mask(d ^ 7) })?;
            check_survives(Message::Said { wall_ns: a, lamport_ns: b, text: note.clone() })?;
            check_survives(ReplayCode { code: c, cause: Some(c ^ 5), byte })?;
            check_survives(ReplayCode { code: c, cause: None, byte: 0 })?;
            check_survives(SkipCheck { seq: a, note })?;
            check_survives(Verify { equal: a, unequal: b })?;
            if let Some(by) = hosts.first().cloned() {
                check_survives(ClusterId::Created { by, ns: a })?;
            }
            check_survives(HostList(hosts))?;
        }
    }
}
