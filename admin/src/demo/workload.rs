//! What the demo writes: blocks with known content, and the picture of the device they must give.

use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;

use crate::nbd::NbdClient;

/// Size of one write.
pub const BLOCK_BYTES: u64 = 64 << 10;
/// Writes in flight.
const DEPTH: u64 = 16;

/// What the device must contain, kept beside it in memory.
pub struct Picture {
    bytes: Vec<u8>,
    state: u64,
}

impl Picture {
    /// An empty device of `size` bytes.
    pub fn new(size: u64) -> Picture {
        Picture {
            bytes: vec![0; size as usize],
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// First 16 hex digits of the digest of the whole content.
    pub fn digest(&self) -> String {
        short_digest(&self.bytes)
    }

    /// A small generator (xorshift) with a fixed start: every demo writes the same bytes.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn next_block(&mut self) -> (u64, Vec<u8>) {
        let blocks = self.bytes.len() as u64 / BLOCK_BYTES;
        let at = self.next() % blocks * BLOCK_BYTES;
        let seed = self.next();
        let mut data = vec![0; BLOCK_BYTES as usize];
        for (i, word) in data.chunks_exact_mut(8).enumerate() {
            let mixed = (seed ^ i as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
            word.copy_from_slice(&mixed.to_le_bytes());
        }
        (at, data)
    }

    /// Writes `count` blocks at random places and flushes; the picture follows what was acknowledged.
    pub async fn write(&mut self, device: &NbdClient, count: u64, what: &str) -> Result<()> {
        let bar = bar(count * BLOCK_BYTES, what);
        let mut left = count;
        while left > 0 {
            let round = left.min(DEPTH);
            let mut running = JoinSet::new();
            for (at, data) in self.distinct_blocks(round) {
                let device = device.clone();
                running.spawn(
                    async move { device.write(at, &data, false).await.map(|()| (at, data)) },
                );
            }
            while let Some(done) = running.join_next().await {
                let (at, data) = done?.context("write through the device")?;
                self.bytes[at as usize..][..data.len()].copy_from_slice(&data);
            }
            left -= round;
            bar.inc(round * BLOCK_BYTES);
        }
        device.flush().await.context("flush the device")?;
        bar.finish();
        Ok(())
    }

    /// Blocks at different places, so that their order does not matter.
    fn distinct_blocks(&mut self, count: u64) -> Vec<(u64, Vec<u8>)> {
        let mut blocks: Vec<(u64, Vec<u8>)> = Vec::new();
        while (blocks.len() as u64) < count {
            let block = self.next_block();
            if blocks.iter().all(|(at, _)| *at != block.0) {
                blocks.push(block);
            }
        }
        blocks
    }

    /// Reads the whole device and compares.
    pub async fn verify(&self, device: &NbdClient, what: &str) -> Result<()> {
        let bar = bar(self.bytes.len() as u64, what);
        for (i, want) in self.bytes.chunks(1 << 20).enumerate() {
            let at = (i as u64) << 20;
            let have = device
                .read(at, want.len() as u32)
                .await
                .context("read the device")?;
            anyhow::ensure!(
                have[..] == *want,
                "the device differs from what was written near byte {at}"
            );
            bar.inc(want.len() as u64);
        }
        bar.finish();
        Ok(())
    }
}

/// First 16 hex digits of the BLAKE3 digest.
pub fn short_digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// A progress bar over `total` bytes; hidden when the output is no terminal.
pub fn bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template(
        "      {msg:22} [{bar:40}] {bytes}/{total_bytes} {binary_bytes_per_sec}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
