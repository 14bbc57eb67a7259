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

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::authority::request_key;
use certs::pki_dir::Member;
use certs::token::{EXPORTER_LABEL, TokenId, prove};
use certs::token_store::{Claim, TokenOrder};
use certs::{Authority, ClusterId, HostKey, JoinToken, PkiError, Proof, TokenRefusal, TokenStore};
use quinn::{ClientConfig, Connection, Endpoint};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tree::Host;

use crate::dial::address_of;
use crate::frame::{self, Frame, Limits};
use crate::line::Line;
use crate::link::code;
use crate::net::BoxFuture;
use crate::quic::endpoint;
use crate::tls::{self, FOREIGN_AUTHORITY};

/// Version of question and answer.
const VERSION: u32 = 1;

/// A join is over after this time at one address, however it ends.
const JOIN_MAX: Duration = Duration::from_secs(10);

/// Question and answer are below 10 KiB; the answer grows by some 40 bytes with every host.
const FRAME: Limits = Limits {
    head_max: 1 << 20,
    body_max: 0,
};
const QUESTION: Limits = Limits {
    head_max: 16 << 10,
    body_max: 0,
};

/// What only the running node knows about its cluster.
pub trait Membership: Send + Sync {
    /// The time of day, seconds since 1970.
    fn now_s(&self) -> u64;

    /// Address of each host which has one (`ips/ip-<host>`).
    fn addresses(&self) -> BTreeMap<Host, String>;

    /// How far the clock of a new host may be off, in seconds (`max_future`).
    fn clock_difference_max_s(&self) -> u64;

    /// Makes the new host known to the cluster (`ips/ip-<host>`), durably, before it learns that it was admitted.
    ///
    /// # Errors
    /// A sentence when that is not possible; the host may ask again with the same token.
    fn admit(&self, host: Host, address: String) -> BoxFuture<'_, Result<(), String>>;
}

/// Admits joining hosts at one member, and issues the tokens for it.
pub struct JoinDesk {
    member: Arc<Member>,
    tokens: Arc<TokenStore>,
    membership: Arc<dyn Membership>,
}

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

/// Why a join did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The issuer said no.
    #[error("join refused: {0}")]
    Refused(JoinRefusal),
    /// Somebody answers there, but it is not the cluster the token is for. Nothing was sent.
    #[error(
        "the host at {address} belongs to another cluster than the token (cluster {cluster}); check the address"
    )]
    ForeignCluster {
        /// Where we asked.
        address: String,
        /// The cluster in the token.
        cluster: String,
    },
    /// Nobody answers at any address.
    #[error("{issuer} does not answer at {address}: {why}")]
    Unreachable {
        /// The host asked.
        issuer: String,
        /// Where we asked last.
        address: String,
        /// What happened.
        why: String,
    },
    /// The answer is not what it should be.
    #[error("the answer of {issuer} is not understood: {why}")]
    BadAnswer {
        /// The host asked.
        issuer: String,
        /// What is wrong with it.
        why: String,
    },
    /// Keys or certificates on this side.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// What a new host asks for.
pub struct JoinOrder<'a> {
    /// The token.
    pub token: &'a JoinToken,
    /// Where to ask instead of the addresses in the token ("address" or "address:port").
    pub ask_at: Option<String>,
    /// The name this host wants.
    pub host: &'a str,
    /// Where this host will listen.
    pub address: &'a str,
    /// This host's key ([`certs::PkiDir::host_key`]).
    pub key: &'a HostKey,
    /// This host's time of day, seconds since 1970.
    pub now_s: u64,
}

/// What an admitted host gets.
#[derive(Debug)]
pub struct Admitted {
    /// The authority with its key, for [`certs::PkiDir::install_joined`].
    pub authority: Authority,
    /// This host's certificate.
    pub cert: CertificateDer<'static>,
    /// Addresses of all hosts of the cluster, this one among them.
    pub addresses: BTreeMap<Host, String>,
    /// The host which admitted us.
    pub issuer: Host,
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

// ---- the member's side ----

/// A joining host, as far as its claim was found true.
struct Applicant {
    host: Host,
    address: String,
    key: CertificateSigningRequestDer<'static>,
}

impl JoinDesk {
    /// The desk of a member. `tokens` comes from [`certs::PkiDir::tokens`].
    pub fn new(
        member: Arc<Member>,
        tokens: TokenStore,
        membership: Arc<dyn Membership>,
    ) -> Arc<JoinDesk> {
        Arc::new(JoinDesk {
            member,
            tokens: Arc::new(tokens),
            membership,
        })
    }

