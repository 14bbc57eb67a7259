//! Every message between hosts, and the limits each of them keeps.
//!
//! A message is one frame (drawing in [`crate::frame`]). Its head is `{ "message": …, "pieces": [lengths] }`,
//! MessagePack with named fields; log and block contents travel in the body, cut by `pieces`, so they are neither
//! parsed nor copied into the head.
//!
//! Rolling upgrades: both sides name their version in [`Message::Hello`] and then keep to the lower one. New fields are
//! `#[serde(default)]`, so either side may have more of them; a new variant is sent only to a peer whose version knows it.
//! The bytes of each message are pinned in `transport/tests/golden_wire.rs`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tree::{
    Delta, Digest128, Host, LogName, LogPos, Push, RepairAnswer, RepairAsk, Resource, Summary,
};

use crate::frame::{self, Frame, FrameError, Limits};
use crate::net::Class;

/// The version this program speaks.
pub const VERSION: u32 = 1;

/// The oldest version this program still speaks.
pub const VERSION_MIN: u32 = 1;

/// Largest contents of one bulk message. A chunk of this size is a stream of its own, and its bytes fit into one stream window
/// whatever gets lost ([`crate::quic`] on the gap limit).
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Largest head of a message of the key tree: 700 entries of the largest size, or some ten thousand usual ones.
pub const STATE_HEAD_BYTES_MAX: usize = 4 << 20;

/// Largest head of a bulk message: the longest list of ranges or digests we ask for is below 512 KiB.
pub const BULK_HEAD_BYTES_MAX: usize = 1 << 20;

/// At most so many pieces in one [`Message::SyncBlocksAre`], ranges in one request, digests in one answer. 16 bytes each.
pub const RANGES_MAX: usize = 16 << 10;

/// What a receiver of this class accepts as one frame.
pub const fn limits(class: Class) -> Limits {
    match class {
        Class::State => Limits {
            head_max: STATE_HEAD_BYTES_MAX,
            body_max: 0,
        },
        Class::Log | Class::Sync => Limits {
            head_max: BULK_HEAD_BYTES_MAX,
            body_max: BODY_BYTES_MAX,
        },
    }
}

