//! The control socket: who may open it may command this host, so only its owner may.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::control::{Daemon, serve};
use crate::node::Hub;

/// Clients at a time; further ones wait.
const CLIENTS_MAX: usize = 256;

/// A socket that answers until it is dropped.
pub struct ControlSocket {
    path: PathBuf,
    tasks: JoinSet<()>,
}

impl ControlSocket {
    /// Listens on `path` (mode 0600); a stale socket file is replaced.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AddrInUse`] when another daemon answers there.
    pub async fn open(
        path: &Path,
        hub: Arc<Hub>,
        daemon: Arc<dyn Daemon>,
    ) -> io::Result<ControlSocket> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(listener, hub, daemon));
        Ok(ControlSocket {
            path: path.to_owned(),
            tasks,
        })
    }

    /// Ends when the socket cannot be used any more.
    pub async fn broken(&mut self) {
        self.tasks.join_next().await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A file left behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(listener: UnixListener, hub: Arc<Hub>, daemon: Arc<dyn Daemon>) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        if clients.len() >= CLIENTS_MAX {
            clients.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                clients.spawn(serve(stream, hub.clone(), daemon.clone()));
            }
            Err(error) => {
                // Mostly: too many open files. Somebody will leave.
                tracing::warn!(%error, "control socket");
                clients.join_next().await;
            }
        }
    }
}
