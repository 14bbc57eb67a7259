//! Joining: how a host without a certificate gets one, and nobody else does.
//!
//! The new host connects with the protocol name `mars-join/1` and makes sure that the other side holds a certificate of the
//! authority in its token before it says anything. Then one question and one answer:
//!
//! ```text
//! new host → issuer   token id, proof, request { cluster, name, address, key, clock }
//! issuer → new host   admitted { certificate, authority with its key, cluster, addresses of all hosts } or refused
//! ```
//!
//! The proof is an HMAC by the token's secret over this TLS connection and the request. The issuer names the host
//! itself; what else stands in the signing request does not matter. Every refusal has its own reason.

mod asking;
mod desk;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use certs::Proof;
use certs::token::{EXPORTER_LABEL, TokenId};
use quinn::Connection;
use serde::{Deserialize, Serialize};
use tree::Host;

pub use asking::{Admitted, JoinError, JoinOrder, join};
pub(crate) use desk::serve;
pub use desk::{JoinDesk, Membership};

/// Version of question and answer.
const VERSION: u32 = 1;

/// A join is over after this time at one address, however it ends.
const JOIN_MAX: Duration = Duration::from_secs(10);

/// Why a host was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    /// The token is for another cluster.
    #[error("the token is for cluster {theirs}, but this is cluster {ours}")]
    ForeignCluster {
        /// The cluster asked.
        ours: String,
        /// The cluster in the token.
        theirs: String,
    },
    /// Unknown token or wrong secret.
    #[error(
        "the token was not issued by {issuer}, or is not complete; get a new one there with `mars cluster token`"
    )]
    WrongToken {
        /// The host asked.
        issuer: String,
    },
    /// As often used as it may.
    #[error("the token was already used by {by}; get a new one with `mars cluster token`")]
    UsedToken {
        /// Hosts admitted with it.
        by: String,
    },
    /// Too late.
    #[error("the token expired {ago_s} s ago; get a new one with `mars cluster token`")]
    ExpiredToken {
        /// How late.
        ago_s: u64,
    },
    /// The host name belongs to another machine.
    #[error(
        "the name {host} is taken by the host at {address}; choose another one, or remove that host with `marsadm leave-cluster --host={host}`"
    )]
    NameTaken {
        /// The name.
        host: String,
        /// Where its holder listens.
        address: String,
    },
    /// The address belongs to another host.
    #[error("the address {address} is taken by host {by}; give another one with --ip")]
    AddressTaken {
        /// The address.
        address: String,
        /// Its holder.
        by: String,
    },
    /// The clocks differ too much.
    #[error("the clock of {host} says {} and that of {issuer} {}, more than {max_s} s apart; set the wrong one first", utc(*there_s), utc(*here_s))]
    ClockFarOff {
        /// The new host.
        host: String,
        /// The host asked.
        issuer: String,
        /// The new host's time, seconds since 1970.
        there_s: u64,
        /// The asked host's time, seconds since 1970.
        here_s: u64,
        /// What is allowed.
        max_s: u64,
    },
    /// The request itself is wrong.
    #[error("the request is wrong: {why}")]
    BadRequest {
        /// What is wrong with it.
        why: String,
    },
    /// The issuer has a problem of its own.
    #[error("{issuer} cannot admit hosts now: {why}")]
    NotNow {
        /// The host asked.
        issuer: String,
        /// Its problem.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    token: TokenId,
    proof: Proof,
    request: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Request {
    version: u32,
    cluster: String,
    host: String,
    address: String,
    key: Bytes,
    now_s: u64,
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Admitted(Papers),
    Refused(JoinRefusal),
}

#[derive(Serialize, Deserialize)]
struct Papers {
    cert: Bytes,
    authority_cert: Bytes,
    authority_key: String,
    cluster: String,
    issuer: Host,
    addresses: BTreeMap<Host, String>,
}

fn exporter(connection: &Connection) -> Result<[u8; 32], String> {
    let mut out = [0; 32];
    connection
        .export_keying_material(&mut out, EXPORTER_LABEL, b"")
        .map_err(|_| "TLS exports no keying material".to_owned())?;
    Ok(out)
}

fn text(e: impl ToString) -> String {
    e.to_string()
}

/// Seconds since 1970 as date and time of day in UTC.
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 1 March of year 0, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_people_write_it() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_800_000_000), "2027-01-15 08:00:00 UTC");
        assert_eq!(utc(32_503_680_000), "3000-01-01 00:00:00 UTC");
    }
}