/// What hosts say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Message {
    // ---- class State ----
    /// First message in both directions of a state channel.
    Hello(Hello),
    /// "This is what I have seen": asks for a delta.
    Summary {
        /// Horizons of the sender.
        summary: Summary,
        /// Digest of its tree; with equal summaries it must be equal too.
        digest: [u8; 16],
    },
    /// Answer to a summary: what the asker lacks.
    Delta(Delta),
    /// Fresh changes, unasked.
    Push(Push),
    /// A step of repairing trees that differ without reason, see [`tree::repair`].
    RepairAsk(RepairAsk),
    /// Answer to [`Message::RepairAsk`].
    RepairAnswer(RepairAnswer),
    /// "You were away when deletions came and went: take my whole tree instead of merging", see
    /// [`tree::replacement`].
    MustReplace {
        /// Whose deletions you missed.
        writer: Host,
        /// You have seen less of that writer than this.
        floor: u64,
    },
    /// The same as a summary, for the tree that is being filled: asks for a delta in any case.
    ReplaceAsk {
        /// Horizons of that tree.
        summary: Summary,
    },
    /// Are you there?
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Answer to [`Message::Ping`].
    Pong {
        /// As asked.
        nonce: u64,
    },

    // ---- class Log: subscriber to source ----
    /// Send this log from here on, and whatever is appended later.
    Subscribe {
        /// The resource.
        resource: Resource,
        /// Which of its logs.
        log: LogName,
        /// Logical offset of the first byte wanted.
        from: u64,
    },
    /// "Durable here up to this offset."
    Acked {
        /// Logical offset.
        durable: u64,
    },

    // ---- class Log: source to subscriber ----
    /// First answer to [`Message::Subscribe`].
    LogStart {
        /// The log's file header as it is.
        header: Bytes,
        /// What the source has durably of it.
        durable: u64,
        /// Whether it is finished.
        sealed: bool,
    },
    /// A part of the log. Parts come without gaps.
    LogBytes {
        /// Logical offset of the first byte.
        offset: u64,
        /// Durable bytes of the log, at most [`BODY_BYTES_MAX`].
        #[serde(skip)]
        bytes: Bytes,
    },
    /// The log is finished and has been sent up to its end.
    LogSealed {
        /// Its final length.
        len: u64,
        /// Its final chain digest.
        digest: Digest128,
    },
    /// The source cannot or will not send it.
    LogRefused {
        /// A sentence.
        reason: String,
    },

    // ---- class Sync: target to source ----
    /// What are the digests of these ranges?
    SyncDigests {
        /// The resource.
        resource: Resource,
        /// Comes back in the answer.
        id: u64,
        /// Offset and length of each range in bytes, at most [`RANGES_MAX`].
        ranges: Vec<(u64, u64)>,
        /// One digest for each block of so many bytes of each range; the last one may be shorter.
        block: u32,
    },
    /// What is in these ranges?
    SyncBlocks {
        /// The resource.
        resource: Resource,
        /// Comes back in the answer.
        id: u64,
        /// Offset and length in bytes; together at most [`BODY_BYTES_MAX`].
        ranges: Vec<(u64, u64)>,
    },

    // ---- class Sync: source to target, in the order of the questions ----
    /// Answer to [`Message::SyncDigests`].
    SyncDigestsAre {
        /// As asked.
        id: u64,
        /// In the order of the ranges and of the blocks inside each.
        #[serde(with = "digest_list")]
        digests: Vec<[u8; 16]>,
        /// Every write up to this position is in them.
        at: LogPos,
    },
    /// Answer to [`Message::SyncBlocks`].
    SyncBlocksAre {
        /// As asked.
        id: u64,
        /// The contents, in the order of the ranges.
        pieces: Vec<Piece>,
        /// Every write up to this position is in them …
        not_before: LogPos,
        /// … and none behind this one.
        not_after: LogPos,
    },
    /// The source cannot or will not answer.
    SyncRefused {
        /// As asked.
        id: u64,
        /// A sentence.
        reason: String,
    },
}

/// Who speaks, and which language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the sender; both sides keep to the lower one.
    pub version: u32,
    /// Its name; must be the one in its certificate.
    pub host: Host,
    /// The cluster's id (key `uuid`).
    pub cluster: String,
    /// Its wall clock, nanoseconds since the epoch: large differences are reported.
    pub wall_ns: u64,
    /// Its Lamport clock.
    pub lamport: u64,
}

/// Contents of one range of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Offset on the disk in bytes.
    pub offset: u64,
    /// The contents.
    #[serde(skip)]
    pub bytes: Bytes,
}

/// The version two hosts keep to.
///
/// # Errors
/// A sentence when one of them is too old for the other.
pub fn common_version(theirs: u32) -> Result<u32, String> {
    let common = theirs.min(VERSION);
    if common < VERSION_MIN {
        return Err(format!(
            "it speaks version {theirs}, this host needs at least {VERSION_MIN}; upgrade it"
        ));
    }
    Ok(common)
}

impl Message {
    /// The class of channels this message belongs on.
    pub fn class(&self) -> Class {
        match self {
            Message::Hello(_)
            | Message::Summary { .. }
            | Message::Delta(_)
            | Message::Push(_)
            | Message::RepairAsk(_)
            | Message::RepairAnswer(_)
            | Message::MustReplace { .. }
            | Message::ReplaceAsk { .. }
            | Message::Ping { .. }
            | Message::Pong { .. } => Class::State,
            Message::Subscribe { .. }
            | Message::Acked { .. }
            | Message::LogStart { .. }
            | Message::LogBytes { .. }
            | Message::LogSealed { .. }
            | Message::LogRefused { .. } => Class::Log,
            Message::SyncDigests { .. }
            | Message::SyncBlocks { .. }
            | Message::SyncDigestsAre { .. }
            | Message::SyncBlocksAre { .. }
            | Message::SyncRefused { .. } => Class::Sync,
        }
    }

