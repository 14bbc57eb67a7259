//! Bytes received from a client, cut into requests.
//!
//! Small writes are received together with their neighbours into one buffer, many requests with one system call, and
//! copied once into a piece of memory of their own (the write buffer may keep it for long; it must
//! not hold the neighbours too). The data of large writes is received straight into that piece.
//! Memory is bounded by [`BUFFER_BYTES`] plus the one write being received.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::device::BLOCK_MAX;
use super::nbd_wire::{REQUEST_HEADER_BYTES, Request, cmd};
use super::{Buffer, Buffers};

/// Size of the buffer of one connection: a whole queue of 32 requests of 4 KiB fits.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Data of writes longer than this is received into its own memory.
const DIRECT_BYTES: usize = 32 << 10;
const _: () = assert!(BUFFER_BYTES >= 4 * (DIRECT_BYTES + REQUEST_HEADER_BYTES));

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A request with its data, which is empty unless it is a write of legal length.
    Request(Request, Bytes),
    /// Receive more first.
    Starved,
    /// The next request costs more than the caller wants to spend now.
    TooCostly,
}

/// The client sent something that is not a request; the place of the next one is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what should be a request does not begin with its magic number")]
pub struct OutOfStep;

enum Receiving {
    /// Headers, and the data of small writes.
    Headers,
    /// The data of one large write, of which `filled` bytes are there.
    Data {
        request: Request,
        data: Buffer,
        filled: usize,
    },
    /// The data of a write that is too long to be taken; it passes by.
    Nothing { request: Request, left: u64 },
}

/// The receiving half of a connection.
pub struct Inbox {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    receiving: Receiving,
    buffers: Buffers,
}

