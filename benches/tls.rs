//! Measures a TLS handshake of the client, full and resumed: CPU time of its thread, TLS 1.3, certificate verified.
//!
//! | benchmark | work |
//! |---|---|
//! | `bound` | rustls over a blocking socket, and nothing else |
//! | `smtp-pool` | [`TlsConnector`] over tokio |
//!
//! After each handshake the client reads the banner. With it arrives the ticket for the next handshake. Criterion shows
//! handshakes per second of CPU. The TCP connection is opened before the clock starts.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use cpu_time::ThreadTime;
use criterion::{Criterion, Throughput};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use smtp_pool::net::{Roots, TlsConfig, TlsConnector, TlsPolicy};
use tokio::{
    io::AsyncReadExt,
    runtime::{Builder, Runtime},
    time::Instant,
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    version::TLS13,
};

const NAME: &str = "mx.example.com";
const BANNER: &[u8] = b"220 mx.example.com ESMTP\r\n";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (addr, root) = serve();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for (name, resumed) in [("tls_full", false), ("tls_resumed", true)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1)).sample_size(20);
        let mut config = bare_config(&root);
        bare(addr, &config);
        group.bench_function("bound", |b| {
            b.iter_custom(|n| {
                let one = |_| {
                    if !resumed {
                        config = bare_config(&root);
                    }
                    let (spent, kind) = bare(addr, &config);
                    assert_eq!(kind == Some(HandshakeKind::Resumed), resumed);
                    spent
                };
                (0..n).map(one).sum()
            });
        });
        let mut connector = connector(&root);
        ours(&runtime, addr, &connector);
        group.bench_function("smtp-pool", |b| {
            b.iter_custom(|n| {
                let one = |_| {
                    if !resumed {
                        connector = self::connector(&root);
                    }
                    let (spent, kind) = ours(&runtime, addr, &connector);
                    assert_eq!(kind == Some(HandshakeKind::Resumed), resumed);
                    spent
                };
                (0..n).map(one).sum()
            });
        });
    }
    criterion.final_summary();
}

fn bare_config(root: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap();
    config.with_root_certificates(roots).with_no_client_auth().into()
}

fn bare(addr: SocketAddr, config: &Arc<ClientConfig>) -> (Duration, Option<HandshakeKind>) {
    let mut tcp = TcpStream::connect(addr).unwrap();
    tcp.set_nodelay(true).unwrap();
    let start = ThreadTime::now();
    let mut tls = ClientConnection::new(Arc::clone(config), NAME.try_into().unwrap()).unwrap();
    let mut banner = [0; BANNER.len()];
    Stream::new(&mut tls, &mut tcp).read_exact(&mut banner).unwrap();
    (start.elapsed(), tls.handshake_kind())
}

fn connector(root: &CertificateDer<'static>) -> TlsConnector {
    let config = TlsConfig::for_policy(TlsPolicy::Required).roots(Roots::None).add_root_der(root.to_vec());
    TlsConnector::new(&config.verify(true)).unwrap()
}

fn ours(runtime: &Runtime, addr: SocketAddr, connector: &TlsConnector) -> (Duration, Option<HandshakeKind>) {
    let tcp = runtime.block_on(tokio::net::TcpStream::connect(addr)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let start = ThreadTime::now();
    let tls = runtime.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut tls = connector.connect(tcp, NAME, deadline).await.unwrap();
        let mut banner = [0; BANNER.len()];
        tls.read_exact(&mut banner).await.unwrap();
        tls
    });
    (start.elapsed(), tls.get_ref().1.handshake_kind())
}

/// Starts a server on a thread of its own, whose CPU time does not count. Returns its address and certificate.
fn serve() -> (SocketAddr, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()))
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            tcp.set_nodelay(true).unwrap();
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut tls, &mut tcp);
            stream.write_all(BANNER).unwrap();
            // The loop ends when the client closes.
            let closed = stream.read(&mut [0; 1]);
            assert!(closed.map_or_else(|e| e.kind() != ErrorKind::InvalidData, |n| n == 0));
        }
    });
    (addr, cert.der().clone())
}
