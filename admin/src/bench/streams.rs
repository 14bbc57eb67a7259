//! What the line itself carries between two ends in this process: bare QUIC with our settings, TLS over TCP, plain TCP.
//! No file is touched and nothing is checked, so these are the limits our log shipping is held against.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use transport::line::Line;

use super::lab::Stopwatch;

/// Handed over at a time.
pub const PIECE_BYTES: usize = 1 << 20;
/// A port of the loopback interface which is free.
pub const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One QUIC stream with the settings of the product.
    Quic,
    /// One TLS 1.3 stream over TCP.
    Tls,
    /// One TCP stream.
    Tcp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Quic, Kind::Tls, Kind::Tcp];

    /// Name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Quic => "bare quinn",
            Kind::Tls => "TLS over TCP",
            Kind::Tcp => "TCP",
        }
    }

    /// Sends `bytes` over the loopback interface; MB/s.
    pub fn rate(self, bytes: u64) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            match self {
                Kind::Quic => quic(bytes).await,
                Kind::Tls => tls(bytes).await,
                Kind::Tcp => tcp(bytes).await,
            }
        })
    }
}

struct Identity {
    server: ServerConfig,
    client: ClientConfig,
}

fn identity() -> Result<Identity> {
    let made = rcgen::generate_simple_self_signed(vec!["bench".to_owned()])?;
    let cert: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone())?;
    let server = ServerConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key.into())?;
    let client = ClientConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Identity { server, client })
}

/// A QUIC connection with our settings between two ends in this process.
pub async fn quic_pair() -> Result<(quinn::Connection, quinn::Connection)> {
    let line = Line::default();
    let Identity { server, client } = identity()?;
    let settings = line.settings(LOOPBACK.ip());
    let mut server =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
    server.transport_config(settings.clone());
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    client.transport_config(settings);
    let (there, here) = (
        transport::quic::endpoint(LOOPBACK, &line)?,
        transport::quic::endpoint(LOOPBACK, &line)?,
    );
    there.set_server_config(Some(server));
    let address = there.local_addr()?;
    let accepting =
        tokio::spawn(
            async move { anyhow::Ok(there.accept().await.context("nobody came")?.await?) },
        );
    let here = here.connect_with(client, address, "bench")?.await?;
    let there = accepting.await??;
    Ok((here, there))
}

async fn quic(bytes: u64) -> Result<f64> {
    let (here, there) = quic_pair().await?;
    let receiving = tokio::spawn(async move {
        let (mut send, mut receive) = there.accept_bi().await?;
        let mut got = 0;
        while let Some(chunk) = receive.read_chunk(PIECE_BYTES, true).await? {
            got += chunk.bytes.len() as u64;
        }
        send.write_all(b"!").await?;
        send.finish()?;
        // The other end closes once it has heard that.
        there.closed().await;
        anyhow::Ok(got)
    });
    let (mut send, mut receive) = here.open_bi().await?;
    let watch = Stopwatch::start();
    let piece = bytes::Bytes::from(vec![7; PIECE_BYTES]);
    for _ in 0..bytes / PIECE_BYTES as u64 {
        send.write_chunk(piece.clone()).await?;
    }
    send.finish()?;
    receive.read_to_end(1).await?;
    let seconds = watch.seconds();
    here.close(0u32.into(), b"");
    ensure!(receiving.await?? == bytes, "bytes were lost");
    Ok(bytes as f64 / 1e6 / seconds)
}

async fn tls(bytes: u64) -> Result<f64> {
    let Identity { server, client } = identity()?;
    let (here, there) = pair().await?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let accepting = tokio::spawn(async move { acceptor.accept(there).await });
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let here = connector
        .connect(ServerName::try_from("bench")?, here)
        .await?;
    carry(here, accepting.await??, bytes).await
}

async fn tcp(bytes: u64) -> Result<f64> {
    let (here, there) = pair().await?;
    carry(here, there, bytes).await
}

async fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(LOOPBACK).await?;
    let here = TcpStream::connect(listener.local_addr()?).await?;
    let (there, _) = listener.accept().await?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    Ok((here, there))
}

/// Sends `bytes` from one end to the other until that has said that it has them; MB/s.
pub async fn carry<A, B>(mut here: A, mut there: B, bytes: u64) -> Result<f64>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Stopwatch::start();
    let receiving = tokio::spawn(async move {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut left = bytes;
        while left > 0 {
            match there.read(&mut buffer).await? {
                0 => break,
                n => left -= n as u64,
            }
        }
        there.write_all(b"!").await?;
        there.flush().await?;
        anyhow::Ok(left)
    });
    let piece = vec![7; PIECE_BYTES];
    for _ in 0..bytes / PIECE_BYTES as u64 {
        here.write_all(&piece).await?;
    }
    here.flush().await?;
    here.read_exact(&mut [0]).await?;
    let seconds = watch.seconds();
    ensure!(receiving.await?? == 0, "bytes were lost");
    Ok(bytes as f64 / 1e6 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_carries_everything() {
        for kind in Kind::ALL {
            let rate = kind.rate(4 << 20).expect("a rate");
            assert!(rate > 0.0, "{}", kind.name());
        }
    }
}