    /// A new token, valid for `ttl_s` seconds and `uses` hosts, naming the addresses where this host listens.
    ///
    /// # Errors
    /// [`PkiError`] when it cannot be kept.
    pub fn issue_token(
        &self,
        addresses: Vec<String>,
        ttl_s: u64,
        uses: u32,
    ) -> Result<JoinToken, PkiError> {
        let order = TokenOrder {
            cluster: self.member.cluster().clone(),
            pin: self.member.authority.pin()?,
            issuer: self.member.host.clone(),
            addresses,
            ttl_s,
            uses,
        };
        self.tokens.issue(order, self.membership.now_s())
    }

    async fn reply(self: Arc<JoinDesk>, envelope: Envelope, exporter: [u8; 32]) -> Reply {
        let desk = self.clone();
        // Files are written and flushed.
        let judging = tokio::task::spawn_blocking(move || desk.judge(&envelope, &exporter)).await;
        let not_now = |why: String| JoinRefusal::NotNow {
            issuer: self.member.host.clone(),
            why,
        };
        let judged = judging.unwrap_or_else(|e| Err(not_now(e.to_string())));
        let (applicant, cert) = match judged {
            Ok(admitted) => admitted,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let host = applicant.host.clone();
        let made_known = self
            .membership
            .admit(host.clone(), applicant.address.clone());
        if let Err(why) = made_known.await {
            return Reply::Refused(not_now(why));
        }
        tracing::info!(%host, address = applicant.address, "host joined");
        self.papers(&applicant, &cert)
            .unwrap_or_else(|e| Reply::Refused(not_now(e)))
    }

    /// All checks, from the cheapest to the one that counts a use.
    fn judge(
        &self,
        envelope: &Envelope,
        exporter: &[u8; 32],
    ) -> Result<(Applicant, CertificateDer<'static>), JoinRefusal> {
        let request: Request = frame::from_head(&envelope.request).map_err(bad_request)?;
        let now_s = self.membership.now_s();
        let applicant = self.check_request(&request)?;
        let key = request_key(&applicant.key).map_err(bad_request)?;
        let claim = Claim {
            id: envelope.token,
            proof: &envelope.proof,
            exporter,
            request: &envelope.request,
            host: &request.host,
            key,
        };
        self.check_token(self.tokens.check(&claim, now_s))?;
        self.check_clock(&request, now_s)?;
        let is_known = self.tokens.has_joined(&request.host, key);
        let is_known = is_known.map_err(|e| self.not_now(&e))?;
        self.check_not_taken(&applicant, is_known)?;
        self.check_token(self.tokens.redeem(&claim, now_s))?;
        let authority = &self.member.authority;
        let cert = authority.issue(&request.host, &applicant.key, now_s);
        Ok((applicant, cert.map_err(|e| self.not_now(&e))?))
    }

    fn check_request(&self, request: &Request) -> Result<Applicant, JoinRefusal> {
        if request.version < VERSION {
            return Err(bad_request("it is of an older version of this program"));
        }
        let ours = self.member.cluster();
        if request.cluster != ours.as_str() {
            return Err(JoinRefusal::ForeignCluster {
                ours: ours.to_string(),
                theirs: request.cluster.clone(),
            });
        }
        ours.dns_name(&request.host).map_err(bad_request)?;
        if address_of(&request.address).is_none() {
            let why = format!("{:?} is no address", request.address);
            return Err(bad_request(why));
        }
        Ok(Applicant {
            host: Host::new(&request.host).map_err(bad_request)?,
            address: request.address.clone(),
            key: request.key.to_vec().into(),
        })
    }

    fn check_token(
        &self,
        outcome: Result<Result<(), TokenRefusal>, PkiError>,
    ) -> Result<(), JoinRefusal> {
        let refusal = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refusal)) => refusal,
            Err(e) => return Err(self.not_now(&e)),
        };
        Err(match refusal {
            TokenRefusal::Wrong => JoinRefusal::WrongToken {
                issuer: self.member.host.clone(),
            },
            TokenRefusal::Used { by } => JoinRefusal::UsedToken { by },
            TokenRefusal::Expired { ago_s } => JoinRefusal::ExpiredToken { ago_s },
            TokenRefusal::NameGiven { host } => JoinRefusal::NameTaken {
                host,
                address: "an address not known yet".to_owned(),
            },
        })
    }

    fn check_clock(&self, request: &Request, now_s: u64) -> Result<(), JoinRefusal> {
        let max_s = self.membership.clock_difference_max_s();
        if request.now_s.abs_diff(now_s) <= max_s {
            return Ok(());
        }
        Err(JoinRefusal::ClockFarOff {
            host: request.host.clone(),
            issuer: self.member.host.clone(),
            there_s: request.now_s,
            here_s: now_s,
            max_s,
        })
    }

    fn check_not_taken(&self, applicant: &Applicant, is_known: bool) -> Result<(), JoinRefusal> {
        let wanted = address_of(&applicant.address);
        for (host, address) in self.membership.addresses() {
            if host == applicant.host && !is_known {
                return Err(JoinRefusal::NameTaken {
                    host: host.to_string(),
                    address,
                });
            }
            if host != applicant.host && address_of(&address) == wanted {
                return Err(JoinRefusal::AddressTaken {
                    address,
                    by: host.to_string(),
                });
            }
        }
        Ok(())
    }

    fn papers(&self, applicant: &Applicant, cert: &CertificateDer<'_>) -> Result<Reply, String> {
        let mut addresses = self.membership.addresses();
        addresses.insert(applicant.host.clone(), applicant.address.clone());
        Ok(Reply::Admitted(Papers {
            cert: cert.to_vec().into(),
            authority_cert: self.member.authority.cert().to_vec().into(),
            authority_key: self.member.authority.key_pem(),
            cluster: self.member.cluster().to_string(),
            issuer: Host::new(&self.member.host).map_err(|e| e.to_string())?,
            addresses,
        }))
    }

    fn not_now(&self, why: &PkiError) -> JoinRefusal {
        JoinRefusal::NotNow {
            issuer: self.member.host.clone(),
            why: why.to_string(),
        }
    }
}

