//! Values that are positions: how far a disk has come, and how a log hangs together with the one before.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest128;
use crate::log_name::{LogName, LogPos, cut, parse_number};
use crate::value::ValueError;

/// How far a member's disk has come: everything of `log` below `offset` is on it, and of the `dirty` bytes behind
/// that some may be. Text: `log-000000001-alpha,<offset>,<dirty>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplayPos {
    /// The log.
    pub log: LogName,
    /// Everything before it is on the disk.
    pub offset: u64,
    /// Bytes behind `offset` which may be on the disk in part; 0 means the disk is a state of the past.
    pub dirty: u64,
}

impl ReplayPos {
    /// Up to where the disk holds everything.
    pub fn clean(&self) -> LogPos {
        self.log.at(self.offset)
    }

    /// Up to where the disk may hold something.
    pub fn dirty_end(&self) -> LogPos {
        self.log.at(self.offset.saturating_add(self.dirty))
    }
}

impl fmt::Display for ReplayPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.log, self.offset, self.dirty)
    }
}

impl FromStr for ReplayPos {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parse = || {
            let (log, rest) = cut(text, b',')?;
            let (offset, dirty) = cut(rest, b',')?;
            let (offset, dirty) = (parse_number(offset)?, parse_number(dirty)?);
            offset.checked_add(dirty)?;
            let log = log.parse().ok()?;
            Some(ReplayPos { log, offset, dirty })
        };
        parse().ok_or_else(|| {
            ValueError::new(text, "a replay position like log-000000001-alpha,4096,0")
        })
    }
}

/// What one host knows about one log, chained to the log before: digest of the contents up to `len`, and the same of
/// the predecessor. Text: `<32 hex>,log-000000002-alpha,<len>:<32 hex>,log-000000001-alpha,<len>`, the part behind
/// the colon empty where there is no predecessor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionLink {
    /// Chained digest at `len`.
    pub digest: Digest128,
    /// The log.
    pub log: LogName,
    /// Durable bytes of it at that host, at a record boundary.
    pub len: u64,
    /// The same three of the log before, at its end.
    pub pred: Option<(Digest128, LogName, u64)>,
}

impl VersionLink {
    /// How far the host had this log.
    pub fn end(&self) -> LogPos {
        self.log.at(self.len)
    }

    /// The part before the colon, which the successor repeats behind its colon.
    pub fn as_pred(&self) -> (Digest128, LogName, u64) {
        (self.digest, self.log.clone(), self.len)
    }

    /// Does it say that there never was such a log? So a primary marks that it wrote past its log (lesson L-B4).
    pub fn is_hole(&self) -> bool {
        self.digest.is_zero() && self.len == 0 && self.pred.is_none()
    }
}

impl fmt::Display for VersionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}:", self.digest, self.log, self.len)?;
        match &self.pred {
            Some((digest, log, len)) => write!(f, "{digest},{log},{len}"),
            None => Ok(()),
        }
    }
}

impl FromStr for VersionLink {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parse = || {
            let (own, before) = cut(text, b':')?;
            let (digest, log, len) = parse_link(own)?;
            let pred = match before {
                "" => None,
                before => Some(parse_link(before)?),
            };
            Some(VersionLink {
                digest,
                log,
                len,
                pred,
            })
        };
        parse().ok_or_else(|| {
            let expected = "a version link like <32 hex>,log-000000002-alpha,4096:<32 hex>,log-000000001-alpha,512";
            ValueError::new(text, expected)
        })
    }
}

fn parse_link(text: &str) -> Option<(Digest128, LogName, u64)> {
    let (digest, rest) = cut(text, b',')?;
    let (log, len) = cut(rest, b',')?;
    Some((digest.parse().ok()?, log.parse().ok()?, parse_number(len)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::Host;

    prop_compose! {
        fn logs()(seq in 1u64..2_000_000_000, host in "[a-z][-a-z0-9]{0,8}") -> LogName {
            LogName { seq, creator: Host::new(&host).expect("valid") }
        }
    }

    fn check_refused(text: &str) {
        let error = text.parse::<ReplayPos>().expect_err("must be refused");
        assert!(
            error.to_string().contains("expected a replay position"),
            "{error}"
        );
        let error = text.parse::<VersionLink>().expect_err("must be refused");
        assert!(
            error.to_string().contains("expected a version link"),
            "{error}"
        );
    }

    #[test]
    fn positions_of_the_original_are_read_and_printed_alike() {
        let text = "log-000000001-hostA,1000,24";
        let pos: ReplayPos = text.parse().expect("valid");
        assert_eq!(pos.to_string(), text);
        assert_eq!(pos.clean().to_string(), "log-000000001-hostA@1000");
        assert_eq!(pos.dirty_end().to_string(), "log-000000001-hostA@1024");

        let text = "526cddfc5727119be80e89ddbb0b2dd8,log-000000002-hostA,4096:\
                    c29c2bc4b233609238ff5e47a16cc00c,log-000000001-hostA,1000";
        let link: VersionLink = text.parse().expect("valid");
        assert_eq!(link.to_string(), text);
        assert_eq!(link.end().to_string(), "log-000000002-hostA@4096");
        let first = "c29c2bc4b233609238ff5e47a16cc00c,log-000000001-hostA,1000:";
        let first: VersionLink = first.parse().expect("valid");
        assert_eq!(link.pred, Some(first.as_pred()));
    }

    #[test]
    fn what_is_no_position_is_refused_with_what_was_expected() {
        for text in [
            "",
            "log-000000001-hostA",
            "log-000000001-hostA,1000",
            "log-000000001-hostA,1000,24,7",
            "log-000000001-hostA,-1,0",
            "log-000000001-hostA,18446744073709551615,1",
            "log-1-hostA,1000,24",
            "00000000000000000000000000000000,log-000000001-hostA,0",
            "00000000000000000000000000000000,log-000000001-hostA,0:x",
        ] {
            check_refused(text);
        }
        let error = "x"
            .repeat(5000)
            .parse::<ReplayPos>()
            .expect_err("must be refused");
        assert!(error.to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn positions_survive_their_text(log in logs(), offset in 0..u64::MAX / 2, dirty in 0..u64::MAX / 2) {
            let pos = ReplayPos { log, offset, dirty };
            prop_assert_eq!(pos.to_string().parse(), Ok(pos));
        }

        #[test]
        fn version_links_survive_their_text(
            digest: [u8; 16], log in logs(), len: u64,
            pred in prop::option::of((any::<[u8; 16]>(), logs(), any::<u64>())),
        ) {
            let digest = Digest128(digest);
            let pred = pred.map(|(digest, log, len)| (Digest128(digest), log, len));
            let link = VersionLink { digest, log, len, pred };
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }
    }
}
