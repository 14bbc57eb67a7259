//! Where clients come in: a unix socket for this host, TCP where it is asked for.
//!
//! The unix socket is for whoever may open it (mode 0600). TCP has no such guard, so it listens on loopback
//! addresses only, unless TLS guards it or the operator has said in so many words that it needs no guard.
//! The file calls here happen once, when the daemon starts or stops.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::server::NbdServer;
use super::tls::NbdTls;
use crate::ports::within;
use crate::real::own_thread;
use crate::watch;

/// Clients of one socket at a time; further ones are closed unheard.
pub const CLIENTS_MAX: usize = 1024;

/// Clients of one socket that get a thread of their own. Further ones share the threads of the daemon and wait a little longer
/// for their flushes.
const OWN_THREADS_MAX: usize = 64;

/// Pause after a failed accept (mostly: too many open files), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers on it.
    #[error("{}: another process serves NBD here; is a daemon running for this directory?", .0.display())]
    InUse(PathBuf),
    /// The system says no.
    #[error("{at}: cannot listen for NBD clients: {source}")]
    Io {
        /// The path or address.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody who reaches this address could read and write the devices.
    #[error(
        "{0}: NBD without TLS on an address that is not loopback; set nbd_insecure = true if the network is guarded"
    )]
    NotSafe(SocketAddr),
}

/// What guards a TCP socket.
#[derive(Clone)]
pub enum TcpSafety {
    /// Only processes of this host reach it: the address must be loopback.
    Loopback,
    /// The operator guards the network (`nbd_insecure = true`).
    OperatorsWord,
    /// Everybody has to prove who he is.
    Tls(NbdTls),
}

enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener, Option<NbdTls>),
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(TcpStream, NbdTls),
}

/// A socket that takes clients until it is stopped or dropped.
pub struct Listening {
    address: String,
    server: NbdServer,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl NbdServer {
    /// Takes clients on a unix socket. A stale socket file is replaced; a path of more than
    /// about 100 bytes is refused by the system.
    pub async fn listen_unix(&self, path: &Path) -> Result<Listening, ListenError> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ListenError::InUse(path.to_owned()));
        }
        let listener = bind_unix(path).map_err(|source| ListenError::Io {
            at: path.display().to_string(),
            source,
        })?;
        let address = path.display().to_string();
        Ok(self.listen(Listener::Unix(listener, path.to_owned()), address))
    }

    /// Takes clients on a TCP address; port 0 lets the system choose, see [`Listening::address`].
    pub async fn listen_tcp(
        &self,
        address: SocketAddr,
        safety: TcpSafety,
    ) -> Result<Listening, ListenError> {
        if matches!(safety, TcpSafety::Loopback) && !address.ip().is_loopback() {
            return Err(ListenError::NotSafe(address));
        }
        let failed = |source| ListenError::Io {
            at: address.to_string(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?.to_string();
        let tls = match safety {
            TcpSafety::Tls(tls) => Some(tls),
            TcpSafety::Loopback | TcpSafety::OperatorsWord => None,
        };
        Ok(self.listen(Listener::Tcp(listener, tls), bound))
    }

    fn listen(&self, listener: Listener, address: String) -> Listening {
        let (stop, stopped) = watch::channel(false);
        tracing::info!(address, "NBD clients are welcome");
        let task = tokio::spawn(take_clients(self.clone(), listener, stopped));
        Listening {
            address,
            server: self.clone(),
            stop,
            task,
        }
    }
}

impl Listening {
    /// The path of the socket, or IP address and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Takes no more clients and waits until all have left, at most `limit`; the rest is cut off.
    /// To make them leave, cut the exports first ([`super::Exports::cut_all`]).
    pub async fn stop(mut self, limit: Duration) {
        self.stop.send_replace(true);
        let clock = Arc::clone(self.server.clock());
        if within(&*clock, limit, &mut self.task).await.is_none() {
            tracing::warn!(address = self.address, "NBD clients did not leave in time");
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bound under another name first, so that nobody can connect before the mode is set.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    let name = PathBuf::from(name);
    match std::fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&name)?;
    std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&name, path)?;
    Ok(listener)
}

async fn take_clients(server: NbdServer, listener: Listener, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    let threads = Arc::new(Semaphore::new(OWN_THREADS_MAX));
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(ended) = clients.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (connection, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an NBD client");
                server.clock().sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(peer, "too many NBD clients, at most {CLIENTS_MAX}");
            continue;
        };
        let (server, stop) = (server.clone(), stop.clone());
        let thread = Arc::clone(&threads).try_acquire_owned().ok();
        clients.spawn(async move {
            match thread {
                Some(_thread) => connection.serve_alone(server, peer, stop).await,
                None => connection.serve(&server, &peer, stop).await,
            }
            drop(place);
        });
    }
    listener.close();
    while let Some(ended) = clients.join_next().await {
        report_panic(ended);
    }
}

/// A defect of ours in one client's task; the others go on.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of an NBD client ended badly");
    }
}

impl Connection {
    async fn serve(self, server: &NbdServer, peer: &str, stop: watch::Receiver<bool>) {
        match self {
            Connection::Unix(stream) => server.serve(stream, peer, stop).await,
            Connection::Tcp(stream) => server.serve(stream, peer, stop).await,
            Connection::Tls(stream, tls) => server.serve_tls(stream, &tls, peer, stop).await,
        }
    }

    /// On a thread that does nothing else, so that it can write the log without a change of threads.
    async fn serve_alone(self, server: NbdServer, peer: String, stop: watch::Receiver<bool>) {
        let name = peer.clone();
        let alone = async move {
            let server = server.on_own_thread();
            match self.settle_here() {
                Ok(here) => here.serve(&server, &peer, stop).await,
                Err(error) => tracing::warn!(peer, %error, "connection cannot be taken over"),
            }
        };
        if let Err(error) = own_thread::run("nbd-client", alone).await {
            tracing::warn!(peer = name, %error, "no thread for an NBD client");
        }
    }

    /// Sockets belong to the runtime that waits for them; this one shall belong to the current one.
    fn settle_here(self) -> io::Result<Connection> {
        let tcp = |stream: TcpStream| TcpStream::from_std(stream.into_std()?);
        Ok(match self {
            Connection::Unix(stream) => Connection::Unix(UnixStream::from_std(stream.into_std()?)?),
            Connection::Tcp(stream) => Connection::Tcp(tcp(stream)?),
            Connection::Tls(stream, tls) => Connection::Tls(tcp(stream)?, tls),
        })
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Connection, String)> {
        match self {
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred().map(|peer| (peer.uid(), peer.pid())) {
                    Ok((uid, Some(pid))) => format!("process {pid} of user {uid}"),
                    _ => "local process".to_owned(),
                };
                Ok((Connection::Unix(stream), peer))
            }
            Listener::Tcp(listener, tls) => {
                let (stream, from) = listener.accept().await?;
                // Replies are sent together already; waiting for more would only cost time.
                stream.set_nodelay(true)?;
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                let connection = match tls {
                    None => Connection::Tcp(stream),
                    Some(tls) => Connection::Tls(stream, tls.clone()),
                };
                Ok((connection, from.to_string()))
            }
        }
    }

    /// Leaves no stale socket file behind.
    fn close(self) {
        if let Listener::Unix(listener, path) = self {
            drop(listener);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "socket file not removed");
            }
        }
    }
}
