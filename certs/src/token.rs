//! Join tokens: one line of text that lets a host into the cluster.
//!
//! base64url of version (1 byte), MessagePack of the fields below, and the first 4 bytes of the SHA-256 over both,
//! which tell a badly copied line from a refused one. The secret never crosses the wire: the new host sends
//! [`Proof`], an HMAC bound to the TLS connection it travels in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::authority::{CaPin, ClusterId};
use crate::error::PkiError;
use crate::hex;

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
/// Longest line accepted as a token; ours are about 250 characters.
const TEXT_BYTES_MAX: usize = 4096;

/// Label of the TLS exporter from which a [`Proof`] is made.
pub const EXPORTER_LABEL: &[u8] = b"mars-join";

/// What a token says.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The host which issued it, and which alone can take it.
    pub issuer: String,
    /// Where that host listens ("address:port"), best first.
    pub addresses: Vec<String>,
    /// Names the token at its issuer.
    pub id: TokenId,
    /// Known to issuer and bearer only.
    pub secret: [u8; 16],
    /// The authority the issuer must prove.
    pub pin: CaPin,
    /// Last second in which it is taken, since 1970.
    pub expires_s: u64,
}

/// Names a token; no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

/// HMAC-SHA-256 by a token's secret over the TLS exporter and the request: whoever sends it knows the token, and it is
/// worth nothing on any other connection or with any other request.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

#[derive(Serialize, Deserialize)]
struct Fields(
    String,
    String,
    Vec<String>,
    TokenId,
    [u8; 16],
    [u8; 32],
    u64,
);

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

/// Without the secret.
impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken {} of {}", self.id, self.issuer)
    }
}

impl JoinToken {
    /// The token as one line without spaces.
    ///
    /// # Errors
    /// None in practice: the fields always have a text form.
    pub fn to_text(&self) -> Result<String, PkiError> {
        let fields = Fields(
            self.cluster.to_string(),
            self.issuer.clone(),
            self.addresses.clone(),
            self.id,
            self.secret,
            self.pin.0,
            self.expires_s,
        );
        let mut bytes = vec![VERSION];
        let packed = rmp_serde::to_vec(&fields).map_err(|e| PkiError::Token(e.to_string()))?;
        bytes.extend(packed);
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check[..CHECK_BYTES]);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token; white space around it does not matter.
    ///
    /// # Errors
    /// [`PkiError::Token`] with what is wrong.
    pub fn from_text(text: &str) -> Result<JoinToken, PkiError> {
        let bad = |why: &str| PkiError::Token(why.to_owned());
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|e| PkiError::Token(e.to_string()))?;
        let (bytes, check) = bytes
            .split_at_checked(bytes.len().saturating_sub(CHECK_BYTES))
            .ok_or_else(|| bad("it is too short"))?;
        if Sha256::digest(bytes)[..CHECK_BYTES] != *check {
            return Err(bad("a part is missing or changed"));
        }
        let (version, packed) = bytes.split_first().ok_or_else(|| bad("it is empty"))?;
        if *version != VERSION {
            return Err(bad("it is of another version of this program"));
        }
        let fields: Fields =
            rmp_serde::from_slice(packed).map_err(|e| PkiError::Token(e.to_string()))?;
        Ok(JoinToken {
            cluster: fields.0.parse()?,
            issuer: fields.1,
            addresses: fields.2,
            id: fields.3,
            secret: fields.4,
            pin: CaPin(fields.5),
            expires_s: fields.6,
        })
    }
}

/// The proof for one connection and one request.
pub fn prove(secret: &[u8; 16], exporter: &[u8; 32], request: &[u8]) -> Proof {
    Proof(
        mac(secret, exporter, request)
            .finalize()
            .into_bytes()
            .into(),
    )
}

/// Whether a proof is right; takes the same time whatever is wrong.
pub fn is_proven(secret: &[u8; 16], exporter: &[u8; 32], request: &[u8], proof: &Proof) -> bool {
    mac(secret, exporter, request)
        .verify_slice(&proof.0)
        .is_ok()
}

fn mac(secret: &[u8; 16], exporter: &[u8; 32], request: &[u8]) -> Hmac<Sha256> {
    // A key of 16 bytes is never longer than a block, so it is used as it is.
    let mut block = [0; 64];
    block[..16].copy_from_slice(secret);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(exporter);
    mac.update(&Sha256::digest(request));
    mac
}
