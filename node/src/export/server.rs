//! One NBD client from its first byte to its last.
//!
//! Drives the negotiation (`nbd_handshake.rs`) against the exports of this host and a time limit,
//! starts TLS where it is required, then serves the export that was opened (`nbd_serve.rs`) until
//! the client leaves or is sent away. A client that never gets past the negotiation opens nothing
//! and holds little; whatever goes wrong with one concerns no other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use super::Buffers;
use super::device::Device;
use super::exports::{Exports, Opened, Refusal};
use super::nbd_handshake::{Catalog, ExportInfo, Handshake, HandshakeError, Session, Step, Tls};
use super::nbd_serve::{Client, Left};
use super::nbd_wire::greeting;
use super::tls::NbdTls;
use crate::ports::{Clock, within};
use crate::watch;

/// A client has to be through with its negotiation after this time.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A client that is sent away has this long to take the replies to what it began.
pub const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// What a connection must be able to do.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why a client never opened an export.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSession {
    /// It asked something else and left.
    #[error("left without opening anything")]
    Left,
    /// It did not keep to the protocol.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It was too slow.
    #[error("negotiation not finished within {HANDSHAKE_LIMIT:?}")]
    TooSlow,
    /// The connection broke.
    #[error("connection broke: {0}")]
    Broken(#[from] io::Error),
    /// It sent more behind its request for TLS, before TLS ran: somebody in between may have.
    #[error("bytes in the clear behind the request for TLS")]
    Injected,
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

impl NoSession {
    /// Clients that only asked are nothing to worry about.
    fn report(&self, peer: &str) {
        match self {
            NoSession::Left | NoSession::Stopping => {
                tracing::debug!(peer, why = %self, "NBD client opened nothing");
            }
            why => tracing::warn!(peer, %why, "NBD client refused"),
        }
    }
}

/// Serves clients; cheap to clone.
#[derive(Clone)]
pub struct NbdServer {
    exports: Arc<Exports>,
    clock: Arc<dyn Clock>,
    /// For the data of large writes of all clients.
    buffers: Buffers,
    /// Each client has a thread to itself.
    own_thread: bool,
}

/// How the negotiation ended.
enum Agreed {
    Serve(Session, Opened),
    StartTls,
}

impl NbdServer {
    /// Offers `exports` to clients.
    pub fn new(exports: Arc<Exports>, clock: Arc<dyn Clock>) -> Self {
        NbdServer {
            exports,
            clock,
            buffers: Buffers::default(),
            own_thread: false,
        }
    }

    /// For one client on a thread that runs nothing else.
    pub(super) fn on_own_thread(mut self) -> Self {
        self.own_thread = true;
        self
    }

    /// The time source, for those who listen.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Serves one client on `stream`, unencrypted, until it has left. `peer` is for the log;
    /// `stop` becomes true when clients that still negotiate have to go.
    pub async fn serve(&self, mut stream: impl Stream, peer: &str, stop: watch::Receiver<bool>) {
        let mut talk = Talk::new(&self.exports, Tls::Absent);
        let agreed = self.in_time(talk.begin(&mut stream), stop).await;
        self.go_on(stream, talk, agreed, peer).await;
    }

    /// Like [`NbdServer::serve`] for a client that has to start TLS before anything else.
    pub async fn serve_tls(
        &self,
        stream: impl Stream,
        tls: &NbdTls,
        peer: &str,
        stop: watch::Receiver<bool>,
    ) {
        let mut talk = Talk::new(&self.exports, Tls::Required);
        match self.in_time(talk.begin_tls(stream, tls), stop).await {
            Ok((stream, agreed)) => self.go_on(stream, talk, Ok(agreed), peer).await,
            Err(why) => why.report(peer),
        }
    }

    /// The negotiation within its limits.
    async fn in_time<T>(
        &self,
        negotiation: impl Future<Output = Result<T, NoSession>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<T, NoSession> {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(NoSession::Stopping),
            agreed = within(&*self.clock, HANDSHAKE_LIMIT, negotiation) => {
                agreed.unwrap_or(Err(NoSession::TooSlow))
            }
        }
    }

    async fn go_on(
        &self,
        stream: impl Stream,
        talk: Talk,
        agreed: Result<Agreed, NoSession>,
        peer: &str,
    ) {
        match agreed {
            Ok(Agreed::Serve(session, opened)) => {
                let buffers = self.buffers.clone();
                let mut client = Client::new(stream, &opened, session, &talk.input, buffers);
                if self.own_thread {
                    client = client.with_own_thread();
                }
                drop(talk);
                self.transmit(client, &opened, peer).await;
            }
            Ok(Agreed::StartTls) => NoSession::Left.report(peer),
            Err(why) => why.report(peer),
        }
    }

    /// Serves the export. The open count falls after this has returned, and that is after the
    /// device has answered everything the client began.
    async fn transmit(&self, client: Client<impl Stream>, opened: &Opened, peer: &str) {
        let export = opened.name();
        tracing::info!(peer, export, "NBD client opened the export");
        match self.until_left(client, opened).await {
            left @ (Left::Disconnected | Left::Closed | Left::SentAway) => {
                tracing::info!(peer, export, %left, "NBD client left");
            }
            left => tracing::warn!(peer, export, %left, "NBD client left"),
        }
    }

    async fn until_left(&self, mut client: Client<impl Stream>, opened: &Opened) -> Left {
        let mut cut = opened.cut();
        tokio::select! {
            biased;
            left = client.run() => return left,
            // The sender lives as long as the export, and that as long as `opened`.
            _ = cut.wait_for(|cut| *cut) => {}
        }
        client.send_away();
        if let Some(left) = within(&*self.clock, GOODBYE_LIMIT, client.run()).await {
            return left;
        }
        client.hang_up();
        client.run().await
    }
}

/// The exports of this host, as one client sees them while it negotiates.
struct LiveCatalog {
    exports: Arc<Exports>,
    opened: Option<Opened>,
}

impl Catalog for LiveCatalog {
    fn names(&self) -> Vec<String> {
        self.exports.names()
    }

    fn look(&self, name: &str) -> Result<ExportInfo, Refusal> {
        self.exports.look(name).map(|device| about(&*device))
    }

    fn open(&mut self, name: &str) -> Result<ExportInfo, Refusal> {
        let opened = self.exports.open(name)?;
        let about = about(&**opened.device());
        self.opened = Some(opened);
        Ok(about)
    }
}

fn about(device: &dyn Device) -> ExportInfo {
    let size = device.size();
    ExportInfo {
        size,
        read_only: device.read_only(),
        zero_is_fast: device.zero_is_fast(),
        description: format!("replicated device, {size} bytes"),
    }
}

/// A negotiation under way.
struct Talk {
    handshake: Handshake,
    catalog: LiveCatalog,
    /// Received and not yet understood.
    input: BytesMut,
}

impl Talk {
    fn new(exports: &Arc<Exports>, tls: Tls) -> Self {
        Talk {
            handshake: Handshake::new(tls),
            catalog: LiveCatalog {
                exports: Arc::clone(exports),
                opened: None,
            },
            input: BytesMut::new(),
        }
    }

    /// The whole negotiation of a client that needs TLS, and the encrypted connection.
    async fn begin_tls<S: Stream>(
        &mut self,
        mut stream: S,
        tls: &NbdTls,
    ) -> Result<(TlsStream<S>, Agreed), NoSession> {
        let Agreed::StartTls = self.begin(&mut stream).await? else {
            unreachable!("where TLS is required, nothing is served before it runs");
        };
        if !self.input.is_empty() {
            return Err(NoSession::Injected);
        }
        let mut stream = tls.accept(stream).await?;
        self.handshake.tls_started();
        let agreed = self.go_on(&mut stream).await?;
        Ok((stream, agreed))
    }

    async fn begin(&mut self, stream: &mut impl Stream) -> Result<Agreed, NoSession> {
        stream.write_all(&greeting()).await?;
        self.go_on(stream).await
    }

    async fn go_on(&mut self, stream: &mut impl Stream) -> Result<Agreed, NoSession> {
        let mut out = Vec::new();
        loop {
            let step = self
                .handshake
                .advance(&mut self.input, &mut self.catalog, &mut out)?;
            stream.write_all(&out).await?;
            stream.flush().await?;
            out.clear();
            match step {
                Step::Send => {}
                Step::Receive => {
                    if stream.read_buf(&mut self.input).await? == 0 {
                        return Err(NoSession::Left);
                    }
                }
                Step::StartTls => return Ok(Agreed::StartTls),
                Step::Serve(session) => {
                    let opened = self.catalog.opened.take();
                    let opened = opened.expect("a negotiation says Serve only after Catalog::open");
                    return Ok(Agreed::Serve(session, opened));
                }
                Step::Bye => return Err(NoSession::Left),
            }
        }
    }
}
