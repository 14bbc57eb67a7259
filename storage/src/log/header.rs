//! The header of a log file: whose log this is. Drawing in `log/mod.rs`.

use crate::error::{HeaderFlaw, LogError};
use std::path::Path;
use tree::{Digest128, Host, LogName, Resource};

/// Bytes in front of logical offset 0.
pub const HEADER_BYTES: u64 = 4096;

const MAGIC: &[u8; 8] = b"MARSLOG\n";
const VERSION: u32 = 1;
const TEXT_BYTES: usize = 64;
const CRC_AT: usize = HEADER_BYTES as usize - 4;

/// Which log a file has to be. Peers and operators may be wrong about that, so it is compared at
/// every opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogIdentity {
    /// Id of the cluster, at most 63 bytes.
    pub cluster: String,
    /// The resource.
    pub resource: Resource,
    /// Number and creator.
    pub log: LogName,
}

/// Everything a log file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHeader {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// Running digest of the predecessor at its end; all zeros when there is none.
    pub predecessor: Digest128,
}

impl LogHeader {
    /// The first 4096 bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES as usize];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.identity.log.seq.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.predecessor.0);
        put_text(&mut bytes, 48, &self.identity.cluster);
        put_text(&mut bytes, 112, self.identity.resource.as_str());
        put_text(&mut bytes, 176, self.identity.log.creator.as_str());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`LogHeader::encode`] wrote; `path` is for messages only.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<LogHeader, LogError> {
        parse(bytes).map_err(|flaw| LogError::Header {
            path: path.to_owned(),
            flaw,
        })
    }

    /// Whether this is the log somebody wants to read or to continue.
    pub fn must_be(&self, wanted: &LogIdentity, path: &Path) -> Result<(), LogError> {
        let here = &self.identity;
        let parts = [
            ("cluster", wanted.cluster.clone(), here.cluster.clone()),
            (
                "resource",
                wanted.resource.to_string(),
                here.resource.to_string(),
            ),
            ("name", wanted.log.to_string(), here.log.to_string()),
        ];
        for (what, expected, found) in parts {
            if expected != found {
                return Err(LogError::Foreign {
                    path: path.to_owned(),
                    what,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

/// The value every checksum of a record of this file continues. (Not the checksum of the whole
/// header: with its own checksum at the end that is the same number for every header.)
pub(super) fn checksum_seed(header: &[u8]) -> u32 {
    crc32c::crc32c(&header[..CRC_AT])
}

fn parse(bytes: &[u8]) -> Result<LogHeader, HeaderFlaw> {
    let Some(bytes) = bytes.get(..HEADER_BYTES as usize) else {
        return Err(HeaderFlaw::Short(bytes.len() as u64));
    };
    if &bytes[0..8] != MAGIC {
        return Err(HeaderFlaw::Magic);
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(HeaderFlaw::Version(version));
    }
    let (have, want) = (crc32c::crc32c(&bytes[..CRC_AT]), u32_at(bytes, CRC_AT));
    if have != want {
        return Err(HeaderFlaw::Checksum { have, want });
    }
    let name = |at, what| text_at(bytes, at).ok_or(HeaderFlaw::Text(what));
    let resource =
        Resource::new(name(112, "resource")?).map_err(|_| HeaderFlaw::Text("resource"))?;
    let creator = Host::new(name(176, "creator")?).map_err(|_| HeaderFlaw::Text("creator"))?;
    let mut predecessor = [0; 16];
    predecessor.copy_from_slice(&bytes[24..40]);
    Ok(LogHeader {
        identity: LogIdentity {
            cluster: name(48, "cluster id")?.to_owned(),
            resource,
            log: LogName {
                seq: u64_at(bytes, 16),
                creator,
            },
        },
        predecessor: Digest128(predecessor),
    })
}

fn put_text(bytes: &mut [u8], at: usize, text: &str) {
    assert!(
        text.len() < TEXT_BYTES,
        "names and cluster ids have at most 63 bytes, this one is {text:?}"
    );
    bytes[at] = text.len() as u8;
    bytes[at + 1..at + 1 + text.len()].copy_from_slice(text.as_bytes());
}

fn text_at(bytes: &[u8], at: usize) -> Option<&str> {
    let field = &bytes[at..at + TEXT_BYTES];
    std::str::from_utf8(field[1..].get(..field[0] as usize)?).ok()
}

/// A little-endian number; the caller knows that the bytes are there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// A little-endian number; the caller knows that the bytes are there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}
