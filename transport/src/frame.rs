//! Frames: how one message lies on a stream of bytes.
//!
//! ```text
//!  0        4        8                 8+head           8+head+body
//!  | head u32 | body u32 | head: MessagePack | body: raw bytes |
//! ```
//!
//! Both lengths are little-endian and are checked against their limit **before** anything is allocated, so a
//! peer can make us reserve no more than one frame. The head is MessagePack with named fields: an older reader
//! skips what it does not know, a newer one fills in what is missing. The body carries block and log contents
//! as they are, so they are neither copied into the head nor parsed.

use std::io;

use bytes::{Bytes, BytesMut};
use rmp_serde::decode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::buffers::Buffers;

/// Bytes in front of every frame: the two lengths.
pub const PREFIX_BYTES: usize = 8;

/// What one reader is willing to receive as one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, in bytes.
    pub head_max: usize,
    /// Longest body, in bytes; 0 where no body is expected.
    pub body_max: usize,
}

/// One frame, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The message itself, MessagePack with named fields.
    pub head: Bytes,
    /// Raw contents behind it; empty for most messages.
    pub body: Bytes,
}

/// Why bytes are not the frame they should be. After any of these the stream is useless and must be closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side announces more than it may send.
    #[error("frame announces {found} bytes of {part}, at most {limit} are allowed here")]
    TooLong {
        /// "head" or "body".
        part: &'static str,
        /// What was announced.
        found: usize,
        /// What the reader accepts.
        limit: usize,
    },
    /// The head is no message of the expected kind.
    #[error("frame is not understood: {0}")]
    Garbled(String),
    /// The stream ended between two frames, as it should.
    #[error("closed by the other side")]
    Closed,
    /// The stream broke, or ended inside a frame.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A value as MessagePack with named fields.
///
/// # Errors
/// [`FrameError::Garbled`] when the value has no such form; cannot happen for our own message types.
pub fn to_head<T: Serialize>(value: &T) -> Result<Bytes, FrameError> {
    rmp_serde::to_vec_named(value)
        .map(Bytes::from)
        .map_err(|e| FrameError::Garbled(e.to_string()))
}

/// The reverse of [`to_head`]; the whole head must be used up.
///
/// # Errors
/// [`FrameError::Garbled`] when the bytes are not such a value.
pub fn from_head<T: DeserializeOwned>(head: &[u8]) -> Result<T, FrameError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(head);
    reader.set_max_depth(NESTING_MAX);
    let value = T::deserialize(&mut reader).map_err(|e| FrameError::Garbled(e.to_string()))?;
    // What reads from the bytes themselves, without copying each text first, does not tell how many are left. So something
    // small is asked for: only where nothing is left, not even its first byte is there.
    match bool::deserialize(&mut reader) {
        Err(decode::Error::InvalidMarkerRead(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(value)
        }
        _ => Err(FrameError::Garbled("more bytes behind the end".to_owned())),
    }
}

/// Our deepest message has seven levels; a hostile one must not use up the stack.
const NESTING_MAX: usize = 32;

impl Frame {
    /// A frame without a body.
    ///
    /// # Errors
    /// As [`to_head`].
    pub fn of<T: Serialize>(value: &T) -> Result<Frame, FrameError> {
        Ok(Frame {
            head: to_head(value)?,
            body: Bytes::new(),
        })
    }

    /// The two lengths as they lie in front of the frame.
    pub fn prefix(&self) -> [u8; PREFIX_BYTES] {
        prefix(self.head.len(), self.body.len())
    }

    /// The whole frame as one buffer, for golden files and small messages.
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(PREFIX_BYTES + self.head.len() + self.body.len());
        all.extend_from_slice(&self.prefix());
        all.extend_from_slice(&self.head);
        all.extend_from_slice(&self.body);
        all.freeze()
    }
}

/// The two lengths as they lie in front of a frame.
pub fn prefix(head: usize, body: usize) -> [u8; PREFIX_BYTES] {
    let mut out = [0; PREFIX_BYTES];
    out[..4].copy_from_slice(&u32::try_from(head).unwrap_or(u32::MAX).to_le_bytes());
    out[4..].copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
    out
}

