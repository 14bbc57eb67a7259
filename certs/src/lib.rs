//! Who belongs to the cluster: its authority, the certificates of its hosts, and the tokens that admit new ones.
//!
//! Everything that makes or checks a key is here; sockets are elsewhere. The time of day always comes in as an
//! argument, in seconds since 1970.
//!
//! **Who holds the authority's key.** Every member does: the host of `create-cluster` makes it, and whoever is
//! admitted receives it inside the encrypted, mutually proven answer to its join (`transport/src/join.rs`). So any
//! member can admit others and renew its own certificate, and the loss of the first host loses nothing. The price:
//! a member that is broken into can admit strangers. In the original every member already is root on all others
//! by ssh, so this gives away less than before; to exclude a host that was broken into, make a new cluster.
//!
//! - [`authority`]: cluster id, authority, issuing.
//! - [`host_cert`]: a host's key, its name in a certificate, when to renew.
//! - [`token`]: join tokens as text, and the durable count of their uses.
//! - [`pki_dir`]: how all this lies in `D/pki/`.
//! - [`identity`]: the certificate in use, exchanged while running.

pub mod authority;
pub mod error;
mod files;
pub mod host_cert;
pub mod identity;
pub mod pki_dir;
pub mod token;
pub mod token_store;

pub use authority::{Authority, CaPin, ClusterId};
pub use error::PkiError;
pub use host_cert::{HostKey, Renewal, Validity, renewal};
pub use identity::Identity;
pub use pki_dir::PkiDir;
pub use token::{JoinToken, Proof};
pub use token_store::{TokenRefusal, TokenStore};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one cryptographic provider of this program. Named at every use: with two of them compiled in, the
/// implicit choice would panic.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Fills `N` bytes from the system's source of randomness.
///
/// # Errors
/// [`PkiError::Random`] when the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut out = [0; N];
    let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    source.fill(&mut out).map_err(|_| PkiError::Random)?;
    Ok(out)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
