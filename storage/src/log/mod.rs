//! The transaction log: one file in the chain of writes of one resource. Format version 1.
//!
//! ```text
//! file    | header 4096 | record | record | … | seal | zeros …            everything little-endian
//!           ^ logical offset 0 is the first byte behind the header
//!
//! header    0  8  "MARSLOG\n"
//!           8  4  format version, 1
//!          12  4  bytes of this header, 4096
//!          16  8  sequence number of the log
//!          24 16  digest of the predecessor at its end, zeros for none
//!          40  8  zeros
//!          48 64  cluster id:  1 byte length, then text, then zeros
//!         112 64  resource:    the same
//!         176 64  creator:     the same
//!         240     zeros
//!        4092  4  CRC32C of the bytes 0..4092
//!
//! record    0  4  magic "MREC"
//!           4  1  kind: 1 data, 2 zeroes, 3 discard, 4 mark, 5 seal
//!           5  1  compression: 0 none
//!           6  2  zeros
//!           8  4  total length: header, payload, padding; a multiple of 8
//!          12  4  stored length: bytes of payload
//!          16  8  running number, 1 for the first record of the file
//!          24  8  Lamport stamp in ns
//!          32  8  position on the device in bytes
//!          40  8  length on the device in bytes
//!          48  8  logical offset of this record
//!          56  4  zeros
//!          60  4  CRC32C of the bytes 0..60 and all from 64 on, continuing that of the header
//!          64     payload, then zeros up to a multiple of 8
//!
//! payload   data: the bytes; zeroes, discard, mark: none;
//!           seal: 8 bytes length of the log in front of it, 16 bytes running digest there
//! ```
//!
//! The file may be longer than the log: it is written with zeros ahead of use. A zero magic is
//! therefore the clean end of a log whose length nobody remembers. A record is bound to its file by
//! the checksum seed and to its place by the offset in it, so neither a record of another log nor
//! one at a wrong place is ever taken for the next one.
//!
//! **Running digest**: `d0 = blake3(file header)[..16]`, then `d = blake3(d ‖ record)[..16]` for
//! every record with all its bytes. Since the header holds the predecessor's last digest, equal
//! digests mean equal contents of the whole history.
//!
//! A golden file in `tests/golden/` must stay readable by every later release.

mod ahead;
mod chain;
mod fetched;
mod gathered;
mod header;
mod reader;
mod recent;
mod record;
mod recover;
mod writer;

pub use ahead::{AheadOptions, ZeroAhead};
pub use chain::{Boundary, LogEnd};
pub use fetched::{FetchedLog, Unflushed};
pub use header::{HEADER_BYTES, LogHeader, LogIdentity};
pub use reader::{Bound, LogFile, LogReader};
pub use recent::Recent;
pub use record::{Body, DATA_BYTES_MAX, RECORD_HEADER_BYTES, Record};
pub use recover::{Recovered, recover};
pub use writer::{LogWriter, NewRecord};
