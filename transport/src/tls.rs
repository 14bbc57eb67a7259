//! Mutual authentication: TLS 1.3 settings for members and for joining hosts.
//!
//! A member presents its certificate and accepts whoever presents one of the same authority; the host name in it is
//! checked after the handshake, exactly and with its case. A joining host has no certificate yet: it may only
//! ask to join ([`crate::join`]), and it accepts whoever proves the authority in its token.

use std::sync::Arc;

use certs::{CaPin, Identity};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// Protocol name between members.
pub const ALPN_PEER: &[u8] = b"mars/1";
/// Protocol name of a host that wants to become one.
pub const ALPN_JOIN: &[u8] = b"mars-join/1";

/// TLS could not be set up with these certificates.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

fn failed(why: impl ToString) -> TlsError {
    TlsError(why.to_string())
}

fn trust(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(failed)?;
    Ok(Arc::new(roots))
}

/// For connections that come in: members with, joining hosts without a certificate. Which of the two it is, is
/// looked at right after the handshake.
///
/// # Errors
/// [`TlsError`] when the certificates are unusable.
pub fn server(
    identity: Arc<Identity>,
    authority: &CertificateDer<'static>,
) -> Result<QuicServerConfig, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(trust(authority)?, certs::provider())
            .allow_unauthenticated()
            .build()
            .map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_JOIN.to_vec()];
    // Every connection proves itself anew, so a withdrawn certificate is not carried on by a ticket.
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(Arc::new(config)).map_err(failed)
}

/// For connections to members.
///
/// # Errors
/// [`TlsError`] when the certificates are unusable.
pub fn client(
    identity: Arc<Identity>,
    authority: &CertificateDer<'static>,
) -> Result<QuicClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_root_certificates(trust(authority)?)
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN_PEER.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    QuicClientConfig::try_from(Arc::new(config)).map_err(failed)
}

/// For a host that wants to join: accepts only the authority with this pin.
///
/// # Errors
/// [`TlsError`] when TLS cannot be set up at all.
pub fn joining_client(pin: CaPin) -> Result<QuicClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    QuicClientConfig::try_from(Arc::new(config)).map_err(failed)
}

/// Accepts a member of the cluster whose authority has this pin, and nobody else. The time of day is not looked at
/// here: a joining host's clock may be wrong, and is told so in a sentence later.
#[derive(Debug)]
struct Pinned {
    pin: CaPin,
}

/// What a joining host reports when the pin does not match.
pub(crate) const FOREIGN_AUTHORITY: &str = "authority is not the one in the token";

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let foreign = || rustls::Error::General(FOREIGN_AUTHORITY.to_owned());
        let matches =
            |cert: &&CertificateDer<'_>| CaPin::of_cert(cert).is_ok_and(|p| p == self.pin);
        let authority = intermediates.iter().find(matches).ok_or_else(foreign)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), certs::provider())
            .build()
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let held = certs::host_cert::validity(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(held.from_s));
        inner.verify_server_cert(end_entity, &[], server_name, ocsp_response, then)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = certs::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        certs::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
