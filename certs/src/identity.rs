//! The certificate in use: exchanged while running, without touching a connection.
//!
//! New handshakes present the new certificate, connections that exist live on with the old one.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::PkiError;
use crate::host_cert::HostKey;

/// This host's certificate chain and key, for both directions of TLS.
pub struct Identity {
    current: ArcSwap<CertifiedKey>,
}

impl Identity {
    /// The identity of a host: its certificate, followed by the authority's so that a joining host can check
    /// the pin.
    ///
    /// # Errors
    /// [`PkiError::Unusable`] when key and certificate do not belong together.
    pub fn new(
        key: &HostKey,
        cert: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Arc<Identity>, PkiError> {
        let current = ArcSwap::from_pointee(certified(key, cert, authority)?);
        Ok(Arc::new(Identity { current }))
    }

    /// Presents another certificate from now on.
    ///
    /// # Errors
    /// [`PkiError::Unusable`] when key and certificate do not belong together; the old one stays.
    pub fn replace(
        &self,
        key: &HostKey,
        cert: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<(), PkiError> {
        self.current
            .store(Arc::new(certified(key, cert, authority)?));
        Ok(())
    }

    /// The certificate presented now.
    pub fn cert(&self) -> Option<CertificateDer<'static>> {
        self.current.load().cert.first().cloned()
    }
}

fn certified(
    key: &HostKey,
    cert: CertificateDer<'static>,
    authority: CertificateDer<'static>,
) -> Result<CertifiedKey, PkiError> {
    CertifiedKey::from_der(vec![cert, authority], key.der(), &crate::provider())
        .map_err(|e| PkiError::Unusable(e.to_string()))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
