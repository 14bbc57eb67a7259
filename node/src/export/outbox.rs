//! Replies on their way to a client: collected, then sent with as few system calls as possible.
//!
//! Headers are copied together; the data of reads is sent from where it is.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Pieces handed to one system call; the kernel takes up to 1024.
const PIECES_PER_CALL_MAX: usize = 128;

/// Data up to this length is cheaper copied than sent as a piece of its own.
const COPIED_BYTES_MAX: usize = 512;

/// The sending half of a connection.
#[derive(Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Goes behind all pieces.
    tail: BytesMut,
    unsent: usize,
}

impl Outbox {
    /// Adds a few bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.unsent += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Adds data.
    pub fn put_data(&mut self, data: Bytes) {
        if data.len() <= COPIED_BYTES_MAX {
            return self.put(&data);
        }
        self.unsent += data.len();
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(data);
    }

    /// Bytes that are held here, because the client has not taken them yet.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Sends until nothing is left.
    pub fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while self.unsent > 0 {
            let sent = if self.pieces.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.tail))?
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES_PER_CALL_MAX];
                let mut used = 0;
                let all = self
                    .pieces
                    .iter()
                    .map(|piece| &piece[..])
                    .chain([&self.tail[..]]);
                for (slice, piece) in slices.iter_mut().zip(all) {
                    *slice = IoSlice::new(piece);
                    used += 1;
                }
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..used]))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.forget(sent);
        }
        // Encrypted streams keep something back until they are told.
        Pin::new(stream).poll_flush(cx)
    }

    /// Drops everything: nobody is there to take it.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }

    fn forget(&mut self, mut sent: usize) {
        self.unsent -= sent;
        while let Some(first) = self.pieces.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                return;
            }
            sent -= first.len();
            self.pieces.pop_front();
        }
        if sent == self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_narrow_pipe() {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for nr in 0..1000u32 {
            outbox.put(&nr.to_be_bytes());
            expected.extend(nr.to_be_bytes());
            let data = vec![nr as u8; nr as usize];
            expected.extend_from_slice(&data);
            outbox.put_data(data.into());
        }
        assert_eq!(outbox.unsent(), expected.len());
        let (mut here, mut there) = tokio::io::duplex(777);
        let sending = std::future::poll_fn(|cx| outbox.poll_send(cx, &mut here));
        let mut received = vec![0; expected.len()];
        let receiving = there.read_exact(&mut received);
        let (sent, _) = tokio::join!(sending, receiving);
        sent.expect("sent");
        assert!(received == expected);
        assert_eq!(outbox.unsent(), 0);
    }

    #[test]
    fn what_does_not_fit_stays_and_is_counted() {
        let mut outbox = Outbox::default();
        outbox.put(&[1; 100]);
        let (mut here, _there) = tokio::io::duplex(30);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outbox.poll_send(&mut cx, &mut here).is_pending());
        assert_eq!(outbox.unsent(), 70);
        outbox.clear();
        assert_eq!(outbox.unsent(), 0);
    }
}
