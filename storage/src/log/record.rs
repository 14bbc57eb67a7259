//! One record: how it becomes bytes, and how bytes are recognised as one. Drawing in `log/mod.rs`.
//!
//! Nothing here knows files. [`decode_head`] trusts no byte: it looks at a length before it uses it
//! and at a field before it acts on it, and every byte of the record is covered by its checksum.

use super::header::{u32_at, u64_at};
use crate::error::Damage;
use bytes::Bytes;
use std::ops::Range;
use tree::Digest128;

/// Bytes of a record in front of its payload.
pub const RECORD_HEADER_BYTES: usize = 64;

/// The longest payload of a data record. Larger writes become several records.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// A seal stores a length and a digest.
const SEAL_BYTES: usize = 24;

const MAGIC: u32 = u32::from_le_bytes(*b"MREC");
const CRC_AT: usize = 60;
const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + DATA_BYTES_MAX;
const _: () = assert!(DATA_BYTES_MAX.is_multiple_of(8) && SEAL_BYTES.is_multiple_of(8));

/// What a record does to the device, or says about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// These bytes are written at this position. 1 byte to [`DATA_BYTES_MAX`].
    Data {
        /// First byte on the device.
        at: u64,
        /// The contents.
        bytes: Bytes,
    },
    /// This range reads as zeros from now on and stays allocated.
    Zeroes {
        /// First byte on the device.
        at: u64,
        /// Number of bytes, at least 1.
        len: u64,
    },
    /// This range is not needed any more. It reads as zeros everywhere, so that replicas stay equal
    /// byte by byte.
    Discard {
        /// First byte on the device.
        at: u64,
        /// Number of bytes, at least 1.
        len: u64,
    },
    /// Nothing but its stamp: so late was it when everything before had been written.
    Mark,
    /// The log ends here.
    Seal {
        /// Logical length in front of the seal.
        len: u64,
        /// Running digest in front of the seal.
        digest: Digest128,
    },
}

impl Body {
    /// The range of the device that changes; `None` for marks and seals.
    pub fn range(&self) -> Option<Range<u64>> {
        match self {
            Body::Data { at, bytes } => Some(*at..at.saturating_add(bytes.len() as u64)),
            Body::Zeroes { at, len } | Body::Discard { at, len } => {
                Some(*at..at.saturating_add(*len))
            }
            Body::Mark | Body::Seal { .. } => None,
        }
    }

    /// How much longer the log becomes by this record.
    pub fn record_bytes(&self) -> u64 {
        let payload = match self {
            Body::Data { bytes, .. } => bytes.len(),
            Body::Seal { .. } => SEAL_BYTES,
            Body::Zeroes { .. } | Body::Discard { .. } | Body::Mark => 0,
        };
        (RECORD_HEADER_BYTES + payload.next_multiple_of(8)) as u64
    }

    fn kind(&self) -> u8 {
        match self {
            Body::Data { .. } => 1,
            Body::Zeroes { .. } => 2,
            Body::Discard { .. } => 3,
            Body::Mark => 4,
            Body::Seal { .. } => 5,
        }
    }
}

/// One intact record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Logical offset of its first byte.
    pub offset: u64,
    /// Logical offset behind its last byte: the replay position once it is applied.
    pub end: u64,
    /// Running number within the log, from 1.
    pub nr: u64,
    /// Lamport time of the write in ns.
    pub stamp_ns: u64,
    /// What it does.
    pub body: Body,
}

/// The header of a record to be written, and the payload the header does not borrow from its body.
pub(super) struct Encoded {
    pub head: [u8; RECORD_HEADER_BYTES],
    pub seal: [u8; SEAL_BYTES],
}

/// Builds the header of record `nr` at logical offset `offset`, checksum included.
pub(super) fn encode(body: &Body, nr: u64, stamp_ns: u64, offset: u64, seed: u32) -> Encoded {
    let mut out = Encoded {
        head: [0; RECORD_HEADER_BYTES],
        seal: [0; SEAL_BYTES],
    };
    if let Body::Seal { len, digest } = body {
        out.seal[..8].copy_from_slice(&len.to_le_bytes());
        out.seal[8..].copy_from_slice(&digest.0);
    }
    let range = body.range().unwrap_or(0..0);
    let payload = payload_of(body, &out.seal).len();
    let head = &mut out.head;
    head[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[4] = body.kind();
    head[8..12].copy_from_slice(&(body.record_bytes() as u32).to_le_bytes());
    head[12..16].copy_from_slice(&(payload as u32).to_le_bytes());
    head[16..24].copy_from_slice(&nr.to_le_bytes());
    head[24..32].copy_from_slice(&stamp_ns.to_le_bytes());
    head[32..40].copy_from_slice(&range.start.to_le_bytes());
    head[40..48].copy_from_slice(&(range.end - range.start).to_le_bytes());
    head[48..56].copy_from_slice(&offset.to_le_bytes());
    let payload = payload_of(body, &out.seal);
    let mut crc = crc32c::crc32c_append(seed, &out.head[..CRC_AT]);
    crc = crc32c::crc32c_append(crc, payload);
    crc = crc32c::crc32c_append(crc, padding_of(payload.len()));
    out.head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The stored bytes of a body; `seal` are those of a seal.
pub(super) fn payload_of<'a>(body: &'a Body, seal: &'a [u8; SEAL_BYTES]) -> &'a [u8] {
    match body {
        Body::Data { bytes, .. } => bytes,
        Body::Seal { .. } => seal,
        Body::Zeroes { .. } | Body::Discard { .. } | Body::Mark => &[],
    }
}

/// The zeros behind a payload.
pub(super) fn padding_of(payload_len: usize) -> &'static [u8] {
    &[0; 8][..payload_len.next_multiple_of(8) - payload_len]
}

/// The checked header of a record whose bytes are all there and intact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub total: usize,
    pub nr: u64,
    pub stamp_ns: u64,
    kind: Kind,
    at: u64,
    len: u64,
    stored: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Zeroes,
    Discard,
    Mark,
    Seal,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// So many bytes more are needed.
    Short(u64),
    Damaged(Damage),
}

