//! What can be wrong with keys, certificates and their files.

use std::io;
use std::path::PathBuf;

/// Why a key, certificate or token could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A file is there but does not hold what it should.
    #[error("{path}: {why}; restore it from a backup, or join the cluster again")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A private key may be read by others.
    #[error("{path}: mode {mode:o}, but a private key must not be readable by others; chmod 600")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There already are keys here.
    #[error("{path} already belongs to cluster {cluster}; a host is in one cluster only")]
    Taken {
        /// The directory.
        path: PathBuf,
        /// The cluster's id.
        cluster: String,
    },
    /// The host name cannot stand in a certificate.
    #[error("host name {host:?} cannot be used: {why}")]
    HostName {
        /// The name.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is no cluster id.
    #[error("{found:?} is no cluster id")]
    ClusterId {
        /// The text.
        found: String,
    },
    /// The bytes are no certificate of a host of this cluster.
    #[error("not a certificate of a host of cluster {cluster}: {why}")]
    NotOurs {
        /// The cluster's id.
        cluster: String,
        /// What is wrong with it.
        why: String,
    },
    /// Key and certificate do not belong together, or cannot be used for TLS.
    #[error("certificate and key are not usable: {0}")]
    Unusable(String),
    /// A certificate could not be made.
    #[error("certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The text is no join token.
    #[error("this is no join token: {0}; copy the whole line that `mars cluster token` prints")]
    Token(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}
