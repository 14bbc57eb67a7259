//! One direction of one channel: what is under way in it, and how it ends.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use transport::frame::Frame;

use super::IDLE_LIMIT;
use crate::prng::Prng;

/// One direction of one channel.
#[derive(Default)]
pub struct Pipe {
    queue: Mutex<Queue>,
    /// Something has come, gone or ended.
    pub changed: Notify,
}

/// What is under way in it.
#[derive(Default)]
pub struct Queue {
    /// When each message arrives, and the message.
    pub messages: VecDeque<(Instant, Frame)>,
    /// When the last one arrives.
    pub last: Option<Instant>,
    /// No more will come.
    pub closed: bool,
    /// What a break has left of the message behind the last whole one.
    pub torn: Option<Bytes>,
    /// The other end has gone without a word, and since when.
    pub silent: Option<Instant>,
}

impl Queue {
    /// Has the end that is still there found out by now?
    pub fn is_over(&self) -> bool {
        let over = |since: Instant| Instant::now() >= since + IDLE_LIMIT;
        self.closed || self.silent.is_some_and(over)
    }

    /// Of the bytes under way only the first ones get through: keeps the whole messages among them and returns the
    /// beginning of the next one, and how many messages are gone.
    fn shorten(&mut self, chance: &Prng) -> (Option<Bytes>, u64) {
        let now = Instant::now();
        let arrived = self.messages.partition_point(|(at, _)| *at <= now);
        let under_way = self.messages.iter().skip(arrived);
        let bytes: u64 = under_way.map(|(_, f)| f.to_bytes().len() as u64).sum();
        let mut rest = chance.below(bytes + 1) as usize;
        let mut kept = arrived;
        let mut torn = None;
        while let Some((_, frame)) = self.messages.get(kept) {
            let whole = frame.to_bytes();
            if whole.len() > rest {
                torn = (rest > 0).then(|| whole.slice(..rest));
                break;
            }
            rest -= whole.len();
            kept += 1;
        }
        let gone = self.messages.len() - kept;
        self.messages.truncate(kept);
        (torn, gone as u64)
    }
}

impl Pipe {
    /// What is under way.
    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends in order: what is under way arrives. Whoever has gone without a word ends nothing any more.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.closed |= queue.silent.is_none();
        drop(queue);
        self.changed.notify_waiters();
    }

    /// Breaks in the middle of what is under way; how many messages were torn, and how many are gone.
    pub fn break_off(&self, chance: &Prng) -> (u64, u64) {
        let mut queue = self.queue();
        let (torn, gone) = queue.shorten(chance);
        let count = u64::from(torn.is_some());
        queue.torn = torn;
        queue.closed = true;
        drop(queue);
        self.changed.notify_waiters();
        (count, gone - count)
    }

    /// The other end is gone and nobody has said so.
    pub fn fall_silent(&self, chance: &Prng) -> (u64, u64) {
        let mut queue = self.queue();
        let (_, gone) = queue.shorten(chance);
        queue.silent.get_or_insert_with(Instant::now);
        drop(queue);
        self.changed.notify_waiters();
        (0, gone)
    }

    /// Is there nothing more to expect of it?
    pub fn is_closed(&self) -> bool {
        self.queue().is_over()
    }
}
