//! Handshakes over loopback, with certificates made for each test.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::PrivateKeyDer,
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};

use super::*;
use crate::net::{ErrorKind, Stream, TlsConfigError, TlsError};

const NAME: &str = "mx.example";

/// A server that answers each connection with TLS and a greeting. The root certificate, its own and its key are PEM.
struct Server {
    addr: SocketAddr,
    root: String,
    certificate: String,
    key: String,
}

impl Server {
    async fn start(versions: &[TlsVersion]) -> Self {
        Self::start_for(versions, false).await
    }

    /// Starts a server that may insist on a certificate of the client. Only its own is accepted, in this test.
    async fn start_for(versions: &[TlsVersion], known_clients: bool) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = [NAME.to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();

        let versions: Vec<_> = versions
            .iter()
            .map(|version| if *version == TlsVersion::Tls12 { &TLS12 } else { &TLS13 })
            .collect();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&versions)
            .unwrap();
        let config = if known_clients {
            let mut roots = RootCertStore::empty();
            roots.add(root.der().clone()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let config = config
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                // Some tests need clients that break off, during the handshake or after it.
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let _ = tls.write_all(b"220 hello\r\n").await;
                    let _ = tls.shutdown().await;
                }
            }
        });
        Self { addr, root: root.pem(), certificate: leaf.pem(), key: key.serialize_pem() }
    }

    /// Returns a configuration that trusts only this server.
    fn trusted(&self) -> TlsConfig {
        TlsConfig::for_policy(TlsPolicy::Required)
            .roots(Roots::None)
            .add_roots_pem(self.root.as_bytes())
            .unwrap()
    }

    async fn connect(&self, connector: &TlsConnector, name: &str) -> Result<Stream, TlsError> {
        let stream = Stream::from(TcpStream::connect(self.addr).await.unwrap());
        stream.upgrade(connector, name, soon()).await
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn greeting(stream: &mut Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn both_versions_verified() {
    for (version, cipher) in [(TlsVersion::Tls12, "TLS_ECDHE_ECDSA_"), (TlsVersion::Tls13, "TLS13_")] {
        let server = Server::start(&[version]).await;
        let connector = TlsConnector::new(&server.trusted()).unwrap();
        for name in [NAME, "mx.example.", "127.0.0.1"] {
            let mut stream = server.connect(&connector, name).await.unwrap();
            let info = stream.tls_info().unwrap();
            assert_eq!((info.version, info.peer_certificates.len()), (version, 1));
            assert!(info.cipher.starts_with(cipher), "{}", info.cipher);
            assert_eq!(greeting(&mut stream).await, "220 hello\r\n");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_the_client_is_shown_to_a_server_that_asks() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = Server::start_for(&[version], true).await;
        let (chain, key) = (server.certificate.as_bytes(), server.key.as_bytes());
        let config = server.trusted().client_certificate_pem(chain, key).unwrap();
        let mut stream = server.connect(&TlsConnector::new(&config).unwrap(), NAME).await.unwrap();
        assert_eq!(greeting(&mut stream).await, "220 hello\r\n");

        // In TLS 1.3, the client learns of the refusal when it reads.
        let without = TlsConnector::new(&server.trusted()).unwrap();
        let refused = match server.connect(&without, NAME).await {
            Ok(mut stream) => stream.read_to_string(&mut String::new()).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{version}");
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_certificate_is_reported_at_start() {
    let server = Server::start(&[TlsVersion::Tls13]).await;
    let other = KeyPair::generate().unwrap().serialize_pem();
    let config =
        server.trusted().client_certificate_pem(server.certificate.as_bytes(), other.as_bytes()).unwrap();
    let error = TlsConnector::new(&config).unwrap_err();
    assert!(matches!(error, TlsConfigError::ClientCertificate(_)), "{error:?}");
    assert!(server.trusted().client_certificate_pem(b"no PEM", other.as_bytes()).is_err());
    assert!(server.trusted().client_certificate_pem(server.certificate.as_bytes(), b"no PEM").is_err());
    assert!(!format!("{config:?}").contains(other.lines().nth(1).unwrap()), "no key in a log");
}

#[tokio::test]
async fn a_configuration_of_rustls_is_used_as_it_is() {
    let server = Server::start(&[TlsVersion::Tls13]).await;
    let own = server.trusted().build().unwrap();
    let config = TlsConfig::rustls(own).roots(Roots::None);
    assert!(server.connect(&TlsConnector::new(&config).unwrap(), NAME).await.is_ok());
}

#[tokio::test]
async fn the_highest_common_version() {
    let server = Server::start(&[TlsVersion::Tls12, TlsVersion::Tls13]).await;
    for (config, version) in [
        (server.trusted(), TlsVersion::Tls13),
        (server.trusted().max_version(TlsVersion::Tls12), TlsVersion::Tls12),
    ] {
        let stream = server.connect(&TlsConnector::new(&config).unwrap(), NAME).await.unwrap();
        assert_eq!(stream.tls_info().unwrap().version, version);
    }
}

#[tokio::test]
async fn wrong_name_and_unknown_issuer_are_refused() {
    let server = Server::start(&[TlsVersion::Tls13]).await;
    let trusting = TlsConnector::new(&server.trusted()).unwrap();
    let error = server.connect(&trusting, "mx.example.net").await.unwrap_err();
    assert!(matches!(error, TlsError::Certificate(_)), "{error:?}");

    let mozilla = TlsConnector::new(&TlsConfig::for_policy(TlsPolicy::Implicit)).unwrap();
    let error = server.connect(&mozilla, NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("UnknownIssuer"), "{source}");
    assert!(!error.to_string().contains(&source), "never said twice");
}

#[tokio::test]
async fn unverified_takes_any_certificate() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = Server::start(&[version]).await;
        let connector = TlsConnector::new(&TlsConfig::for_policy(TlsPolicy::Opportunistic)).unwrap();
        let mut stream = server.connect(&connector, "mx.example.net").await.unwrap();
        assert_eq!(greeting(&mut stream).await, "220 hello\r\n");
    }
}

#[tokio::test]
async fn the_second_handshake_resumes_the_first() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = Server::start(&[version]).await;
        let connector = TlsConnector::new(&server.trusted()).unwrap();
        for resumed in [false, true, true] {
            let mut stream = server.connect(&connector.clone(), NAME).await.unwrap();
            let info = stream.tls_info().unwrap();
            assert_eq!(info.resumed, resumed, "{version:?}");
            assert_eq!(info.peer_certificates.len(), 1, "kept with the session");
            greeting(&mut stream).await; // this also reads the tickets
        }
    }
}

#[tokio::test]
async fn sessions_of_many_servers_are_kept() {
    let server = Server::start(&[TlsVersion::Tls13]).await;
    let connector = TlsConnector::new(&server.trusted().verify(false)).unwrap();
    for resumed in [false, true] {
        for host in 0..64 {
            let mut stream = server.connect(&connector, &format!("mx{host}.example")).await.unwrap();
            assert_eq!(stream.tls_info().unwrap().resumed, resumed, "mx{host}");
            greeting(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn nothing_in_common_is_an_alert() {
    let server = Server::start(&[TlsVersion::Tls13]).await;
    let old = TlsConnector::new(&server.trusted().max_version(TlsVersion::Tls12)).unwrap();
    let error = server.connect(&old, NAME).await.unwrap_err();
    assert!(matches!(error, TlsError::Alert(_)), "{error:?}");
}

#[tokio::test]
async fn twice_is_an_error() {
    let server = Server::start(&[TlsVersion::Tls13]).await;
    let connector = TlsConnector::new(&server.trusted()).unwrap();
    let stream = server.connect(&connector, NAME).await.unwrap();
    let error = stream.upgrade(&connector, NAME, soon()).await.unwrap_err();
    assert!(matches!(error, TlsError::AlreadyEncrypted));
    let error = server.connect(&connector, "not a name").await.unwrap_err();
    assert!(matches!(error, TlsError::ServerName { .. }));
}

/// Performs a handshake with a server that sends `says`, then waits or closes.
async fn handshake_with(says: &'static [u8], hangs_up: bool, timeout: Duration) -> TlsError {
    let (client, mut server) = tokio::io::duplex(4096);
    server.write_all(says).await.unwrap();
    if hangs_up {
        server.shutdown().await.unwrap();
    }
    let connector = TlsConnector::new(&TlsConfig::for_policy(TlsPolicy::Opportunistic)).unwrap();
    connector.connect(client, NAME, Instant::now() + timeout).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn servers_without_tls() {
    let timeout = Duration::from_secs(5);
    for line in ["220 mx.example ESMTP\r\n", "454 4.7.0 TLS not available\r\n", "\r\n\r\n\r\n"] {
        let error = handshake_with(line.as_bytes(), false, timeout).await;
        assert_eq!(error.kind(), ErrorKind::NotTls, "{line:?}: {error:?}");
    }
    assert_eq!(handshake_with(b"", true, timeout).await.kind(), ErrorKind::Closed);

    let begin = Instant::now();
    assert_eq!(handshake_with(b"", false, timeout).await.kind(), ErrorKind::TlsTimedOut);
    assert_eq!(begin.elapsed(), timeout);
}
