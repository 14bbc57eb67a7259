//! The member's side of joining: checks a claim, counts the token's use, issues the certificate.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::authority::request_key;
use certs::pki_dir::Member;
use certs::token_store::{Claim, TokenOrder};
use certs::{JoinToken, PkiError, TokenRefusal, TokenStore};
use quinn::Connection;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use tokio::time::timeout;
use tree::Host;

use super::{Envelope, JOIN_MAX, JoinRefusal, Papers, Reply, Request, VERSION, exporter, text};
use crate::dial::address_of;
use crate::frame::{self, Frame, Limits};
use crate::link::code;
use crate::net::BoxFuture;

/// A question is below 2 KiB.
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
