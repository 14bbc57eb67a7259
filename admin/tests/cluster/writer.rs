//! A writer that knows its promises: one write at a time, each numbered, so that after any crash the
//! device must show exactly the writes up to some number, and that number must not be smaller than
//! what was acknowledged before a completed FLUSH (or with FUA).

use std::time::Duration;

use admin::nbd::{NbdClient, NbdError};

/// Every request is answered within this time, also on a loaded machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// Every write fills one block.
pub const BLOCK: usize = 4096;

/// What was written, in order, and how much of it must survive.
pub struct Writer {
    blocks: usize,
    /// Block number of write 1, 2, 3, …
    history: Vec<usize>,
    /// Writes up to this number must survive any crash.
    durable: usize,
    seed: u64,
}

impl Writer {
    /// A writer on an empty device of `size` bytes.
    pub fn new(size: u64, seed: u64) -> Writer {
        let blocks = size as usize / BLOCK;
        Writer {
            blocks,
            history: Vec::new(),
            durable: 0,
            seed: seed | 1,
        }
    }

    /// Writes so far.
    pub fn count(&self) -> usize {
        self.history.len()
    }

    /// A number from this writer's own generator.
    pub fn chance(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    /// Writes until `more` says no or the device goes away; flushes or uses FUA now and then.
    pub async fn run(
        &mut self,
        device: &NbdClient,
        mut more: impl FnMut(usize) -> bool,
    ) -> Result<(), NbdError> {
        while more(self.count()) {
            let (block, choice) = self.draw();
            let number = self.count();
            let at = (block * BLOCK) as u64;
            answered(device.write(at, &content(number), choice == 0)).await?;
            if choice == 0 {
                self.durable = number;
            } else if choice < 3 {
                answered(device.flush()).await?;
                self.durable = number;
            }
        }
        Ok(())
    }

    /// Draws the next write and notes it.
    fn draw(&mut self) -> (usize, u64) {
        let block = self.chance() as usize % self.blocks;
        let choice = self.chance() % 16;
        self.history.push(block);
        (block, choice)
    }

    /// Notes the first `count` writes of a writer with the same seed without making them.
    pub fn repeat(&mut self, count: usize) {
        while self.count() < count {
            self.draw();
        }
    }

    /// Flushes: everything written must survive from now on.
    pub async fn flush(&mut self, device: &NbdClient) -> Result<(), NbdError> {
        answered(device.flush()).await?;
        self.durable = self.count();
        Ok(())
    }

    /// The device as it must be after the first `count` writes.
    pub fn picture(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.blocks * BLOCK];
        for (i, block) in self.history[..count].iter().enumerate() {
            bytes[block * BLOCK..][..BLOCK].copy_from_slice(&content(i + 1));
        }
        bytes
    }

    /// `bytes` must be the device after some number of writes: not fewer than are durable, none left
    /// out in the middle. What was lost behind that number is forgotten. Returns the number.
    pub fn must_be_a_prefix(&mut self, bytes: &[u8]) -> usize {
        let newest = bytes.chunks(BLOCK).map(number_of).max().unwrap_or(0);
        assert!(newest <= self.count(), "write {newest} was never made");
        assert!(
            newest >= self.durable,
            "write {} was durable, only {newest} survived",
            self.durable
        );
        let want = self.picture(newest);
        if let Some(at) = bytes.iter().zip(&want).position(|(a, b)| a != b) {
            let block = at / BLOCK;
            panic!(
                "block {block} shows write {} but should show write {} of {newest}",
                number_of(&bytes[block * BLOCK..][..BLOCK]),
                number_of(&want[block * BLOCK..][..BLOCK]),
            );
        }
        self.history.truncate(newest);
        newest
    }
}

/// The answer to a request; a device that does not answer at all is a failure of its own.
pub async fn answered<T>(
    request: impl Future<Output = Result<T, NbdError>>,
) -> Result<T, NbdError> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, request).await;
    answer.unwrap_or_else(|_| panic!("no answer from the device within {ANSWER_WITHIN:?}"))
}

fn content(number: usize) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    for (i, word) in block.chunks_exact_mut(8).enumerate() {
        let value = if i == 0 {
            number as u64
        } else {
            (number as u64) << 16 ^ i as u64
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    block
}

fn number_of(block: &[u8]) -> usize {
    let mut eight = [0; 8];
    eight.copy_from_slice(&block[..8]);
    u64::from_le_bytes(eight) as usize
}

/// Reads the whole device.
pub async fn read_all(device: &NbdClient) -> Result<Vec<u8>, NbdError> {
    let mut bytes = Vec::with_capacity(device.size() as usize);
    while (bytes.len() as u64) < device.size() {
        let len = (device.size() - bytes.len() as u64).min(1 << 20);
        let read = device.read(bytes.len() as u64, len as u32);
        bytes.extend_from_slice(&answered(read).await?);
    }
    Ok(bytes)
}
