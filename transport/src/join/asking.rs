//! The new host's side of joining: proves the authority first, then asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::token::prove;
use certs::{Authority, ClusterId, HostKey, JoinToken, PkiError};
use quinn::{ClientConfig, Endpoint};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use tree::Host;

use super::{Envelope, JOIN_MAX, JoinRefusal, Reply, Request, VERSION, exporter, text};
use crate::dial::address_of;
use crate::frame::{self, Frame, Limits};
use crate::line::Line;
use crate::link::code;
use crate::quic::endpoint;
use crate::tls::{self, FOREIGN_AUTHORITY};

/// The answer is below 10 KiB; it grows by some 40 bytes with every host.
const ANSWER: Limits = Limits {
    head_max: 1 << 20,
    body_max: 0,
};

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
    let answer = frame::read_frame(&mut rx, ANSWER).await;
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
