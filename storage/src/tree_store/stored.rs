//! The bytes of one entry in the database, little-endian. Format version 1.
//!
//! ```text
//!  0  4  CRC32C of the path and of everything behind these 4 bytes
//!  4  1  format version, 1
//!  5  1  bit 0: lazy, bit 1: tombstone
//!  6  8  stamp in ns
//! 14  8  issue number
//! 22  1  n, length of the stamp's writer    23   n  its name
//!     1  m, length of the issue's writer         m  its name
//!        the text up to the end; none for a tombstone
//! ```

use std::collections::BTreeSet;
use tree::{Entry, Host, Issue, Path, Stamp, Value};

const VERSION: u8 = 1;
const LAZY: u8 = 1;
const TOMBSTONE: u8 = 2;

/// Why stored bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoredError {
    #[error("too short")]
    Short,
    #[error("checksum does not match")]
    Checksum,
    #[error("format version {0} is not known to this release")]
    Version(u8),
    #[error("malformed {0}")]
    Malformed(&'static str),
}

pub(super) fn encode(path: &Path, entry: &Entry) -> Vec<u8> {
    let text = entry.value.as_text();
    let lazy = if entry.lazy { LAZY } else { 0 };
    let tombstone = if text.is_none() { TOMBSTONE } else { 0 };
    let mut out = vec![0, 0, 0, 0, VERSION, lazy | tombstone];
    out.extend_from_slice(&entry.stamp.ns.to_le_bytes());
    out.extend_from_slice(&entry.issue.nr.to_le_bytes());
    for host in [&entry.stamp.writer, &entry.issue.writer] {
        let name = host.as_str().as_bytes();
        out.push(u8::try_from(name.len()).expect("host names have at most 63 bytes"));
        out.extend_from_slice(name);
    }
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
    let crc = checksum(path.as_str().as_bytes(), &out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Names of hosts met while decoding: a million entries have few writers, and keep each name once.
#[derive(Default)]
pub(super) struct Names(BTreeSet<Host>);

impl Names {
    fn host(&mut self, name: &str) -> Result<Host, StoredError> {
        if let Some(host) = self.0.get(name) {
            return Ok(host.clone());
        }
        let host = Host::new(name).map_err(|_| StoredError::Malformed("host"))?;
        self.0.insert(host.clone());
        Ok(host)
    }
}

pub(super) fn decode(
    key: &[u8],
    bytes: &[u8],
    names: &mut Names,
) -> Result<(Path, Entry), StoredError> {
    let mut rest = Rest(bytes);
    if u32::from_le_bytes(rest.array()?) != checksum(key, rest.0) {
        return Err(StoredError::Checksum);
    }
    let [version, flags] = rest.array()?;
    if version != VERSION {
        return Err(StoredError::Version(version));
    }
    let ns = u64::from_le_bytes(rest.array()?);
    let nr = u64::from_le_bytes(rest.array()?);
    let stamp = Stamp {
        ns,
        writer: names.host(rest.name()?)?,
    };
    let issue = Issue {
        writer: names.host(rest.name()?)?,
        nr,
    };
    let value = match flags & TOMBSTONE {
        0 => Value::text(utf8(rest.0, "value")?).map_err(|_| StoredError::Malformed("value"))?,
        _ => Value::Tombstone,
    };
    let path = Path::new(utf8(key, "path")?).map_err(|_| StoredError::Malformed("path"))?;
    Ok((
        path,
        Entry {
            value,
            stamp,
            issue,
            lazy: flags & LAZY != 0,
        },
    ))
}

fn checksum(path: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(path), rest)
}

fn utf8<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, StoredError> {
    std::str::from_utf8(bytes).map_err(|_| StoredError::Malformed(what))
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], StoredError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(StoredError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoredError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn name(&mut self) -> Result<&'a str, StoredError> {
        let [n] = self.array()?;
        utf8(self.take(n.into())?, "host")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_entry() -> impl Strategy<Value = (Path, Entry)> {
        let value = prop::option::of("[ -~]{0,40}");
        (
            "[a-z]{1,9}(/[a-z]{1,9}){0,2}",
            value,
            any::<(u64, u64)>(),
            "[a-z]{1,9}",
            any::<bool>(),
        )
            .prop_map(|(path, text, (ns, nr), host, lazy)| {
                let writer = Host::new(&host).unwrap();
                let value = text.map_or(Value::Tombstone, |text| Value::text(&text).unwrap());
                let stamp = Stamp {
                    ns,
                    writer: writer.clone(),
                };
                let issue = Issue { writer, nr };
                (
                    Path::new(&path).unwrap(),
                    Entry {
                        value,
                        stamp,
                        issue,
                        lazy,
                    },
                )
            })
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_stored((path, entry) in any_entry()) {
            let bytes = encode(&path, &entry);
            prop_assert_eq!(decode(path.as_str().as_bytes(), &bytes, &mut Names::default()), Ok((path, entry)));
        }

        #[test]
        fn a_changed_byte_or_another_key_is_found(
            (path, entry) in any_entry(),
            at: prop::sample::Index,
            flip in 1u8..,
        ) {
            let mut bytes = encode(&path, &entry);
            prop_assert!(decode(b"another/key", &bytes, &mut Names::default()).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode(path.as_str().as_bytes(), &bytes, &mut Names::default()).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 4..80)) {
            let crc = checksum(b"key", &bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            // With a right checksum the other checks have to hold on their own.
            let _ = decode(b"key", &bytes, &mut Names::default());
        }
    }
}
