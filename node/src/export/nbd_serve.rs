//! One client in the transmission phase: requests in, replies out.
//!
//! Everything happens in one task, and one turn of [`Client::poll_turn`] does all there is to do
//! before it waits: decode what has arrived, hand it to the device, collect what the device has
//! answered, send all replies together, receive more. So a request that the device answers at once
//! costs one receive and one send, and under load one of each serves many requests.
//!
//! Memory of a connection is bounded: requests are taken up only while the bytes they hold (data
//! of writes, data of reads until it is sent) stay below [`HELD_BYTES_MAX`] and their number below
//! [`REQUESTS_MAX`]; the rest waits in the socket. An error of the device or an illegal request is
//! answered and concerns nobody else; only bytes that are no request at all end the connection.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Buffers;
use super::device::{Answer, BLOCK_MAX, Device, DeviceError};
use super::exports::Opened;
use super::in_flight::{InFlight, Outcome, Work};
use super::inbox::{Inbox, Next, OutOfStep, cost};
use super::nbd_handshake::Session;
use super::nbd_reply::put_reply;
use super::nbd_request::{Action, Terms, understand};
use super::nbd_wire::{Request, cmd};
use super::outbox::Outbox;
use super::usage::Share;
use crate::ports::BoxFuture;

/// Bytes one connection may hold in memory for requests under way.
pub const HELD_BYTES_MAX: usize = 48 << 20;
const _: () = assert!(HELD_BYTES_MAX >= BLOCK_MAX as usize);

/// Requests one connection may have under way. Clients use up to some hundreds.
pub const REQUESTS_MAX: usize = 1024;

