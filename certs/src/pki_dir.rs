//! How keys and certificates lie in a host's state directory.
//!
//! ```text
//! D/pki/            0700
//!   host.key        0600   this host's private key; made first, kept over renewals
//!   cluster                the cluster's id
//!   ca.crt  ca.key  0600   the authority (lib.rs says why every member has its key)
//!   host.crt               this host's certificate; written last: where it is, everything is
//!   tokens/                join tokens this host has issued (token_store.rs)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::authority::{Authority, ClusterId};
use crate::error::PkiError;
use crate::files::{self, damaged};
use crate::host_cert::{HostKey, Renewal, host_of, renewal, validity};
use crate::identity::Identity;
use crate::token_store::TokenStore;

/// The directory `D/pki/`.
#[derive(Clone, Debug)]
pub struct PkiDir {
    path: PathBuf,
}

/// Everything a member of a cluster holds.
#[derive(Debug)]
pub struct Member {
    /// Its name, as in its certificate.
    pub host: String,
    /// The authority, able to issue.
    pub authority: Authority,
    /// Its private key.
    pub key: HostKey,
    /// Its certificate.
    pub cert: CertificateDer<'static>,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey {}", self.hash())
    }
}

impl Member {
    /// The certificate and key for TLS.
    ///
    /// # Errors
    /// [`PkiError::Unusable`] when they do not belong together.
    pub fn identity(&self) -> Result<Arc<Identity>, PkiError> {
        Identity::new(&self.key, self.cert.clone(), self.authority.cert().clone())
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &ClusterId {
        self.authority.cluster()
    }
}

impl PkiDir {
    /// The key directory below the state directory `state_dir`. Touches nothing yet.
    pub fn of(state_dir: &Path) -> PkiDir {
        PkiDir {
            path: state_dir.join("pki"),
        }
    }

    /// The cluster this host is a member of; `None` before it has created or joined one.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Damaged`].
    pub fn cluster(&self) -> Result<Option<ClusterId>, PkiError> {
        if files::read(&self.file("host.crt"))?.is_none() {
            return Ok(None);
        }
        let path = self.file("cluster");
        let text = files::read(&path)?.ok_or_else(|| damaged(&path, "missing"))?;
        let text = String::from_utf8(text).map_err(|e| damaged(&path, e))?;
        let id = text.trim_end().parse::<ClusterId>();
        id.map(Some).map_err(|e| damaged(&path, e))
    }

    /// This host's key; made now if there is none yet. Kept when a join is refused, so that the next attempt is
    /// recognised as coming from the same host.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Open`], [`PkiError::Damaged`].
    pub fn host_key(&self) -> Result<HostKey, PkiError> {
        let path = self.file("host.key");
        if let Some(text) = files::read_secret(&path)? {
            let text = String::from_utf8(text).map_err(|e| damaged(&path, e))?;
            return HostKey::from_pem(&text).map_err(|e| damaged(&path, e));
        }
        let key = HostKey::create()?;
        files::make_dir(&self.path)?;
        files::write(&path, key.pem().as_bytes())?;
        Ok(key)
    }

    /// Makes a new cluster with this host as its first member.
    ///
    /// # Errors
    /// [`PkiError::Taken`] when the host is in a cluster already; [`PkiError::HostName`]; the file errors.
    pub fn create_cluster(
        &self,
        host: &str,
        cluster: ClusterId,
        now_s: u64,
    ) -> Result<Member, PkiError> {
        self.must_be_free()?;
        cluster.dns_name(host)?;
        let key = self.host_key()?;
        let authority = Authority::create(cluster, now_s)?;
        let cert = authority.issue(host, &key.request()?, now_s)?;
        self.install(&authority, &cert)?;
        self.load()
    }