/// Recognises the record at the start of `bytes`, which lie at `offset` of the log. More bytes than
/// one record do no harm.
pub(super) fn decode_head(bytes: &[u8], offset: u64, seed: u32) -> Result<Head, Flaw> {
    if bytes.len() < RECORD_HEADER_BYTES {
        // What is there must at least look like the beginning of a record, else waiting would be in
        // vain.
        let n = bytes.len().min(4);
        return match bytes[..n] == MAGIC.to_le_bytes()[..n] {
            true => Err(Flaw::Short((RECORD_HEADER_BYTES - bytes.len()) as u64)),
            false => Err(Flaw::Damaged(first_bytes(bytes))),
        };
    }
    if u32_at(bytes, 0) != MAGIC {
        return Err(Flaw::Damaged(first_bytes(bytes)));
    }
    let (total, stored) = (u32_at(bytes, 8) as usize, u32_at(bytes, 12) as usize);
    if !(RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&total) || !total.is_multiple_of(8) {
        return Err(Flaw::Damaged(Damage::Length(total as u64)));
    }
    if bytes.len() < total {
        return Err(Flaw::Short((total - bytes.len()) as u64));
    }
    let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
    let have = crc32c::crc32c_append(crc, &bytes[RECORD_HEADER_BYTES..total]);
    let want = u32_at(bytes, CRC_AT);
    if have != want {
        return Err(Flaw::Damaged(Damage::Checksum { have, want }));
    }
    let head = Head {
        total,
        stored,
        nr: u64_at(bytes, 16),
        stamp_ns: u64_at(bytes, 24),
        kind: kind_of(bytes[4])?,
        at: u64_at(bytes, 32),
        len: u64_at(bytes, 40),
    };
    check_fields(bytes, &head, offset).map_err(Flaw::Damaged)?;
    Ok(head)
}

fn first_bytes(bytes: &[u8]) -> Damage {
    let mut raw = [0; 4];
    let n = bytes.len().min(4);
    raw[..n].copy_from_slice(&bytes[..n]);
    match u32::from_le_bytes(raw) {
        0 => Damage::Zeros,
        magic => Damage::Magic(magic),
    }
}

fn kind_of(code: u8) -> Result<Kind, Flaw> {
    match code {
        1 => Ok(Kind::Data),
        2 => Ok(Kind::Zeroes),
        3 => Ok(Kind::Discard),
        4 => Ok(Kind::Mark),
        5 => Ok(Kind::Seal),
        other => Err(Flaw::Damaged(Damage::Kind(other))),
    }
}

/// The checksum holds, so this is what a writer wrote; it may still be newer, misplaced or
/// mistaken.
fn check_fields(bytes: &[u8], head: &Head, offset: u64) -> Result<(), Damage> {
    if bytes[5] != 0 {
        return Err(Damage::Compression(bytes[5]));
    }
    let own_offset = u64_at(bytes, 48);
    if own_offset != offset {
        return Err(Damage::Offset(own_offset));
    }
    let (payload, device) = match head.kind {
        Kind::Data => (head.stored > 0 && head.stored as u64 == head.len, true),
        Kind::Zeroes | Kind::Discard => (head.stored == 0 && head.len > 0, true),
        Kind::Mark => (head.stored == 0, false),
        Kind::Seal => (head.stored == SEAL_BYTES, false),
    };
    if !payload || RECORD_HEADER_BYTES + head.stored.next_multiple_of(8) != head.total {
        return Err(Damage::Length(head.stored as u64));
    }
    if device && head.at.checked_add(head.len).is_none() {
        return Err(Damage::Length(head.len));
    }
    Ok(())
}

impl Head {
    /// What the record does; `bytes` are those [`decode_head`] has checked. Data is shared with
    /// them, not copied.
    pub fn body(&self, bytes: &Bytes) -> Body {
        let payload = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.stored;
        match self.kind {
            Kind::Data => Body::Data {
                at: self.at,
                bytes: bytes.slice(payload),
            },
            Kind::Zeroes => Body::Zeroes {
                at: self.at,
                len: self.len,
            },
            Kind::Discard => Body::Discard {
                at: self.at,
                len: self.len,
            },
            Kind::Mark => Body::Mark,
            Kind::Seal => {
                let (len, digest) = seal_of(&bytes[payload]);
                Body::Seal { len, digest }
            }
        }
    }

    /// What a seal says about the log before it.
    pub fn seal(&self, bytes: &[u8]) -> Option<(u64, Digest128)> {
        (self.kind == Kind::Seal).then(|| seal_of(&bytes[RECORD_HEADER_BYTES..]))
    }
}

fn seal_of(payload: &[u8]) -> (u64, Digest128) {
    let mut digest = [0; 16];
    digest.copy_from_slice(&payload[8..SEAL_BYTES]);
    (u64_at(payload, 0), Digest128(digest))
}
