//! A value that many may look at and wait for: like `tokio::sync::watch`, but waiters wake in the order
//! in which they began to wait.
//!
//! The channel of tokio spreads its waiters over eight lists by a random number, to spare its locks, and
//! wakes list after list. Which worker runs first is then different in every run, and a seed of the
//! simulation does not repeat. Names and meaning are those of tokio; only what is used here is there.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// All senders are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody will change this value any more")]
pub struct Gone;

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    /// Raised by one with every change, under the lock of the value.
    version: AtomicU64,
    senders: AtomicUsize,
    changed: Notify,
}

/// Changes the value. The last one to go ends the waiting of all receivers.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// Looks at the value, and remembers which version of it was seen.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, locked for reading. Not to be held for long: the sender waits for it.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A sender and a receiver that has seen the first value.
pub fn channel<T>(first: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(first);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A sender nobody listens to yet.
    pub fn new(first: T) -> Sender<T> {
        Sender(Arc::new(Shared {
            value: RwLock::new(first),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            changed: Notify::new(),
        }))
    }

    /// One more receiver; it has seen the value of now.
    pub fn subscribe(&self) -> Receiver<T> {
        let _unchanging = self.0.value.read();
        Receiver {
            shared: self.0.clone(),
            seen: self.0.version.load(Ordering::Acquire),
        }
    }

    /// The value of now.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.value.read())
    }

    /// Another value; returns the one before.
    pub fn send_replace(&self, value: T) -> T {
        let mut value = value;
        self.send_modify(|held| std::mem::swap(held, &mut value));
        value
    }

    /// Changes the value in place.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|held| {
            change(held);
            true
        });
    }

    /// Changes the value in place; receivers wake only when `change` says that it did. Returns what it said.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut held = self.0.value.write();
        let changed = change(&mut held);
        if changed {
            self.0.version.fetch_add(1, Ordering::Release);
        }
        drop(held);
        if changed {
            self.0.changed.notify_waiters();
        }
        changed
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Sender::new(T::default())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::AcqRel);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.senders.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Receiver<T> {
    /// The value of now; whether it counts as seen does not change.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.value.read())
    }

    /// The value of now, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version.load(Ordering::Acquire);
        Ref(value)
    }

    /// The value of now counts as seen.
    pub fn mark_unchanged(&mut self) {
        drop(self.borrow_and_update());
    }

    /// Is there a value that was not seen yet?
    ///
    /// # Errors
    /// [`Gone`] when all senders are gone.
    pub fn has_changed(&self) -> Result<bool, Gone> {
        if self.is_gone() {
            return Err(Gone);
        }
        Ok(self.shared.version.load(Ordering::Acquire) != self.seen)
    }

    /// Waits for a value that was not seen yet, and counts it as seen.
    ///
    /// # Errors
    /// [`Gone`] when all senders are gone and the last value was seen.
    pub async fn changed(&mut self) -> Result<(), Gone> {
        loop {
            // Before the look: a change between look and wait must not be missed.
            let changed = self.shared.changed.notified();
            let gone = self.is_gone();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if gone {
                return Err(Gone);
            }
            changed.await;
        }
    }

    /// Waits until the value is as wanted, beginning with the value of now, and counts it as seen.
    ///
    /// # Errors
    /// [`Gone`] when all senders are gone and the last value is not as wanted.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, Gone> {
        let mut wanted = wanted;
        loop {
            let changed = self.shared.changed.notified();
            let gone = self.is_gone();
            {
                let value = self.shared.value.read();
                self.seen = self.shared.version.load(Ordering::Acquire);
                if wanted(&value) {
                    return Ok(Ref(value));
                }
            }
            if gone {
                return Err(Gone);
            }
            changed.await;
        }
    }

    fn is_gone(&self) -> bool {
        self.shared.senders.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[tokio::test]
    async fn a_change_is_seen_once_by_each_receiver_and_the_last_one_before_the_end() {
        let (tx, mut rx) = channel(1);
        let mut other = rx.clone();
        assert_eq!(rx.has_changed(), Ok(false));
        assert_eq!(tx.send_replace(2), 1);
        assert!(!tx.send_if_modified(|_| false));
        assert_eq!(rx.changed().await, Ok(()));
        assert_eq!(rx.has_changed(), Ok(false));
        assert_eq!(other.has_changed(), Ok(true));
        drop(tx);
        assert_eq!(rx.changed().await, Err(Gone));
        assert_eq!(rx.has_changed(), Err(Gone));
        assert_eq!(other.changed().await, Ok(()));
        assert_eq!(*other.borrow(), 2);
    }

    #[tokio::test]
    async fn waiting_for_a_value_takes_the_one_that_is_there_and_ends_with_the_sender() {
        let (tx, mut rx) = channel(7);
        assert_eq!(rx.wait_for(|v| *v == 7).await.as_deref(), Ok(&7));
        let waiting = tokio::spawn(async move { rx.wait_for(|v| *v > 100).await.map(|v| *v) });
        tokio::task::yield_now().await;
        tx.send_modify(|v| *v += 1);
        tokio::task::yield_now().await;
        tx.send_modify(|v| *v += 100);
        assert_eq!(waiting.await.expect("no panic"), Ok(108));

        let mut rx = tx.subscribe();
        let waiting = tokio::spawn(async move { rx.wait_for(|v| *v == 0).await.map(|v| *v) });
        tokio::task::yield_now().await;
        drop(tx);
        assert_eq!(waiting.await.expect("no panic"), Err(Gone));
    }

    #[tokio::test]
    async fn waiters_wake_in_the_order_in_which_they_began_to_wait() {
        let tx = Sender::new(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut all = tokio::task::JoinSet::new();
        for nr in 0..32 {
            let (mut rx, woken) = (tx.subscribe(), woken.clone());
            all.spawn(async move {
                rx.changed().await.expect("the sender lives");
                woken.lock().push(nr);
            });
        }
        // All of them have begun to wait after a few turns, whatever else the runtime does in between.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        tx.send_replace(1);
        all.join_all().await;
        assert_eq!(*woken.lock(), (0..32).collect::<Vec<_>>());
    }
}