/// How a client left.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// It said so.
    #[error("disconnected")]
    Disconnected,
    /// The connection ended without a word.
    #[error("connection closed")]
    Closed,
    /// The connection broke.
    #[error("connection broke: {0}")]
    Broken(#[from] io::Error),
    /// It sent something that is not NBD.
    #[error(transparent)]
    OutOfStep(#[from] OutOfStep),
    /// The export had to be closed.
    #[error("sent away")]
    SentAway,
}

/// One client, its connection, and the device it has open.
pub struct Client<S> {
    stream: S,
    device: Arc<dyn Device>,
    terms: Terms,
    inbox: Inbox,
    in_flight: InFlight<Request>,
    outbox: Outbox,
    /// Bytes held by requests in flight; what waits in the outbox counts itself.
    held: usize,
    /// Set when no more requests are taken up: all that is left is to answer what was begun.
    leaving: Option<Left>,
    /// Nobody takes the replies.
    deaf: bool,
    /// This connection has a thread of its own, which does what the device needs to be done.
    helps: bool,
    share: Share,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client that has negotiated `session` for what it has `opened`; `early` are bytes it sent right
    /// behind that. Memory for large writes comes from `buffers`.
    pub fn new(
        stream: S,
        opened: &Opened,
        session: Session,
        early: &[u8],
        buffers: Buffers,
    ) -> Self {
        let device = Arc::clone(opened.device());
        let terms = Terms {
            size: device.size(),
            read_only: device.read_only(),
            zero_is_fast: device.zero_is_fast(),
            session,
        };
        Client {
            stream,
            device,
            terms,
            inbox: Inbox::new(early, buffers),
            in_flight: InFlight::default(),
            outbox: Outbox::default(),
            held: 0,
            leaving: None,
            deaf: false,
            helps: false,
            share: Share::new(Arc::clone(opened.usage())),
        }
    }

    /// The thread that runs this client runs nothing else, and may block: it helps the device.
    pub fn with_own_thread(mut self) -> Self {
        if let Some(device) = self.device.for_helper() {
            self.device = device;
            self.helps = true;
        }
        self
    }

    /// Serves until the client has left and everything it began is answered. May be dropped and
    /// called again.
    pub async fn run(&mut self) -> Left {
        std::future::poll_fn(|cx| self.poll_turn(cx)).await
    }

    /// No more requests: what has been received but not begun is refused with ESHUTDOWN, then
    /// [`Client::run`] ends with the last answer.
    pub fn send_away(&mut self) {
        while let Ok(Next::Request(request, _)) = self.inbox.next(usize::MAX) {
            self.reply(&request, Err(DeviceError::ShuttingDown));
        }
        self.leave(Left::SentAway);
    }

    /// Nobody takes the replies any more; [`Client::run`] still waits for the device.
    pub fn hang_up(&mut self) {
        self.leave(Left::SentAway);
        self.deaf = true;
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        loop {
            let hungry = self.take_up();
            let load = self.load();
            self.collect(cx);
            let sent = self.send(cx);
            if self.helps && self.device.help() {
                continue;
            }
            if let Some(left) = self.leaving.take_if(|_| sent && self.in_flight.is_empty()) {
                return Poll::Ready(left);
            }
            if self.leaving.is_some() {
                return Poll::Pending;
            }
            if !hungry {
                if self.load() == load {
                    // The device or the client has to go on first; both wake us.
                    return Poll::Pending;
                }
                continue;
            }
            match self.inbox.poll_receive(cx, &mut self.stream) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.leave(Left::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.leave(Left::Broken(error)),
            }
        }
    }

    /// Begins every request that has arrived and may be begun now. `true` if more has to be
    /// received for the next one, `false` if something has to be answered first.
    fn take_up(&mut self) -> bool {
        while self.leaving.is_none() {
            let Some(budget) = self.budget() else {
                return false;
            };
            match self.inbox.next(budget) {
                Ok(Next::Request(request, data)) => self.begin(request, data),
                Ok(Next::Starved) => return true,
                Ok(Next::TooCostly) => return false,
                Err(error) => self.leave(Left::OutOfStep(error)),
            }
        }
        true
    }

    /// Requests in flight and bytes held.
    fn load(&self) -> (usize, usize) {
        (self.in_flight.len(), self.held + self.outbox.unsent())
    }

    /// What the next request may cost in bytes; `None` if none may be begun. A connection that
    /// holds nothing may begin anything, because the largest request is below the bound.
    fn budget(&self) -> Option<usize> {
        let (requests, held) = self.load();
        (requests < REQUESTS_MAX && held < HELD_BYTES_MAX).then(|| HELD_BYTES_MAX - held)
    }

    fn begin(&mut self, request: Request, data: Bytes) {
        match understand(&request, &self.terms) {
            Ok(Action::Leave) => self.leave(Left::Disconnected),
            Ok(action) => match self.ask_device(action, data, &request) {
                Ok(answer) => {
                    self.share.begun();
                    self.share.answered(moved(&request), failure(&answer));
                    self.reply(&request, answer);
                }
                Err(work) => {
                    self.share.begun();
                    self.held += cost(&request);
                    self.in_flight.add(request, work);
                }
            },
            Err(error) => self.reply(&request, Err(error)),
        }
    }

    /// The answer, or the work that will end with it.
    fn ask_device(&self, action: Action, data: Bytes, request: &Request) -> Asked {
        let device = &self.device;
        let plain = match action {
            Action::Read { off, len } => {
                return split(device.read(off, len), Outcome::Read, Work::Read);
            }
            Action::Map { off, len } => {
                return split(device.map(off, len), Outcome::Map, Work::Map);
            }
            Action::Write { off, fua } => device.write(off, data, fua),
            Action::Flush => device.flush(),
            Action::Zero {
                off,
                len,
                fua,
                may_trim,
            } => device.zero(off, len, fua, may_trim),
            Action::Trim { off, len, fua } => device.trim(off, len, fua),
            Action::Cache { off, len } => device.cache(off, len),
            Action::Nothing | Action::Leave => Answer::Now(Ok(())),
        };
        tracing::trace!(
            command = request.command,
            off = request.offset,
            len = request.len,
            "begun"
        );
        split(plain, |()| Outcome::Plain, Work::Plain)
    }

    fn collect(&mut self, cx: &Context<'_>) {
        let Client {
            in_flight,
            outbox,
            held,
            terms,
            share,
            ..
        } = self;
        in_flight.collect(cx, |request, answer| {
            share.answered(moved(&request), failure(&answer));
            *held -= cost(&request);
            put_reply(outbox, terms.session, &request, answer);
        });
    }

    fn reply(&mut self, request: &Request, answer: Result<Outcome, DeviceError>) {
        put_reply(&mut self.outbox, self.terms.session, request, answer);
    }

    /// Sends; `true` when nothing is left to be sent.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        if self.deaf {
            self.outbox.clear();
            return true;
        }
        match self.outbox.poll_send(cx, &mut self.stream) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.outbox.clear();
                self.deaf = true;
                self.leave(Left::Broken(error));
                true
            }
        }
    }

    /// The first reason to leave is the one that is told.
    fn leave(&mut self, left: Left) {
        self.leaving.get_or_insert(left);
    }
}

/// The error number when the device failed; what the client did wrong is no failure of the device.
fn failure(answer: &Result<Outcome, DeviceError>) -> u32 {
    match answer {
        Err(error @ (DeviceError::Io(_) | DeviceError::NoSpace(_))) => error.nbd_errno(),
        _ => 0,
    }
}

/// Bytes which a request moves to or from the device.
fn moved(request: &Request) -> u64 {
    match request.command {
        cmd::READ | cmd::WRITE => u64::from(request.len),
        _ => 0,
    }
}

/// An answer that is there, or the work that leads to it.
type Asked = Result<Result<Outcome, DeviceError>, Work>;

fn split<T>(
    answer: Answer<T>,
    outcome: impl FnOnce(T) -> Outcome,
    work: impl FnOnce(BoxFuture<'static, Result<T, DeviceError>>) -> Work,
) -> Asked {
    match answer {
        Answer::Now(done) => Ok(done.map(outcome)),
        Answer::Later(future) => Err(work(future)),
    }
}
