//! Tokens at the host that issued them: valid until when, for whom, how often used.
//!
//! One small durable file per token in `D/pki/tokens/`. A use is on the medium before the certificate is made,
//! so a crash can cost a use but never grant one twice. A host that asks again with the same name and key
//! (its answer got lost) is served again without a second use.

use std::path::PathBuf;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::authority::{CaPin, ClusterId};
use crate::error::PkiError;
use crate::files::{self, damaged};
use crate::random;
use crate::token::{JoinToken, Proof, TokenId, is_proven};

/// An expired or used token is remembered so long, to be refused with the right reason.
pub const REMEMBERED_S: u64 = 30 * 24 * 3600;

/// So long after a join its name is kept for that machine, although the tree may not show it as a member yet. Later
/// the tree alone decides, so a name can be given to a new machine once the old one has left.
pub const NAME_KEPT_S: u64 = 300;

/// No more tokens than this at a time: each is a file, and somebody asking for more has lost control of a script.
pub const TOKENS_MAX: usize = 1000;

/// The tokens one host has issued.
#[derive(Debug)]
pub struct TokenStore {
    dir: PathBuf,
    /// Uses are counted one after the other.
    one_at_a_time: Mutex<()>,
}

/// Why a token does not admit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not issued here, or the secret is another.
    #[error("the token was not issued by this host, or is not complete")]
    Wrong,
    /// As often used as it may.
    #[error("the token was already used by {by}")]
    Used {
        /// Hosts admitted with it.
        by: String,
    },
    /// Too late.
    #[error("the token expired {ago_s} s ago")]
    Expired {
        /// How late.
        ago_s: u64,
    },
    /// The host name was given to another key by a token of this host a short time ago.
    #[error("the name {host} was given to another machine by a token a short time ago")]
    NameGiven {
        /// The name.
        host: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Record {
    secret: [u8; 16],
    expires_s: u64,
    uses: u32,
    joined: Vec<Joined>,
}

#[derive(Serialize, Deserialize)]
struct Joined {
    host: String,
    key: [u8; 32],
    at_s: u64,
}

/// What a new token is to carry.
#[derive(Clone, Debug)]
pub struct TokenOrder {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The authority's pin.
    pub pin: CaPin,
    /// This host.
    pub issuer: String,
    /// Where this host listens, best first.
    pub addresses: Vec<String>,
    /// Valid for so many seconds from now.
    pub ttl_s: u64,
    /// How many hosts may join with it, at least 1.
    pub uses: u32,
}

impl TokenStore {
    /// The tokens in a directory; touches nothing yet.
    pub(crate) fn at(dir: PathBuf) -> TokenStore {
        TokenStore {
            dir,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Issues a new token, after forgetting those long expired.
    ///
    /// # Errors
    /// The file errors; [`PkiError::Token`] when there are too many.
    pub fn issue(&self, order: TokenOrder, now_s: u64) -> Result<JoinToken, PkiError> {
        let _alone = self.one_at_a_time.lock();
        files::make_dir(&self.dir)?;
        self.forget_old(now_s)?;
        if self.ids()?.len() >= TOKENS_MAX {
            return Err(PkiError::Token(format!(
                "{TOKENS_MAX} tokens exist already"
            )));
        }
        let token = JoinToken {
            cluster: order.cluster,
            issuer: order.issuer,
            addresses: order.addresses,
            id: TokenId(random()?),
            secret: random()?,
            pin: order.pin,
            expires_s: now_s.saturating_add(order.ttl_s),
        };
        let record = Record {
            secret: token.secret,
            expires_s: token.expires_s,
            uses: order.uses.max(1),
            joined: Vec::new(),
        };
        self.keep(token.id, &record)?;
        Ok(token)
    }

    /// Is the bearer who it claims to be, and may it still join as `host` with this key? Counts nothing.
    ///
    /// # Errors
    /// Outer: the file errors. Inner: the refusal.
    pub fn check(
        &self,
        claim: &Claim<'_>,
        now_s: u64,
    ) -> Result<Result<(), TokenRefusal>, PkiError> {
        let _alone = self.one_at_a_time.lock();
        Ok(self.judge(claim, now_s)?.map(|_| ()))
    }

    /// As [`TokenStore::check`], and counts the use durably.
    ///
    /// # Errors
    /// As [`TokenStore::check`].
    pub fn redeem(
        &self,
        claim: &Claim<'_>,
        now_s: u64,
    ) -> Result<Result<(), TokenRefusal>, PkiError> {
        let _alone = self.one_at_a_time.lock();
        let mut record = match self.judge(claim, now_s)? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !record.has(claim) {
            record.joined.push(Joined {
                host: claim.host.to_owned(),
                key: claim.key.0,
                at_s: now_s,
            });
            self.keep(claim.id, &record)?;
        }
        Ok(Ok(()))
    }

    /// Did exactly this host with this key join by a token of ours? Then a repeated request is its own.
    ///
    /// # Errors
    /// The file errors.
    pub fn has_joined(&self, host: &str, key: CaPin) -> Result<bool, PkiError> {
        let _alone = self.one_at_a_time.lock();
        let joins = self.joins_of(host)?;
        Ok(joins.iter().any(|joined| joined.key == key.0))
    }

    fn judge(
        &self,
        claim: &Claim<'_>,
        now_s: u64,
    ) -> Result<Result<Record, TokenRefusal>, PkiError> {
        let Some(record) = self.record(claim.id)? else {
            return Ok(Err(TokenRefusal::Wrong));
        };
        if !is_proven(&record.secret, claim.exporter, claim.request, claim.proof) {
            return Ok(Err(TokenRefusal::Wrong));
        }
        if now_s > record.expires_s {
            let ago_s = now_s - record.expires_s;
            return Ok(Err(TokenRefusal::Expired { ago_s }));
        }
        if record.has(claim) {
            return Ok(Ok(record));
        }
        if record.joined.len() >= record.uses as usize {
            let by: Vec<&str> = record.joined.iter().map(|j| j.host.as_str()).collect();
            let by = by.join(", ");
            return Ok(Err(TokenRefusal::Used { by }));
        }
        let is_kept = |j: &Joined| j.key != claim.key.0 && j.at_s.abs_diff(now_s) < NAME_KEPT_S;
        if self.joins_of(claim.host)?.iter().any(is_kept) {
            let host = claim.host.to_owned();
            return Ok(Err(TokenRefusal::NameGiven { host }));
        }
        Ok(Ok(record))
    }

    /// Joins under this name by any of our tokens.
    fn joins_of(&self, host: &str) -> Result<Vec<Joined>, PkiError> {
        let mut found = Vec::new();
        for id in self.ids()? {
            let joined = self.record(id)?.map(|record| record.joined);
            found.extend(joined.unwrap_or_default());
        }
        found.retain(|joined| joined.host == host);
        Ok(found)
    }

    fn forget_old(&self, now_s: u64) -> Result<(), PkiError> {
        for id in self.ids()? {
            let Some(record) = self.record(id)? else {
                continue;
            };
            if now_s.saturating_sub(record.expires_s) > REMEMBERED_S {
                files::remove(&self.file(id))?;
            }
        }
        Ok(())
    }

    fn ids(&self) -> Result<Vec<TokenId>, PkiError> {
        Ok(files::list(&self.dir)?
            .iter()
            .filter_map(|name| u64::from_str_radix(name, 16).ok())
            .map(|number| TokenId(number.to_be_bytes()))
            .collect())
    }

    fn record(&self, id: TokenId) -> Result<Option<Record>, PkiError> {
        let path = self.file(id);
        let Some(bytes) = files::read_secret(&path)? else {
            return Ok(None);
        };
        rmp_serde::from_slice(&bytes)
            .map(Some)
            .map_err(|e| damaged(&path, e))
    }

    fn keep(&self, id: TokenId, record: &Record) -> Result<(), PkiError> {
        let path = self.file(id);
        let bytes = rmp_serde::to_vec_named(record).map_err(|e| damaged(&path, e))?;
        files::write(&path, &bytes)
    }

    fn file(&self, id: TokenId) -> PathBuf {
        self.dir.join(id.to_string())
    }
}

/// What a joining host presents.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// Which token.
    pub id: TokenId,
    /// Its proof of knowing the secret.
    pub proof: &'a Proof,
    /// The TLS exporter of this connection.
    pub exporter: &'a [u8; 32],
    /// The request the proof covers.
    pub request: &'a [u8],
    /// The host name it wants.
    pub host: &'a str,
    /// Hash of its public key.
    pub key: CaPin,
}

impl Record {
    fn has(&self, claim: &Claim<'_>) -> bool {
        self.joined
            .iter()
            .any(|j| j.host == claim.host && j.key == claim.key.0)
    }
}