    /// The message as head and contents; the contents are shared, not copied.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it passes the limits of its class, which every receiver would refuse.
    pub fn encode(&self) -> Result<(Bytes, Vec<Bytes>), FrameError> {
        let body = self.contents();
        let pieces = body.iter().map(|b| b.len() as u64).collect();
        let head = frame::to_head(&HeadOut {
            message: self,
            pieces,
        })?;
        let limits = limits(self.class());
        let sum = body.iter().map(Bytes::len).sum();
        frame::lengths(frame::prefix(head.len(), sum), limits)?;
        Ok((head, body))
    }

    /// The message as one frame; copies the contents when there are several pieces.
    ///
    /// # Errors
    /// As [`Message::encode`].
    pub fn to_frame(&self) -> Result<Frame, FrameError> {
        let (head, body) = self.encode()?;
        let body = match body.as_slice() {
            [one] => one.clone(),
            _ => body.concat().into(),
        };
        Ok(Frame { head, body })
    }

    /// Reads a message back.
    ///
    /// # Errors
    /// [`FrameError::Garbled`] when head and body are not one message.
    pub fn from_frame(frame: &Frame) -> Result<Message, FrameError> {
        let HeadIn {
            mut message,
            pieces,
        } = frame::from_head(&frame.head)?;
        message.fill(&pieces, frame.body.clone())?;
        Ok(message)
    }

    fn contents(&self) -> Vec<Bytes> {
        match self {
            Message::LogBytes { bytes, .. } => vec![bytes.clone()],
            Message::SyncBlocksAre { pieces, .. } => {
                pieces.iter().map(|piece| piece.bytes.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Cuts the body into the places where contents belong; each byte has exactly one.
    fn fill(&mut self, pieces: &[u64], mut body: Bytes) -> Result<(), FrameError> {
        let places: Vec<&mut Bytes> = match self {
            Message::LogBytes { bytes, .. } => vec![bytes],
            Message::SyncBlocksAre { pieces, .. } => {
                pieces.iter_mut().map(|piece| &mut piece.bytes).collect()
            }
            _ => Vec::new(),
        };
        if places.len() != pieces.len() {
            return Err(FrameError::Garbled(format!(
                "{} lengths for {} pieces",
                pieces.len(),
                places.len()
            )));
        }
        for (place, len) in places.into_iter().zip(pieces) {
            if *len > body.len() as u64 {
                return Err(FrameError::Garbled(format!(
                    "a piece of {len} bytes, but only {} are left",
                    body.len()
                )));
            }
            // Fits: not greater than the length of a buffer.
            *place = body.split_to(*len as usize);
        }
        if !body.is_empty() {
            return Err(FrameError::Garbled(format!(
                "{} bytes of contents belong to no piece",
                body.len()
            )));
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct HeadOut<'a> {
    message: &'a Message,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pieces: Vec<u64>,
}

#[derive(Deserialize)]
struct HeadIn {
    message: Message,
    #[serde(default)]
    pieces: Vec<u64>,
}

/// Digests as one run of bytes; as a list of numbers they would take half as much again.
mod digest_list {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};
    use serde_bytes::Deserialize;

    pub fn serialize<S: Serializer>(list: &[[u8; 16]], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(list.as_flattened())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<[u8; 16]>, D::Error> {
        let flat: Vec<u8> = Deserialize::deserialize(from)?;
        let (list, rest) = flat.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(D::Error::custom("digests must be 16 bytes each"));
        }
        Ok(list.to_vec())
    }
}