fn bad_request(why: impl ToString) -> JoinRefusal {
    JoinRefusal::BadRequest {
        why: why.to_string(),
    }
}

/// Serves one joining host and hangs up.
pub(crate) async fn serve(connection: Connection, desk: Option<Arc<JoinDesk>>) {
    let Some(desk) = desk else {
        return connection.close(code::NOT_A_PEER, b"no hosts are admitted here");
    };
    if let Ok(Err(why)) = timeout(JOIN_MAX, serve_one(&connection, desk)).await {
        tracing::info!(from = %connection.remote_address(), why, "join broke off");
    }
    connection.close(code::SHUTDOWN, b"");
}

async fn serve_one(connection: &Connection, desk: Arc<JoinDesk>) -> Result<(), String> {
    let (mut tx, mut rx) = connection.accept_bi().await.map_err(text)?;
    let question = frame::read_frame(&mut rx, QUESTION).await.map_err(text)?;
    let envelope = frame::from_head(&question.head).map_err(text)?;
    let reply = desk.reply(envelope, exporter(connection)?).await;
    if let Reply::Refused(refusal) = &reply {
        tracing::warn!(from = %connection.remote_address(), %refusal, "join refused");
    }
    let frame = Frame::of(&reply).map_err(text)?;
    frame::write_frame(&mut tx, &frame).await.map_err(text)?;
    tx.finish().map_err(text)?;
    // Hanging up now could overtake the answer.
    tx.stopped().await.map(|_| ()).map_err(text)
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

// ---- the new host's side ----

/// Asks the issuer of a token for admission. Changes nothing on disk; [`certs::PkiDir::install_joined`] keeps the outcome.
/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`JoinError`].
pub async fn join(order: &JoinOrder<'_>) -> Result<Admitted, JoinError> {
    let addresses = match &order.ask_at {
        Some(address) => vec![address.clone()],
        None => order.token.addresses.clone(),
    };
    let mut last = unreachable(order, "", "the token names no address");
    for address in addresses {
        match ask(order, &address).await {
            Err(e @ JoinError::Unreachable { .. }) => last = e,
            outcome => return outcome,
        }
    }
    Err(last)
}

