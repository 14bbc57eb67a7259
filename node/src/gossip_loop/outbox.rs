//! What the receiving half of a session wants the sending half to say. At most one of each kind:
//! a newer question replaces an older one that is not answered yet.

use std::sync::atomic::{AtomicBool, Ordering};

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
    /// The turn of this session to ask has come.
    may_ask: AtomicBool,
    told: Notify,
}

impl Outbox {
    /// Adds something to say.
    pub fn put(&self, add: impl FnOnce(&mut Letters)) {
        add(&mut self.letters.lock());
        self.filled.notify_one();
    }

    /// Everything there is to say now. A question stays until its turn has come.
    pub fn take(&self) -> Letters {
        let mut letters = self.letters.lock();
        let asks = letters.ask && self.may_ask();
        let waits = letters.ask && !asks;
        let taken = std::mem::take(&mut *letters);
        letters.ask = waits;
        Letters { ask: asks, ..taken }
    }

    /// Waits until there is something. May end once too often.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Has the turn of this session come?
    pub fn may_ask(&self) -> bool {
        self.may_ask.load(Ordering::Relaxed)
    }

    /// Asks for the first time; from now on questions need not wait.
    pub fn ask_first(&self) {
        self.may_ask.store(true, Ordering::Relaxed);
        self.put(|letters| letters.ask = true);
    }

    /// The peer has told all it knows.
    pub fn peer_has_told(&self) {
        self.told.notify_one();
    }

    /// Waits for that.
    pub async fn told(&self) {
        self.told.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_waits_for_its_turn_and_other_letters_do_not() {
        let outbox = Outbox::default();
        outbox.put(|letters| (letters.ask, letters.pong) = (true, Some(1)));
        let taken = outbox.take();
        assert_eq!((taken.ask, taken.pong), (false, Some(1)));
        outbox.ask_first();
        assert!(outbox.take().ask, "its turn has come");
        assert!(!outbox.take().ask, "asked once");
        outbox.put(|letters| letters.ask = true);
        assert!(outbox.take().ask, "later ones do not wait");
    }
}