impl Inbox {
    /// Begins with `early`, bytes that arrived behind the negotiation. Memory for large writes
    /// comes from `buffers`.
    pub fn new(early: &[u8], buffers: Buffers) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES.max(early.len())].into_boxed_slice();
        buffer[..early.len()].copy_from_slice(early);
        Inbox {
            buffer,
            start: 0,
            end: early.len(),
            receiving: Receiving::Headers,
            buffers,
        }
    }

    /// The next request, if it has arrived and costs at most `budget` bytes of memory.
    pub fn next(&mut self, budget: usize) -> Result<Next, OutOfStep> {
        loop {
            match &mut self.receiving {
                Receiving::Headers => match self.next_header(budget)? {
                    Some(next) => return Ok(next),
                    None => continue,
                },
                Receiving::Data { data, filled, .. } => {
                    let here = (data.len() - *filled).min(self.end - self.start);
                    let received = &self.buffer[self.start..self.start + here];
                    data[*filled..*filled + here].copy_from_slice(received);
                    *filled += here;
                    self.start += here;
                    if *filled < data.len() {
                        return Ok(Next::Starved);
                    }
                    return Ok(self.whole_data());
                }
                Receiving::Nothing { request, left } => {
                    let here = (*left).min((self.end - self.start) as u64);
                    *left -= here;
                    self.start += here as usize;
                    if *left > 0 {
                        return Ok(Next::Starved);
                    }
                    let request = *request;
                    self.receiving = Receiving::Headers;
                    return Ok(Next::Request(request, Bytes::new()));
                }
            }
        }
    }

    fn whole_data(&mut self) -> Next {
        match std::mem::replace(&mut self.receiving, Receiving::Headers) {
            Receiving::Data { request, data, .. } => Next::Request(request, data.freeze()),
            _ => Next::Starved,
        }
    }

    /// `None` when data has to be received by itself.
    fn next_header(&mut self, budget: usize) -> Result<Option<Next>, OutOfStep> {
        let here = &self.buffer[self.start..self.end];
        let Some(header) = here.first_chunk() else {
            return Ok(Some(Next::Starved));
        };
        let request = Request::decode(header).ok_or(OutOfStep)?;
        if cost(&request) > budget {
            return Ok(Some(Next::TooCostly));
        }
        let len = request.len as usize;
        if request.command != cmd::WRITE {
            self.start += REQUEST_HEADER_BYTES;
            return Ok(Some(Next::Request(request, Bytes::new())));
        }
        if let Some(data) = here.get(REQUEST_HEADER_BYTES..REQUEST_HEADER_BYTES + len)
            && request.len <= BLOCK_MAX
        {
            let data = Bytes::copy_from_slice(data);
            self.start += REQUEST_HEADER_BYTES + len;
            return Ok(Some(Next::Request(request, data)));
        }
        if len <= DIRECT_BYTES {
            return Ok(Some(Next::Starved));
        }
        self.start += REQUEST_HEADER_BYTES;
        self.receiving = if request.len <= BLOCK_MAX {
            Receiving::Data {
                request,
                data: self.buffers.take(len),
                filled: 0,
            }
        } else {
            Receiving::Nothing {
                request,
                left: u64::from(request.len),
            }
        };
        Ok(None)
    }

    /// Receives once; `Ready(0)` is the end of the stream. To be called when [`Inbox::next`] starves.
    pub fn poll_receive<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        if let Receiving::Data { data, filled, .. } = &mut self.receiving {
            let mut rest = ReadBuf::new(&mut data[*filled..]);
            ready!(Pin::new(stream).poll_read(cx, &mut rest))?;
            let received = rest.filled().len();
            *filled += received;
            return Poll::Ready(Ok(received));
        }
        self.make_room();
        let mut free = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut free))?;
        let received = free.filled().len();
        self.end += received;
        Poll::Ready(Ok(received))
    }

    /// Moves an incomplete request to the front when it would not fit behind the end.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < REQUEST_HEADER_BYTES + DIRECT_BYTES
            || self.end == self.buffer.len()
        {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

/// Memory a request needs until it is answered, in bytes: data received, or data to be sent.
/// Requests that will be refused cost nothing.
pub fn cost(request: &Request) -> usize {
    match request.command {
        cmd::READ | cmd::WRITE if request.len <= BLOCK_MAX => request.len as usize,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::BLOCK_MAX;
    use std::task::Waker;

    fn request(command: u16, cookie: u64, len: u32) -> Request {
        Request {
            flags: 0,
            command,
            cookie,
            offset: 0,
            len,
        }
    }

    /// Small and large writes, reads, and a write that is too long.
    fn conversation() -> (Vec<u8>, Vec<(Request, Vec<u8>)>) {
        let mut said = Vec::new();
        let mut meant = Vec::new();
        let lens = [
            0,
            1,
            4096,
            32 << 10,
            (32 << 10) + 1,
            300_000,
            BLOCK_MAX + 1,
            7,
        ];
        for (cookie, len) in lens.into_iter().enumerate() {
            let read = request(cmd::READ, 100 + cookie as u64, len);
            let write = request(cmd::WRITE, cookie as u64, len);
            let data: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
            said.extend(read.encode());
            said.extend(write.encode());
            said.extend_from_slice(&data);
            let kept = if len > BLOCK_MAX { vec![] } else { data };
            meant.extend([(read, vec![]), (write, kept)]);
        }
        (said, meant)
    }

    fn check_understood(early: usize, piece: usize) {
        let (said, meant) = conversation();
        let mut inbox = Inbox::new(&said[..early], Buffers::default());
        let mut pieces = said[early..].chunks(piece);
        let mut understood = Vec::new();
        loop {
            match inbox.next(usize::MAX).expect("in step") {
                Next::Request(request, data) => understood.push((request, data.to_vec())),
                Next::TooCostly => unreachable!("the budget is endless"),
                Next::Starved => {
                    let Some(mut piece) = pieces.next() else {
                        break;
                    };
                    while !piece.is_empty() {
                        let mut cx = Context::from_waker(Waker::noop());
                        let received = inbox.poll_receive(&mut cx, &mut piece);
                        assert!(
                            matches!(received, Poll::Ready(Ok(1..))),
                            "no room for {piece:?}"
                        );
                        if !piece.is_empty() {
                            // As much as there was room for; make room.
                            while let Next::Request(request, data) =
                                inbox.next(usize::MAX).expect("in step")
                            {
                                understood.push((request, data.to_vec()));
                            }
                        }
                    }
                }
            }
        }
        assert!(
            understood == meant,
            "{early} bytes early, then pieces of {piece}"
        );
    }

    #[test]
    fn a_conversation_is_understood_however_it_is_cut() {
        for (early, piece) in [
            (0, 1 << 20),
            (0, 4096),
            (27, 65_537),
            (300_000, 4124),
            (5000, 31),
        ] {
            check_understood(early, piece);
        }
    }

    #[test]
    fn a_request_that_costs_too_much_stays_where_it_is() {
        let said = [
            &request(cmd::READ, 1, 1000).encode()[..],
            &request(cmd::FLUSH, 2, 0).encode(),
        ]
        .concat();
        let mut inbox = Inbox::new(&said, Buffers::default());
        assert_eq!(inbox.next(999), Ok(Next::TooCostly));
        assert!(matches!(inbox.next(1000), Ok(Next::Request(..))));
        assert!(
            matches!(inbox.next(0), Ok(Next::Request(..))),
            "a flush costs nothing"
        );
        assert_eq!(inbox.next(0), Ok(Next::Starved));
    }
}