async fn ask(order: &JoinOrder<'_>, address: &str) -> Result<Admitted, JoinError> {
    let at = address_of(address).ok_or_else(|| unreachable(order, address, "no IP address"))?;
    let broken = |why: String| unreachable(order, address, &why);
    let endpoint = endpoint(any_port(at), &Line::default()).map_err(|e| broken(e.to_string()))?;
    let asked = timeout(JOIN_MAX, converse(order, &endpoint, at, address)).await;
    endpoint.close(code::SHUTDOWN, b"");
    let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    asked.unwrap_or_else(|_| Err(broken("no answer in time".to_owned())))
}

async fn converse(
    order: &JoinOrder<'_>,
    endpoint: &Endpoint,
    at: SocketAddr,
    address: &str,
) -> Result<Admitted, JoinError> {
    let broken = |why: String| unreachable(order, address, &why);
    let name = order.token.cluster.dns_name(&order.token.issuer)?;
    let tls = tls::joining_client(order.token.pin).map_err(|e| broken(e.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Line::default().settings(at.ip()));
    let connecting = endpoint.connect_with(config, at, &name);
    let connection = connecting.map_err(|e| broken(e.to_string()))?.await;
    let connection = connection.map_err(|e| match e.to_string() {
        why if why.contains(FOREIGN_AUTHORITY) => JoinError::ForeignCluster {
            address: address.to_owned(),
            cluster: order.token.cluster.to_string(),
        },
        why => broken(why),
    })?;
    // The authority is proven; now the secret may be used.
    let envelope = envelope(order, &exporter(&connection).map_err(broken)?)?;
    let (mut tx, mut rx) = connection.open_bi().await.map_err(|e| broken(text(e)))?;
    let frame = Frame::of(&envelope).map_err(|e| broken(text(e)))?;
    let written = frame::write_frame(&mut tx, &frame).await;
    written.map_err(|e| broken(text(e)))?;
    let answer = frame::read_frame(&mut rx, FRAME).await;
    let answer = answer.map_err(|e| broken(text(e)))?;
    // Everything has arrived; the issuer waits for this.
    let _ = tokio::io::AsyncReadExt::read(&mut rx, &mut [0]).await;
    read_reply(order, &answer)
}

fn envelope(order: &JoinOrder<'_>, exporter: &[u8; 32]) -> Result<Envelope, JoinError> {
    let request = Request {
        version: VERSION,
        cluster: order.token.cluster.to_string(),
        host: order.host.to_owned(),
        address: order.address.to_owned(),
        key: order.key.request()?.to_vec().into(),
        now_s: order.now_s,
    };
    let request = frame::to_head(&request).map_err(|e| bad_answer(order, e))?;
    Ok(Envelope {
        token: order.token.id,
        proof: prove(&order.token.secret, exporter, &request),
        request,
    })
}

fn read_reply(order: &JoinOrder<'_>, answer: &Frame) -> Result<Admitted, JoinError> {
    let reply = frame::from_head(&answer.head).map_err(|e| bad_answer(order, e))?;
    let papers = match reply {
        Reply::Admitted(papers) => papers,
        Reply::Refused(refusal) => return Err(JoinError::Refused(refusal)),
    };
    let cluster: ClusterId = papers.cluster.parse()?;
    if cluster != order.token.cluster {
        return Err(bad_answer(order, format!("it speaks of cluster {cluster}")));
    }
    let authority_cert = CertificateDer::from(papers.authority_cert.to_vec());
    let authority = Authority::from_parts(cluster, authority_cert, &papers.authority_key)?;
    if authority.pin()? != order.token.pin {
        return Err(bad_answer(order, "it brings another authority"));
    }
    let cert = CertificateDer::from(papers.cert.to_vec());
    let name = certs::host_cert::host_of(&cert, authority.cluster())?;
    if name != order.host {
        return Err(bad_answer(order, format!("its certificate is for {name}")));
    }
    Ok(Admitted {
        authority,
        cert,
        addresses: papers.addresses,
        issuer: papers.issuer,
    })
}

fn unreachable(order: &JoinOrder<'_>, address: &str, why: &str) -> JoinError {
    JoinError::Unreachable {
        issuer: order.token.issuer.clone(),
        address: address.to_owned(),
        why: why.to_owned(),
    }
}

fn bad_answer(order: &JoinOrder<'_>, why: impl ToString) -> JoinError {
    JoinError::BadAnswer {
        issuer: order.token.issuer.clone(),
        why: why.to_string(),
    }
}

fn any_port(towards: SocketAddr) -> SocketAddr {
    let any = match towards.ip() {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    SocketAddr::new(any, 0)
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
