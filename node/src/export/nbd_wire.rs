//! The NBD protocol as bytes: numbers, headers, and how they are laid out.
//!
//! Everything is big-endian. Pure encoding and decoding; what the bytes mean is decided in
//! `nbd_handshake.rs` (options) and `nbd_request.rs` (commands).
//!
//! ```text
//! greeting         NBDMAGIC(8) IHAVEOPT(8) handshake flags(2)
//! client           client flags(4)
//! option           IHAVEOPT(8) option(4) length(4) data
//! option reply     magic(8) option(4) type(4) length(4) data
//! export name      size(8) transmission flags(2) [124 zero bytes unless NO_ZEROES]
//! request          magic(4) flags(2) command(2) cookie(8) offset(8) length(4) [data of a write]
//! simple reply     magic(4) error(4) cookie(8) [data of a read]
//! structured reply magic(4) flags(2) type(2) cookie(8) length(4) data
//! ```

use bytes::BufMut;

/// First eight bytes of the greeting.
pub const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT": second half of the greeting, and start of every option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Start of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Start of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Start of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Start of one chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake and client flag: options are answered, unknown ones too.
pub const FIXED_NEWSTYLE: u32 = 1;
/// Handshake and client flag: no 124 zero bytes after an export name.
pub const NO_ZEROES: u32 = 2;

/// Length of the header of an option in bytes.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Length of the header of a request in bytes.
pub const REQUEST_HEADER_BYTES: usize = 28;
/// Length of a simple reply without data in bytes.
pub const SIMPLE_REPLY_BYTES: usize = 16;
/// Length of the header of a structured chunk in bytes.
pub const STRUCTURED_HEADER_BYTES: usize = 20;

/// Numbers of options.
pub mod opt {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const STARTTLS: u32 = 5;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Types of replies to options.
pub mod rep {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    pub const ERR_INVALID: u32 = 0x8000_0003;
    pub const ERR_TLS_REQD: u32 = 0x8000_0005;
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
    pub const ERR_SHUTDOWN: u32 = 0x8000_0007;
    pub const ERR_TOO_BIG: u32 = 0x8000_0009;
}

/// Kinds of information about an export.
pub mod info {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: what an export can do.
pub mod can {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const FLUSH: u16 = 1 << 2;
    pub const FUA: u16 = 1 << 3;
    pub const TRIM: u16 = 1 << 5;
    pub const WRITE_ZEROES: u16 = 1 << 6;
    pub const DF: u16 = 1 << 7;
    pub const MULTI_CONN: u16 = 1 << 8;
    pub const CACHE: u16 = 1 << 10;
    pub const FAST_ZERO: u16 = 1 << 11;
}

/// Commands.
pub mod cmd {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of a command.
pub mod flag {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const FUA: u16 = 1 << 0;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Types of structured chunks.
pub mod chunk {
    #![expect(missing_docs, reason = "the names are those of the protocol")]
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const BLOCK_STATUS: u16 = 5;
    pub const ERROR: u16 = 0x8001;
    /// Flag of a chunk: the last one of its reply.
    pub const DONE: u16 = 1;
}

/// The only meta context we know.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Its number on the wire, chosen by us.
pub const BASE_ALLOCATION_ID: u32 = 1;
/// Its flag for "nothing allocated".
pub const STATE_HOLE: u32 = 1;
/// Its flag for "reads as zeroes".
pub const STATE_ZERO: u32 = 2;

/// Header of a request, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bits of [`flag`].
    pub flags: u16,
    /// One of [`cmd`], or anything else.
    pub command: u16,
    /// Chosen by the client, copied into the reply.
    pub cookie: u64,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// Length of the range in bytes.
    pub len: u32,
}

impl Request {
    /// Reads a header; `None` when it does not begin with the magic number, after which nothing
    /// that follows can be understood.
    pub fn decode(bytes: &[u8; REQUEST_HEADER_BYTES]) -> Option<Request> {
        if u32_at(bytes, 0) != REQUEST_MAGIC {
            return None;
        }
        Some(Request {
            flags: u16_at(bytes, 4),
            command: u16_at(bytes, 6),
            cookie: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            len: u32_at(bytes, 24),
        })
    }

    /// The header as bytes, for clients.
    pub fn encode(&self) -> [u8; REQUEST_HEADER_BYTES] {
        let mut bytes = [0; REQUEST_HEADER_BYTES];
        let mut out = &mut bytes[..];
        out.put_u32(REQUEST_MAGIC);
        out.put_u16(self.flags);
        out.put_u16(self.command);
        out.put_u64(self.cookie);
        out.put_u64(self.offset);
        out.put_u32(self.len);
        bytes
    }
}

/// Header of an option, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// The magic number, to be compared with [`OPTION_MAGIC`].
    pub magic: u64,
    /// One of [`opt`], or anything else.
    pub option: u32,
    /// Length of the data in bytes.
    pub len: u32,
}

impl OptionHeader {
    /// Reads a header.
    pub fn decode(bytes: &[u8; OPTION_HEADER_BYTES]) -> OptionHeader {
        OptionHeader {
            magic: u64_at(bytes, 0),
            option: u32_at(bytes, 8),
            len: u32_at(bytes, 12),
        }
    }
}

/// The 18 bytes a server sends first.
pub fn greeting() -> [u8; 18] {
    let mut bytes = [0; 18];
    let mut out = &mut bytes[..];
    out.put_u64(NBD_MAGIC);
    out.put_u64(OPTION_MAGIC);
    out.put_u16((FIXED_NEWSTYLE | NO_ZEROES) as u16);
    bytes
}

/// Appends a reply to an option. `data` is far below 4 GiB: names and numbers only.
pub fn put_option_reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    out.put_u64(OPTION_REPLY_MAGIC);
    out.put_u32(option);
    out.put_u32(kind);
    out.put_u32(data.len() as u32);
    out.put_slice(data);
}

/// A simple reply without the data of a read.
pub fn simple_reply(cookie: u64, error: u32) -> [u8; SIMPLE_REPLY_BYTES] {
    let mut bytes = [0; SIMPLE_REPLY_BYTES];
    let mut out = &mut bytes[..];
    out.put_u32(SIMPLE_REPLY_MAGIC);
    out.put_u32(error);
    out.put_u64(cookie);
    bytes
}

/// Header of the only chunk of a structured reply, `len` bytes of data follow.
pub fn structured_header(cookie: u64, kind: u16, len: u32) -> [u8; STRUCTURED_HEADER_BYTES] {
    let mut bytes = [0; STRUCTURED_HEADER_BYTES];
    let mut out = &mut bytes[..];
    out.put_u32(STRUCTURED_REPLY_MAGIC);
    out.put_u16(chunk::DONE);
    out.put_u16(kind);
    out.put_u64(cookie);
    out.put_u32(len);
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let request = Request {
            flags: 1,
            command: cmd::WRITE,
            cookie: 0x0102_0304_0506_0708,
            offset: 1 << 40,
            len: 4096,
        };
        let bytes = request.encode();
        assert_eq!(bytes[..8], [0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1]);
        assert_eq!(Request::decode(&bytes), Some(request));
    }

    #[test]
    fn a_request_with_another_magic_number_is_none() {
        let mut bytes = Request {
            flags: 0,
            command: 0,
            cookie: 0,
            offset: 0,
            len: 0,
        }
        .encode();
        bytes[3] ^= 1;
        assert_eq!(Request::decode(&bytes), None);
    }

    #[test]
    fn the_greeting_is_the_one_every_client_expects() {
        assert_eq!(&greeting(), b"NBDMAGICIHAVEOPT\x00\x03");
    }
}
