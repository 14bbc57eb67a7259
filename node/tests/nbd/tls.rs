//! NBD over TCP with TLS: only who has a certificate of the cluster is told anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use certs::Identity;
use certs::authority::{Authority, ClusterId};
use certs::host_cert::HostKey;
use node::export::nbd_wire::{cmd, opt, rep};
use node::export::{Exports, Listening, NbdServer, NbdTls, TcpSafety};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{HandClock, MIB, RawClient, option_bytes, soon, wants};
use crate::memory_device::MemoryDevice;
use crate::real_clients::{have, run};

/// An authority with one host certificate.
struct Cluster {
    authority: Authority,
    key: HostKey,
    identity: Arc<Identity>,
}

impl Cluster {
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates are checked against the real time"
    )]
    fn new(nr: u32) -> Cluster {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let cluster = ClusterId::of("alpha", now, nr).unwrap();
        let authority = Authority::create(cluster, now).unwrap();
        let key = HostKey::create().unwrap();
        let cert = authority
            .issue("alpha", &key.request().unwrap(), now)
            .unwrap();
        let identity = Identity::new(&key, cert, authority.cert().clone()).unwrap();
        Cluster {
            authority,
            key,
            identity,
        }
    }

    fn name(&self) -> ServerName<'static> {
        let name = self.authority.cluster().dns_name("alpha").unwrap();
        ServerName::try_from(name).unwrap()
    }

    /// Trusts this cluster; shows `shown`, or nothing.
    fn client(&self, shown: Option<&Arc<Identity>>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.cert().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(certs::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        TlsConnector::from(Arc::new(match shown {
            Some(shown) => config.with_client_cert_resolver(Arc::clone(shown) as _),
            None => config.with_no_client_auth(),
        }))
    }

    async fn listen(&self) -> (Listening, Arc<Exports>) {
        let exports = Exports::new();
        exports
            .add("data", Arc::new(MemoryDevice::new(MIB)))
            .unwrap();
        let server = NbdServer::new(Arc::clone(&exports), HandClock::new());
        let tls = NbdTls::new(Arc::clone(&self.identity), self.authority.cert()).unwrap();
        let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        (
            server
                .listen_tcp(anywhere, TcpSafety::Tls(tls))
                .await
                .unwrap(),
            exports,
        )
    }
}

fn port(listening: &Listening) -> u16 {
    listening.address().parse::<SocketAddr>().unwrap().port()
}

async fn connect(listening: &Listening) -> RawClient<TcpStream> {
    let address = (Ipv4Addr::LOCALHOST, port(listening));
    let mut client = RawClient::over(TcpStream::connect(address).await.unwrap());
    client.greet().await;
    client
}

#[tokio::test]
async fn a_member_reads_and_writes_encrypted_and_hears_nothing_in_the_clear() {
    let cluster = Cluster::new(1);
    let (listening, exports) = cluster.listen().await;
    let mut client = connect(&listening).await;
    assert_eq!(client.option(opt::LIST, &[]).await[0].0, rep::ERR_TLS_REQD);
    assert_eq!(
        client.option(opt::GO, &wants("data", &[])).await[0].0,
        rep::ERR_TLS_REQD
    );
    assert_eq!(
        client.option(opt::STARTTLS, &[]).await,
        [(rep::ACK, vec![])]
    );
    let connector = cluster.client(Some(&cluster.identity));
    let stream = soon("TLS", connector.connect(cluster.name(), client.stream))
        .await
        .unwrap();
    let mut client = RawClient::over(stream);
    assert_eq!(client.option(opt::LIST, &[]).await.len(), 2);
    client.go("data").await;
    let data: Vec<u8> = (0..300_000).map(|at| (at / 100) as u8).collect();
    assert_eq!(client.call(cmd::WRITE, 0, 7, 300_000, &data).await.0, 0);
    assert_eq!(client.call(cmd::READ, 0, 7, 300_000, &[]).await, (0, data));
    exports.cut_all();
    listening.stop(Duration::MAX).await;
}

#[tokio::test]
async fn strangers_get_no_further_than_tls() {
    let cluster = Cluster::new(1);
    let foreign = Cluster::new(2);
    let (listening, exports) = cluster.listen().await;
    for shown in [None, Some(&foreign.identity)] {
        let mut client = connect(&listening).await;
        client.option(opt::STARTTLS, &[]).await;
        let connector = cluster.client(shown);
        // A client learns of the refusal here or at its first read.
        if let Ok(stream) = soon("TLS", connector.connect(cluster.name(), client.stream)).await {
            let mut client = RawClient::over(stream);
            let _ = client
                .try_send(&option_bytes(opt::GO, &wants("data", &[])))
                .await;
            assert!(
                client.try_receive(1).await.is_err(),
                "a stranger was answered"
            );
        }
        assert_eq!(exports.opens("data"), 0);
    }
    listening.stop(Duration::MAX).await;
}

#[tokio::test]
async fn what_is_sent_behind_the_request_for_tls_is_not_believed() {
    let cluster = Cluster::new(1);
    let (listening, _exports) = cluster.listen().await;
    let mut client = connect(&listening).await;
    let injected = [
        option_bytes(opt::STARTTLS, &[]),
        option_bytes(opt::LIST, &[]),
    ]
    .concat();
    client.send(&injected).await;
    assert_eq!(
        client.option_replies(opt::STARTTLS).await,
        [(rep::ACK, vec![])]
    );
    assert!(
        client.try_receive(1).await.is_err(),
        "the connection should be closed"
    );
    listening.stop(Duration::MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libnbd_comes_in_with_a_certificate_of_the_cluster() {
    if !have("/usr/bin/python3") {
        return;
    }
    let cluster = Cluster::new(1);
    let (listening, _exports) = cluster.listen().await;
    let dir = tempfile::tempdir().unwrap();
    let pem = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    pem("ca-cert.pem", certificate_pem(cluster.authority.cert()));
    pem(
        "client-cert.pem",
        certificate_pem(&cluster.identity.cert().unwrap()),
    );
    pem("client-key.pem", cluster.key.pem());
    let printed = run(
        "/usr/bin/python3",
        &["-c", &script(dir.path(), port(&listening))],
    )
    .await;
    assert_eq!(printed, "b'\\x00abc\\x00'\n");
    listening.stop(Duration::MAX).await;
}

/// The name in the certificate is not resolvable here, so the client does not compare it.
fn script(certificates: &Path, port: u16) -> String {
    format!(
        "import nbd; h = nbd.NBD(); h.set_tls(nbd.TLS_REQUIRE); h.set_tls_verify_peer(False)\n\
         h.set_tls_certificates('{}'); h.set_export_name('data')\n\
         h.connect_tcp('127.0.0.1', '{port}')\n\
         h.pwrite(b'abc', 1000); h.flush(); print(bytes(h.pread(5, 999))); h.shutdown()",
        certificates.display()
    )
}

fn certificate_pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
