//! TCP over a long line: a relay of our own gives it the rate and the delay of the line.
//!
//! The relay ends the connection of the sender. On a line that loses nothing that makes little difference: after its start TCP
//! fills such a line, and so does the relay. What a loss does to the kernel's congestion control cannot be seen
//! through it, because the relay would have to lose bytes the sender knows to have arrived; so there is no figure for lines with losses.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::streams::{LOOPBACK, carry};
use super::wan::{Line, now};

/// Taken from a connection at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Sends `bytes` over TCP through a relay like `line`, until the other end has said that it has everything; bytes per second.
pub fn tcp_rate(line: Line, bytes: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut relay = JoinSet::new();
        let (here, there) = relayed(&mut relay, line).await?;
        Ok(carry(here, there, bytes).await? * 1e6)
    })
}

/// Both ends of a connection with a relay between; it ends with `relay`.
async fn relayed(relay: &mut JoinSet<()>, line: Line) -> Result<(TcpStream, TcpStream)> {
    let (door, front) = (
        TcpListener::bind(LOOPBACK).await?,
        TcpListener::bind(LOOPBACK).await?,
    );
    let here = TcpStream::connect(front.local_addr()?).await?;
    let (near, _) = front.accept().await?;
    let far = TcpStream::connect(door.local_addr()?).await?;
    let (there, _) = door.accept().await?;
    for end in [&here, &near, &far, &there] {
        end.set_nodelay(true).context("no delay of its own")?;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    relay.spawn(way(near_in, far_out, line));
    relay.spawn(way(far_in, near_out, line));
    Ok((here, there))
}

/// One direction, until one of its ends is gone.
async fn way(from: OwnedReadHalf, mut to: OwnedWriteHalf, line: Line) {
    let (arrivals, mut queue) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let mut taking = JoinSet::new();
    taking.spawn(take(from, arrivals, line));
    while let Some((at, bytes)) = queue.recv().await {
        sleep_until(at).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Takes as much as fits on the line; a queue of one round trip, and the sender waits.
async fn take(
    mut from: OwnedReadHalf,
    arrivals: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    line: Line,
) {
    let round_trip = 2 * line.delay.max(Duration::from_millis(1));
    let mut free = Instant::from_std(now());
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let takes = Duration::from_secs_f64(len as f64 * 8.0 / line.bits as f64);
        free = free.max(Instant::from_std(now())) + takes;
        let arrival = (free + line.delay, buffer[..len].to_vec());
        if arrivals.send(arrival).is_err() {
            return;
        }
        sleep_until(free - round_trip).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_no_faster_than_its_line_and_loses_nothing() {
        let line = Line {
            bits: 80_000_000,
            delay: Duration::from_millis(5),
            loss_ppm: 0,
        };
        // 10 MB/s; carry fails when bytes are lost.
        let rate = tcp_rate(line, 2 << 20).expect("a rate");
        assert!(rate > 0.0 && rate <= 10e6, "{rate} bytes per second");
    }
}
