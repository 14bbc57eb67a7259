//! How fast is a channel, compared with a bare QUIC transfer in the same run? Run with `--release`.
//!
//! Both ends live in this process, on loopback. Rounds alternate, medians are printed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::pki_dir::Member;
use certs::{Authority, ClusterId, HostKey};
use quinn::{ClientConfig, Connection, ServerConfig};
use tokio::time::Instant;
use transport::line::{Congestion, Line};
use transport::quic::{NetConfig, QuicNet};
use transport::{Class, Message, Net, quic, tls};
use tree::Host;

const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 512;
const ROUNDS: usize = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let authority = authority()?;
    let (alpha, beta) = (member(&authority, "alpha")?, member(&authority, "beta")?);
    let rate = std::env::args().nth(1).and_then(|r| r.parse().ok());
    let line = Line {
        rate,
        congestion: Congestion::Auto,
        ..Line::default()
    };
    let (mut bare, mut channel) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_transfer(&alpha, &beta, &line).await?);
        channel.push(channel_transfer(&alpha, &beta, &line).await?);
    }
    let (bare, channel) = (median(bare), median(channel));
    println!(
        "bare QUIC {bare:.0} MB/s, channel {channel:.0} MB/s, {:.2} of it",
        channel / bare
    );
    Ok(())
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    (CHUNK * CHUNKS) as f64 / 1e6 / all[all.len() / 2].as_secs_f64()
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates must be valid today"
)]
fn now_s() -> Result<u64, Failure> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs())
}

fn authority() -> Result<Authority, Failure> {
    Ok(Authority::create(ClusterId::of("bench", 1, 0)?, now_s()?)?)
}

fn member(authority: &Authority, name: &str) -> Result<Member, Failure> {
    let key = HostKey::create()?;
    Ok(Member {
        host: name.to_owned(),
        cert: authority.issue(name, &key.request()?, now_s()?)?,
        authority: Authority::from_parts(
            authority.cluster().clone(),
            authority.cert().clone(),
            &authority.key_pem(),
        )?,
        key,
    })
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// One stream per chunk, nothing else: what QUIC itself can do here.
async fn bare_transfer(from: &Member, to: &Member, line: &Line) -> Result<Duration, Failure> {
    let there = quic::endpoint(any(), line)?;
    let mut settings = line.settings(any().ip());
    if let Some(settings) = Arc::get_mut(&mut settings) {
        settings.max_concurrent_uni_streams(256u32.into());
    }
    let crypto = tls::server(to.identity()?, to.authority.cert())?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(settings.clone());
    there.set_server_config(Some(config));
    let here = quic::endpoint(any(), line)?;
    let crypto = tls::client(from.identity()?, from.authority.cert())?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(settings);
    let name = to.cluster().dns_name(&to.host)?;
    let connecting = here.connect_with(config, there.local_addr()?, &name)?;
    let incoming = there.accept().await.ok_or("closed")?;
    let (near, far) = tokio::try_join!(connecting, async { incoming.await })?;
    let taking = tokio::spawn(take_streams(far));
    let began = Instant::now();
    let chunk = Bytes::from(vec![7; CHUNK]);
    for _ in 0..CHUNKS {
        let mut stream = near.open_uni().await?;
        stream.write_chunk(chunk.clone()).await?;
        stream.finish()?;
    }
    taking.await??;
    let took = began.elapsed();
    near.close(0u32.into(), b"");
    Ok(took)
}

async fn take_streams(connection: Connection) -> Result<(), Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CHUNKS {
        let mut stream = connection.accept_uni().await?;
        tasks.spawn(async move {
            while let Some(piece) = stream.read_chunk(usize::MAX, true).await? {
                std::hint::black_box(piece);
            }
            Ok::<(), quinn::ReadError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn channel_transfer(from: &Member, to: &Member, line: &Line) -> Result<Duration, Failure> {
    let start = |member: &Member| {
        let config = NetConfig {
            listen: any(),
            line: *line,
            desk: None,
        };
        QuicNet::start(config, member)
    };
    let (near, far) = (start(from)?, start(to)?);
    let beta = Host::new(&to.host)?;
    near.set_peers([(beta.clone(), far.local_addr()?.to_string())].into());
    let mut sending = near.open(&beta, Class::Log).await?;
    let mut taking = far.accept().await.ok_or("closed")?.channel;
    let taken = tokio::spawn(async move {
        for _ in 0..CHUNKS {
            taking.recv().await?;
        }
        Ok::<_, transport::NetError>(taking)
    });
    let began = Instant::now();
    let bytes = Bytes::from(vec![7; CHUNK]);
    for number in 0..CHUNKS {
        let offset = (number * CHUNK) as u64;
        let bytes = bytes.clone();
        sending.send(Message::LogBytes { offset, bytes }).await?;
    }
    let kept = taken.await??;
    let took = began.elapsed();
    drop(kept);
    near.shut_down().await;
    far.shut_down().await;
    Ok(took)
}