    /// Keeps what the join brought: the authority, and the certificate for the key of [`PkiDir::host_key`].
    ///
    /// # Errors
    /// [`PkiError::Taken`], [`PkiError::NotOurs`], [`PkiError::Unusable`] when the parts do not fit together; the
    /// file errors.
    pub fn install_joined(
        &self,
        authority: &Authority,
        cert: &CertificateDer<'static>,
    ) -> Result<Member, PkiError> {
        self.must_be_free()?;
        host_of(cert, authority.cluster())?;
        Identity::new(&self.host_key()?, cert.clone(), authority.cert().clone())?;
        self.install(authority, cert)?;
        self.load()
    }

    fn must_be_free(&self) -> Result<(), PkiError> {
        match self.cluster()? {
            None => Ok(()),
            Some(cluster) => Err(PkiError::Taken {
                path: self.path.clone(),
                cluster: cluster.to_string(),
            }),
        }
    }

    /// `host.crt` comes last, see the drawing.
    fn install(
        &self,
        authority: &Authority,
        cert: &CertificateDer<'static>,
    ) -> Result<(), PkiError> {
        files::make_dir(&self.path)?;
        let id = format!("{}\n", authority.cluster());
        files::write(&self.file("cluster"), id.as_bytes())?;
        files::write(&self.file("ca.key"), authority.key_pem().as_bytes())?;
        files::write(&self.file("ca.crt"), pem(authority.cert()).as_bytes())?;
        files::write(&self.file("host.crt"), pem(cert).as_bytes())
    }

    /// Everything this member holds, checked against each other.
    ///
    /// # Errors
    /// [`PkiError::Damaged`] naming the file which is missing or does not fit; [`PkiError::Open`] for a key that
    /// others may read.
    pub fn load(&self) -> Result<Member, PkiError> {
        let cert_path = self.file("host.crt");
        let cluster = self
            .cluster()?
            .ok_or_else(|| damaged(&cert_path, "missing: this host is in no cluster yet"))?;
        let key_path = self.file("ca.key");
        let key = files::read_secret(&key_path)?.ok_or_else(|| damaged(&key_path, "missing"))?;
        let key = String::from_utf8(key).map_err(|e| damaged(&key_path, e))?;
        let authority = Authority::from_parts(cluster, self.cert("ca.crt")?, &key)
            .map_err(|e| damaged(&key_path, e))?;
        let cert = self.cert("host.crt")?;
        let host = host_of(&cert, authority.cluster()).map_err(|e| damaged(&cert_path, e))?;
        let member = Member {
            host,
            key: self.host_key()?,
            authority,
            cert,
        };
        member.identity().map_err(|e| damaged(&cert_path, e))?;
        Ok(member)
    }

    /// Renews the host certificate when it is time, on disk and in `identity`. Call it once in a while;
    /// returns what was decided.
    ///
    /// # Errors
    /// As [`PkiDir::load`]; the old certificate stays in use.
    pub fn renew_if_due(&self, identity: &Identity, now_s: u64) -> Result<Renewal, PkiError> {
        let member = self.load()?;
        let decision = renewal(validity(&member.cert)?, now_s);
        if matches!(decision, Renewal::NotBefore(_)) {
            return Ok(decision);
        }
        let request = member.key.request()?;
        let cert = member.authority.issue(&member.host, &request, now_s)?;
        files::write(&self.file("host.crt"), pem(&cert).as_bytes())?;
        identity.replace(&member.key, cert, member.authority.cert().clone())?;
        Ok(decision)
    }

    /// The tokens this host has issued.
    pub fn tokens(&self) -> TokenStore {
        TokenStore::at(self.path.join("tokens"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn cert(&self, name: &str) -> Result<CertificateDer<'static>, PkiError> {
        let path = self.file(name);
        let text = files::read(&path)?.ok_or_else(|| damaged(&path, "missing"))?;
        CertificateDer::from_pem_slice(&text).map_err(|e| damaged(&path, format!("{e:?}")))
    }
}

/// A certificate as text.
fn pem(cert: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(cert);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