/// Reads the two lengths and checks them.
///
/// # Errors
/// [`FrameError::TooLong`] when a length passes its limit.
pub fn lengths(prefix: [u8; PREFIX_BYTES], limits: Limits) -> Result<(usize, usize), FrameError> {
    let word = |at: usize| {
        u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]) as usize
    };
    let (head, body) = (word(0), word(4));
    let check = |part, found, limit| {
        if found > limit {
            return Err(FrameError::TooLong { part, found, limit });
        }
        Ok(())
    };
    check("head", head, limits.head_max)?;
    check("body", body, limits.body_max)?;
    Ok((head, body))
}

/// Reads one frame. Not cancel-safe: a read that was given up leaves the stream inside a frame.
///
/// # Errors
/// [`FrameError::Closed`] at an end between two frames, [`FrameError::TooLong`] before anything is allocated,
/// [`FrameError::Io`] when the stream breaks.
pub async fn read_frame<R>(from: &mut R, limits: Limits) -> Result<Frame, FrameError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let lengths = read_lengths(from, limits).await?;
    read_parts(from, lengths).await
}

/// The first half of [`read_frame`]: what is going to come.
///
/// # Errors
/// As [`read_frame`].
pub async fn read_lengths<R>(from: &mut R, limits: Limits) -> Result<(usize, usize), FrameError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut prefix = [0; PREFIX_BYTES];
    if from.read(&mut prefix[..1]).await? == 0 {
        return Err(FrameError::Closed);
    }
    from.read_exact(&mut prefix[1..]).await?;
    lengths(prefix, limits)
}

/// The second half of [`read_frame`].
///
/// # Errors
/// As [`read_frame`].
pub async fn read_parts<R>(from: &mut R, (head, body): (usize, usize)) -> Result<Frame, FrameError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    Ok(Frame {
        head: read_bytes(from, head).await?,
        body: read_bytes(from, body).await?,
    })
}

/// The same; the body lies in memory of the pool. To be used where so much may be kept for this sender anyway: all of it is
/// taken at once.
///
/// # Errors
/// As [`read_frame`].
pub async fn read_parts_into<R>(
    from: &mut R,
    (head, body): (usize, usize),
    pool: &Buffers,
) -> Result<Frame, FrameError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let head = read_bytes(from, head).await?;
    let mut memory = pool.take(body);
    from.read_exact(&mut memory).await?;
    let body = memory.freeze();
    Ok(Frame { head, body })
}

/// Reads exactly so many bytes. Behind its first part the buffer grows with what has really come, so that an
/// announced length alone costs little.
async fn read_bytes<R>(from: &mut R, len: usize) -> Result<Bytes, FrameError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut got = BytesMut::with_capacity(len.min(ALLOCATED_BYTES_MAX));
    let mut limited = from.take(len as u64);
    while got.len() < len {
        if limited.read_buf(&mut got).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(got.freeze())
}

/// Allocated at once for a part of a frame, more only once that much has arrived. Between hosts no part is longer, and
/// credit was taken for it before; longer ones come from the local socket.
const ALLOCATED_BYTES_MAX: usize = 4 << 20;

/// Frames up to this size are written by one call.
const ONE_WRITE_BYTES_MAX: usize = 64 << 10;

/// Writes one frame and flushes it. Not cancel-safe.
///
/// # Errors
/// [`FrameError::Io`] when the stream breaks.
pub async fn write_frame<W>(to: &mut W, frame: &Frame) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin + ?Sized,
{
    if frame.head.len() + frame.body.len() <= ONE_WRITE_BYTES_MAX {
        to.write_all(&frame.to_bytes()).await?;
    } else {
        to.write_all(&frame.prefix()).await?;
        to.write_all(&frame.head).await?;
        to.write_all(&frame.body).await?;
    }
    to.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_used_up_by_its_value_or_refused() {
        let head = to_head(&vec!["a", "b"]).expect("can be written");
        let read: Vec<String> = from_head(&head).expect("can be read");
        assert_eq!(read, ["a", "b"]);
        for behind in 0..=u16::MAX {
            let [first, second] = behind.to_be_bytes();
            for behind in [&[first][..], &[first, second]] {
                let longer = [&head[..], behind].concat();
                assert!(from_head::<Vec<String>>(&longer).is_err(), "{behind:x?}");
            }
        }
        assert!(from_head::<Vec<String>>(&head[..head.len() - 1]).is_err());
    }
}
