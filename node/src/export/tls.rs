//! TLS for NBD over TCP, with the certificates of the cluster.
//!
//! A client has to present a certificate of the cluster's authority, as a member does: whoever can
//! join the cluster can open its devices from afar, nobody else. Clients check this host's name as
//! it stands in its certificate, `<host>.<label of the cluster>.mars`.

use std::sync::Arc;

use certs::Identity;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::server::Stream;

/// What proves this host to NBD clients, and them to it. Cloning is cheap.
#[derive(Clone)]
pub struct NbdTls(TlsAcceptor);

/// TLS could not be set up with these certificates.
#[derive(Debug, thiserror::Error)]
#[error("TLS for NBD cannot be set up: {0}; look at the certificates below pki/")]
pub struct NbdTlsError(String);

impl NbdTls {
    /// With the certificate of this host, for clients with one of the same authority.
    pub fn new(
        identity: Arc<Identity>,
        authority: &CertificateDer<'static>,
    ) -> Result<Self, NbdTlsError> {
        let failed = |why: &dyn std::fmt::Display| NbdTlsError(why.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(|why| failed(&why))?;
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, certs::provider())
            .build()
            .map_err(|why| failed(&why))?;
        let config = ServerConfig::builder_with_provider(certs::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|why| failed(&why))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(identity);
        Ok(NbdTls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Encrypts a connection, as the server's side of it.
    pub(super) async fn accept<S: Stream>(&self, stream: S) -> std::io::Result<TlsStream<S>> {
        self.0.accept(stream).await
    }
}
