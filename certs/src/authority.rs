//! The cluster's own authority: it says which keys belong to which host.
//!
//! ECDSA P-256, valid ten years; signs nothing but host certificates. Host certificates are valid 90 days,
//! carry the name `<host>.<label>.mars` and may be used in both directions. The label is a short hash of the
//! cluster id: ids hold dots and can be too long for a label.

use std::fmt;
use std::str::FromStr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::error::PkiError;
use crate::{hex, random};

/// One day.
pub const DAY_S: u64 = 24 * 3600;
/// How long an authority lasts.
pub const AUTHORITY_VALID_S: u64 = 3653 * DAY_S;
/// How long a host certificate lasts.
pub const HOST_VALID_S: u64 = 90 * DAY_S;
/// Certificates begin this long before they are made, so that clocks may differ a little.
pub const BACKDATED_S: u64 = DAY_S;
const _: () = assert!(AUTHORITY_VALID_S > 4 * HOST_VALID_S);

/// The cluster's id (key `uuid`): `<host>_<seconds>.<nanoseconds>` of the moment of `create-cluster`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(String);

/// SHA-256 over an authority's public key (SubjectPublicKeyInfo): what a new host knows before it says anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CaPin(pub [u8; 32]);

/// The authority with its private key.
pub struct Authority {
    cluster: ClusterId,
    cert: CertificateDer<'static>,
    key: KeyPair,
}

impl ClusterId {
    /// Longest id: a host name, a time, and what lies between.
    pub const BYTES_MAX: usize = 128;

    /// The id of a cluster created by `host` at this Lamport time.
    ///
    /// # Errors
    /// [`PkiError::ClusterId`] when the host name is unfit.
    pub fn of(host: &str, sec: u64, nsec: u32) -> Result<ClusterId, PkiError> {
        format!("{host}_{sec}.{nsec:09}").parse()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of host certificates' names that stands for the cluster: 16 hexadecimal digits.
    pub fn label(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..8])
    }

    /// The name a host has in its certificate.
    ///
    /// # Errors
    /// [`PkiError::HostName`] when TLS does not know such names.
    pub fn dns_name(&self, host: &str) -> Result<String, PkiError> {
        check_host(host)?;
        Ok(format!("{host}.{}.mars", self.label()))
    }
}

impl FromStr for ClusterId {
    type Err = PkiError;
    fn from_str(text: &str) -> Result<ClusterId, PkiError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if text.is_empty() || text.len() > Self::BYTES_MAX || !text.bytes().all(fits) {
            return Err(PkiError::ClusterId {
                found: text.to_owned(),
            });
        }
        Ok(ClusterId(text.to_owned()))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Host names as everywhere in the cluster, without a `-` at the end, which TLS does not allow.
pub(crate) fn check_host(host: &str) -> Result<(), PkiError> {
    let refuse = |why| {
        Err(PkiError::HostName {
            host: host.to_owned(),
            why,
        })
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if host.is_empty() || host.len() > 63 {
        return refuse("it must have 1 to 63 characters");
    }
    if !host.bytes().all(fits) {
        return refuse("only letters, digits, '_' and '-' are allowed");
    }
    if host.starts_with('-') || host.ends_with('-') {
        return refuse("it must neither begin nor end with '-'");
    }
    Ok(())
}

impl CaPin {
    /// The pin of the key in a certificate.
    ///
    /// # Errors
    /// [`PkiError::Unusable`] when the bytes are no certificate.
    pub fn of_cert(cert: &CertificateDer<'_>) -> Result<CaPin, PkiError> {
        let (_, cert) = x509_parser::parse_x509_certificate(cert)
            .map_err(|e| PkiError::Unusable(e.to_string()))?;
        Ok(CaPin(Sha256::digest(cert.public_key().raw).into()))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority of {}", self.cluster)
    }
}

impl Authority {
    /// A new authority for a new cluster.
    ///
    /// # Errors
    /// [`PkiError::Make`], [`PkiError::Random`] when no key can be made.
    pub fn create(cluster: ClusterId, now_s: u64) -> Result<Authority, PkiError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = format!("mars cluster {}", cluster.label());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now_s, AUTHORITY_VALID_S)?;
        let cert = params.self_signed(&key)?.der().clone();
        Ok(Authority { cluster, cert, key })
    }

    /// An authority read back from its parts.
    ///
    /// # Errors
    /// [`PkiError::Unusable`] when key and certificate do not belong together.
    pub fn from_parts(
        cluster: ClusterId,
        cert: CertificateDer<'static>,
        key_pem: &str,
    ) -> Result<Authority, PkiError> {
        let key = KeyPair::from_pem(key_pem)?;
        let own = CaPin(Sha256::digest(key.subject_public_key_info()).into());
        if own != CaPin::of_cert(&cert)? {
            return Err(PkiError::Unusable(
                "the authority's key belongs to another certificate".to_owned(),
            ));
        }
        Ok(Authority { cluster, cert, key })
    }

    /// The cluster this is the authority of.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The authority's own certificate.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// The private key as text, for the file and for a new member.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What tokens carry to prove this authority.
    ///
    /// # Errors
    /// None in practice: the certificate was parsed when it came in.
    pub fn pin(&self) -> Result<CaPin, PkiError> {
        CaPin::of_cert(&self.cert)
    }

    /// A certificate for exactly this host name and the key that signed the request. Whatever else the request
    /// asks for is ignored.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the request is not signed by its own key; [`PkiError::HostName`].
    pub fn issue(
        &self,
        host: &str,
        request: &CertificateSigningRequestDer<'_>,
        now_s: u64,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let mut request = CertificateSigningRequestParams::from_der(request)?;
        request.params = self.host_params(host, now_s)?;
        let issuer = Issuer::from_ca_cert_der(&self.cert, &self.key)?;
        Ok(request.signed_by(&issuer)?.der().clone())
    }

    fn host_params(&self, host: &str, now_s: u64) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        let name = self.cluster.dns_name(host)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, host);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&random::<16>()?));
        set_validity(&mut params, now_s, HOST_VALID_S)?;
        Ok(params)
    }
}

/// The public key inside a signing request, hashed; equal for the same key whatever else changes.
///
/// # Errors
/// [`PkiError::Make`] when the request is not signed by its own key.
pub fn request_key(request: &CertificateSigningRequestDer<'_>) -> Result<CaPin, PkiError> {
    let request = CertificateSigningRequestParams::from_der(request)?;
    Ok(CaPin(
        Sha256::digest(request.public_key.subject_public_key_info()).into(),
    ))
}

pub(crate) fn new_key() -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

fn set_validity(params: &mut CertificateParams, now_s: u64, valid_s: u64) -> Result<(), PkiError> {
    params.not_before = moment(now_s.saturating_sub(BACKDATED_S))?;
    params.not_after = moment(now_s.saturating_add(valid_s))?;
    Ok(())
}

fn moment(unix_s: u64) -> Result<OffsetDateTime, PkiError> {
    i64::try_from(unix_s)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
        .ok_or_else(|| PkiError::Unusable(format!("the clock says {unix_s} s after 1970")))
}
