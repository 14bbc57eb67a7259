//! Many questions on one channel: each gets its answer, which come in the order of the questions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use transport::wire::Piece;
use transport::{Channel, Message, NetError};
use tree::{Host, LogPos, Resource};

use crate::job::Ended;

/// Questions waiting to be sent; more wait in their chunks.
const OUTBOX_MAX: usize = 64;

/// Questions for contents which are under way or wait to be written, of up to [`transport::wire::BODY_BYTES_MAX`] each: more
/// than twice what a line of 1 Gbit/s holds in 200 ms, and all the memory one sync may need for contents.
const CONTENTS_MAX: usize = 64;

/// Puts questions.
pub(super) struct Asker {
    resource: Resource,
    next_id: AtomicU64,
    outbox: mpsc::Sender<(Message, Pending)>,
    room: Semaphore,
}

/// A question whose answer has not come.
struct Pending {
    id: u64,
    tell: oneshot::Sender<Message>,
}

/// Why there is no usable answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// The channel has ended; whoever keeps it says why.
    Gone,
    /// The source refuses.
    Refused(String),
    /// The answer does not fit the question.
    Nonsense(&'static str),
}

impl AskError {
    pub fn ended(self, from: &Host) -> Ended {
        let from = from.clone();
        match self {
            AskError::Gone => Ended::Lost {
                from,
                error: "the channel has ended".to_owned(),
            },
            AskError::Refused(error) => Ended::Lost { from, error },
            AskError::Nonsense(what) => Ended::Foreign {
                from,
                error: format!("its answer does not fit the question: {what}"),
            },
        }
    }
}

/// Contents of ranges, and where they lie in the history of the device.
pub(super) struct Contents {
    pub pieces: Vec<Piece>,
    pub not_before: LogPos,
    pub not_after: LogPos,
}

/// The asker, and the talk which must run as long as answers are wanted; it ends only with an error.
pub(super) fn begin(
    resource: Resource,
    channel: Channel,
) -> (Arc<Asker>, impl Future<Output = NetError>) {
    let (outbox, questions) = mpsc::channel(OUTBOX_MAX);
    let asker = Asker {
        resource,
        next_id: AtomicU64::new(1),
        outbox,
        room: Semaphore::new(CONTENTS_MAX),
    };
    (Arc::new(asker), talk(channel, questions))
}

async fn talk(channel: Channel, questions: mpsc::Receiver<(Message, Pending)>) -> NetError {
    let Channel { tx, rx } = channel;
    let pending = Mutex::new(VecDeque::new());
    tokio::select! {
        biased;
        error = listen(rx, &pending) => error,
        error = speak(tx, questions, &pending) => error,
    }
}

async fn speak(
    mut tx: Box<dyn transport::ChannelTx>,
    mut questions: mpsc::Receiver<(Message, Pending)>,
    pending: &Mutex<VecDeque<Pending>>,
) -> NetError {
    while let Some((question, waits)) = questions.recv().await {
        pending.lock().push_back(waits);
        if let Err(error) = tx.send(question).await {
            return error;
        }
    }
    std::future::pending().await
}

async fn listen(
    mut rx: Box<dyn transport::ChannelRx>,
    pending: &Mutex<VecDeque<Pending>>,
) -> NetError {
    loop {
        let answer = match rx.recv().await {
            Ok(answer) => answer,
            Err(error) => return error,
        };
        let Some(asked) = pending.lock().pop_front() else {
            continue;
        };
        if id_of(&answer) == Some(asked.id) {
            // The chunk may have been given up.
            let _ = asked.tell.send(answer);
        }
        // Else the question is dropped, and its chunk learns that there is no answer.
    }
}

fn id_of(answer: &Message) -> Option<u64> {
    match answer {
        Message::SyncDigestsAre { id, .. }
        | Message::SyncBlocksAre { id, .. }
        | Message::SyncRefused { id, .. } => Some(*id),
        _ => None,
    }
}

impl Asker {
    /// Digests of all blocks of the ranges, and the position up to which the blocks may reach.
    pub async fn digests(
        &self,
        ranges: Vec<(u64, u64)>,
        block: u32,
    ) -> Result<(Vec<[u8; 16]>, LogPos), AskError> {
        let count: u64 = ranges
            .iter()
            .map(|(_, len)| len.div_ceil(block.into()))
            .sum();
        let resource = self.resource.clone();
        let answer = self.ask(|id| Message::SyncDigests {
            resource,
            id,
            ranges,
            block,
        });
        match answer.await? {
            Message::SyncDigestsAre { digests, at, .. } if digests.len() as u64 == count => {
                Ok((digests, at))
            }
            Message::SyncDigestsAre { .. } => Err(AskError::Nonsense("another number of digests")),
            other => Err(refusal(other)),
        }
    }

    /// Waits until there is room for one more answer with contents. To be kept until these are on the disk.
    pub async fn room_for_contents(&self) -> SemaphorePermit<'_> {
        let room = self.room.acquire().await;
        room.expect("this semaphore is never closed")
    }

    /// Contents of the ranges.
    pub async fn contents(&self, ranges: Vec<(u64, u64)>) -> Result<Contents, AskError> {
        let resource = self.resource.clone();
        let asked = ranges.clone();
        let answer = self.ask(|id| Message::SyncBlocks {
            resource,
            id,
            ranges,
        });
        match answer.await? {
            Message::SyncBlocksAre {
                pieces,
                not_before,
                not_after,
                ..
            } => {
                let got = pieces
                    .iter()
                    .map(|piece| (piece.offset, piece.bytes.len() as u64));
                if !got.eq(asked) {
                    return Err(AskError::Nonsense("other ranges"));
                }
                Ok(Contents {
                    pieces,
                    not_before,
                    not_after,
                })
            }
            other => Err(refusal(other)),
        }
    }

    /// Where the source is now.
    pub async fn position(&self) -> Result<LogPos, AskError> {
        let (_, at) = self.digests(Vec::new(), 4096).await?;
        Ok(at)
    }

    async fn ask(&self, question: impl FnOnce(u64) -> Message) -> Result<Message, AskError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        let sent = self.outbox.send((question(id), Pending { id, tell })).await;
        sent.map_err(|_| AskError::Gone)?;
        answer.await.map_err(|_| AskError::Gone)
    }
}

fn refusal(answer: Message) -> AskError {
    match answer {
        Message::SyncRefused { reason, .. } => AskError::Refused(reason),
        _ => AskError::Nonsense("another kind of answer"),
    }
}
