//! Feature flags: which digests and compressions a host knows, may use, uses.
//!
//! Reads the triples `actual-<host>/features` and `usable` (`<features>,<strategy>,0x<mask>`), the masks `used-…` there
//! and those of the cluster below `defaults/`.

use super::eval::{Eval, Stop};

/// (bit, name), ascending.
const FLAGS: [(u64, &str); 8] = [
    (0x0001_0000, "CHKSUM_MD5_OLD"),
    (0x0002_0000, "CHKSUM_MD5"),
    (0x0004_0000, "CHKSUM_CRC32C"),
    (0x0008_0000, "CHKSUM_CRC32"),
    (0x0010_0000, "CHKSUM_SHA1"),
    (0x0100_0000, "COMPRESS_LZO"),
    (0x0200_0000, "COMPRESS_LZ4"),
    (0x0400_0000, "COMPRESS_ZLIB"),
];

/// Where a mask comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Every flag there is.
    Potential,
    /// `actual-<host>/features`.
    Implemented,
    /// `actual-<host>/usable`.
    Usable,
    /// `actual-<host>/used-…`.
    Used(&'static str),
    /// `defaults/…`.
    Default(&'static str),
}

/// Which flags of it are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    Digests,
    Compressions,
}

/// A named selection of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagSet {
    source: Source,
    part: Part,
}

const USED: [&str; 4] = [
    "used-log-digest",
    "used-net-digest",
    "used-log-compression",
    "used-net-compression",
];
const DEFAULTS: [&str; 4] = [
    "enabled-log-compressions",
    "enabled-net-compressions",
    "disabled-log-digests",
    "disabled-net-digests",
];

impl FlagSet {
    /// All selections with the names of their primitives.
    pub fn all() -> Vec<(FlagSet, String)> {
        let mut all = Vec::new();
        let mut add = |source, part, name: String| all.push((FlagSet { source, part }, name));
        add(
            Source::Potential,
            Part::All,
            "potential-features".to_owned(),
        );
        for (source, word) in [
            (Source::Implemented, "implemented"),
            (Source::Usable, "usable"),
        ] {
            add(source, Part::All, format!("{word}-features"));
            add(source, Part::Digests, format!("{word}-digests"));
            add(source, Part::Compressions, format!("{word}-compressions"));
        }
        for name in USED {
            add(Source::Used(name), Part::All, name.to_owned());
        }
        for name in DEFAULTS {
            add(Source::Default(name), Part::All, name.to_owned());
        }
        all
    }
}

/// The names of the flags, joined with `|`. Unknown bits are shown only in masks which somebody has set.
pub fn names(eval: &Eval<'_>, set: FlagSet) -> String {
    let host = eval.var("host");
    let (mask, all_bits) = match set.source {
        Source::Potential => (u64::MAX, false),
        Source::Implemented => (third(eval, "features"), false),
        Source::Usable => (third(eval, "usable"), false),
        Source::Used(key) => (mask(eval.world.text(&format!("actual-{host}/{key}"))), true),
        Source::Default(key) => (mask(eval.world.text(&format!("defaults/{key}"))), true),
    };
    let mut found: Vec<String> = FLAGS
        .iter()
        .filter(|(bit, name)| mask & bit != 0 && belongs(set.part, name))
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let unknown = FLAGS.iter().fold(mask, |rest, (bit, _)| rest & !bit);
    if all_bits && unknown != 0 {
        found.push(format!("0x{unknown:08x}"));
    }
    found.join("|")
}

fn belongs(part: Part, name: &str) -> bool {
    match part {
        Part::All => true,
        Part::Digests => name.starts_with("CHKSUM_"),
        Part::Compressions => name.starts_with("COMPRESS_"),
    }
}

/// The mask in a triple.
fn third(eval: &Eval<'_>, key: &str) -> u64 {
    let triple = eval
        .world
        .text(&format!("actual-{}/{key}", eval.var("host")));
    mask(triple.rsplit(',').next().unwrap_or(""))
}

/// Decimal, or hexadecimal behind `0x`; anything else is no flag at all.
fn mask(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap_or(0),
        None => text.parse().unwrap_or(0),
    }
}

/// `features-version`: the triple as stored.
pub fn version(eval: &mut Eval<'_>, _args: &[String]) -> Result<String, Stop> {
    let key = format!("actual-{}/features", eval.var("host"));
    Ok(eval.world.text(&key).to_owned())
}
