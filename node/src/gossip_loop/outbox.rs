//! What the receiving half of a session wants the sending half to say. At most one of each kind:
//! a newer question replaces an older one that is not answered yet.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tree::{MustReplace, RepairAnswer, RepairAsk, Summary};

/// What is to be said.
#[derive(Debug, Default)]
pub struct Letters {
    /// Answer this summary with what its sender lacks.
    pub answer: Option<Summary>,
    /// Send the own summary.
    pub ask: bool,
    /// Answer a ping.
    pub pong: Option<u64>,
    /// Tell the peer that its tree must be replaced.
    pub replace: Option<MustReplace>,
    /// Ask for what a tree lacks that is being filled.
    pub fill: Option<Summary>,
    /// Ask for a part of the digest trie.
    pub repair: Option<RepairAsk>,
    /// Answer such a question.
    pub repaired: Option<RepairAnswer>,
}

/// Between the two halves.
#[derive(Debug, Default)]
pub struct Outbox {
    letters: Mutex<Letters>,
    filled: Notify,
}

impl Outbox {
    /// Adds something to say.
    pub fn put(&self, add: impl FnOnce(&mut Letters)) {
        add(&mut self.letters.lock());
        self.filled.notify_one();
    }

    /// Everything there is to say.
    pub fn take(&self) -> Letters {
        std::mem::take(&mut self.letters.lock())
    }

    /// Waits until there is something. May end once too often.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}
