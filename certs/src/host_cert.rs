//! One host's key and certificate: make the request, read the name back, decide when to renew.

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;

use crate::authority::{CaPin, ClusterId, check_host, new_key};
use crate::error::PkiError;

/// The private key of a host. Kept over renewals, so a crash can never leave a certificate without its key.
pub struct HostKey(KeyPair);

/// From when to when a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from_s: u64,
    /// Last second.
    pub until_s: u64,
}

/// What to do about a certificate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing before this time (seconds since 1970).
    NotBefore(u64),
    /// Renew: less than a third of its life is left.
    Due,
    /// Renew at once: peers already refuse it.
    Expired,
}

impl HostKey {
    /// A new key.
    ///
    /// # Errors
    /// [`PkiError::Make`] when none can be made.
    pub fn create() -> Result<HostKey, PkiError> {
        Ok(HostKey(new_key()?))
    }

    /// A key read back from its text.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the text is no key.
    pub fn from_pem(text: &str) -> Result<HostKey, PkiError> {
        Ok(HostKey(KeyPair::from_pem(text)?))
    }

    /// The key as text, for its file.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Asks the authority for a certificate. The name is set by whoever issues it.
    ///
    /// # Errors
    /// [`PkiError::Make`] when signing fails.
    pub fn request(&self) -> Result<CertificateSigningRequestDer<'static>, PkiError> {
        let request = CertificateParams::default().serialize_request(&self.0)?;
        Ok(request.der().clone())
    }

    /// The key for TLS.
    pub fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.serialize_der().into())
    }

    /// Hash of the public half; see [`crate::authority::request_key`].
    pub fn hash(&self) -> CaPin {
        CaPin(Sha256::digest(self.0.subject_public_key_info()).into())
    }
}

/// The host a certificate is for. It must carry exactly one name, and that of this cluster. Whether the
/// authority signed it is checked by TLS, not here.
///
/// # Errors
/// [`PkiError::NotOurs`] with what is wrong.
pub fn host_of(cert: &CertificateDer<'_>, cluster: &ClusterId) -> Result<String, PkiError> {
    let not_ours = |why: String| PkiError::NotOurs {
        cluster: cluster.to_string(),
        why,
    };
    let (_, cert) = x509_parser::parse_x509_certificate(cert)
        .map_err(|e| not_ours(format!("unreadable, {e}")))?;
    let names = cert
        .subject_alternative_name()
        .map_err(|e| not_ours(e.to_string()))?
        .ok_or_else(|| not_ours("it carries no name".to_owned()))?;
    let [GeneralName::DNSName(name)] = names.value.general_names.as_slice() else {
        return Err(not_ours("it must carry exactly one DNS name".to_owned()));
    };
    let host = name
        .strip_suffix(".mars")
        .and_then(|rest| rest.strip_suffix(&cluster.label()))
        .and_then(|rest| rest.strip_suffix('.'))
        .ok_or_else(|| not_ours(format!("its name is {name:?}")))?;
    check_host(host)?;
    Ok(host.to_owned())
}

/// From when to when a certificate holds.
///
/// # Errors
/// [`PkiError::Unusable`] when the bytes are no certificate.
pub fn validity(cert: &CertificateDer<'_>) -> Result<Validity, PkiError> {
    let (_, cert) =
        x509_parser::parse_x509_certificate(cert).map_err(|e| PkiError::Unusable(e.to_string()))?;
    let seconds = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
    Ok(Validity {
        from_s: seconds(cert.validity().not_before),
        until_s: seconds(cert.validity().not_after),
    })
}

/// Whether to renew now: as soon as two thirds of the certificate's life are over, which leaves a month
/// to notice when renewal fails.
pub fn renewal(held: Validity, now_s: u64) -> Renewal {
    let life = held.until_s.saturating_sub(held.from_s);
    let due = held.from_s.saturating_add(life / 3 * 2);
    if now_s > held.until_s {
        Renewal::Expired
    } else if now_s >= due {
        Renewal::Due
    } else {
        Renewal::NotBefore(due)
    }
}
