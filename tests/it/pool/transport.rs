//! Transports of the user, and TLS with certificates of the user.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use smtp_pool::{
    client::ConnectError,
    net::{Connect, ConnectFuture, ConnectTarget, Stream, TlsConfig, TlsError, TlsPolicy},
    pool::{CheckoutError, Envelope, Key, OpenError},
    proto::{Mailbox, ReversePath},
};
use tokio::net::TcpStream;

use super::{HOST, Site, builder};

/// Carries octets to a site, over a pipe in memory.
#[derive(Clone, Debug)]
struct Pipe {
    addr: std::net::SocketAddr,
    opened: Arc<AtomicUsize>,
}

impl Connect for Pipe {
    fn connect<'a>(&'a self, target: ConnectTarget<'a>) -> ConnectFuture<'a> {
        assert_eq!((target.host, target.port, target.addrs), ("relay", 2525, &[][..]));
        self.opened.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            let (ours, mut theirs) = tokio::io::duplex(4_096);
            let mut tcp = TcpStream::connect(self.addr).await?;
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut theirs, &mut tcp).await });
            Ok(Stream::new(ours))
        })
    }
}

#[tokio::test]
async fn a_transport_of_the_user_carries_mail_with_and_without_tls() {
    let site = Site::start("").await;
    let pipe = Pipe { addr: site.sandbox.addr(HOST).unwrap(), opened: Arc::default() };
    for policy in [TlsPolicy::Off, TlsPolicy::Required] {
        let root = site.sandbox.certificate_der().to_vec();
        let tls = TlsConfig::for_policy(policy).add_root_der(root);
        // The name is not looked up.
        let server = Key::parse("relay:2525").unwrap().server_name(HOST);
        let pool = builder()
            .tls(policy)
            .tls_config(tls)
            .connect(pipe.clone())
            .server(server.clone())
            .build()
            .unwrap();
        let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@good.test").unwrap());
        for _ in 0..2 {
            assert!(pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap().is_complete());
        }
        let connection = pool.get(&server).await.unwrap();
        assert_eq!(connection.tls_info().is_some(), policy == TlsPolicy::Required);
        assert!(connection.is_reused());
        assert!(connection.peer_addr().is_err());
    }
    assert_eq!((pipe.opened.load(Ordering::Relaxed), site.stats().messages), (2, 4));
}

#[derive(Debug)]
struct Unreachable;

impl Connect for Unreachable {
    fn connect<'a>(&'a self, _: ConnectTarget<'a>) -> ConnectFuture<'a> {
        Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
    }
}

#[tokio::test]
async fn a_transport_that_fails_is_an_error_with_its_kind() {
    let pool = builder().max_retries(0).connect(Unreachable).build().unwrap();
    let error = pool.get("relay").await.unwrap_err();
    assert_eq!(error.kind(), "refused");
    let CheckoutError::Connect { source, .. } = error else { panic!("{error}") };
    assert!(matches!(&*source, OpenError::Connect(ConnectError::Transport(_))), "{source}");
    assert!(source.is_transient() && !source.was_reached());
}

#[tokio::test]
async fn a_pinned_certificate_is_the_only_one_that_is_accepted() {
    let site = Site::start("").await;
    let open = builder().tls(TlsPolicy::Opportunistic).build().unwrap();
    let connection = open.get(&site.server).await.unwrap();
    let certificate = connection.tls_info().unwrap().peer_certificates[0].to_vec();
    let pinned = |der: Vec<u8>| {
        let tls = TlsConfig::for_policy(TlsPolicy::Required).pin_der(der);
        builder().tls(TlsPolicy::Required).max_retries(0).tls_config(tls).build().unwrap()
    };
    // Neither its root nor its name is known.
    assert!(pinned(certificate).get(&site.server).await.is_ok());
    let other = site.sandbox.certificate_der().to_vec();
    let error = pinned(other).get(&site.server).await.unwrap_err();
    let CheckoutError::Connect { source, .. } = error else { panic!("{error}") };
    assert!(
        matches!(&*source, OpenError::Connect(ConnectError::Tls(TlsError::Certificate(_)))),
        "{source:?}"
    );
    assert!(!source.is_transient());
}
