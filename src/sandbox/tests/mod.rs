//! Dialogues over raw sockets, as a client sees them.

mod dialogue;
mod faults;
mod limits;
mod message;
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName},
};

use super::*;
use crate::proto::Mailbox;

const NAME: &str = "mx.good.test";

/// Starts a world of one host, which serves good.test.
async fn start(host: HostConfig) -> Sandbox {
    let strings = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    let domain = DomainConfig {
        name: "good.test".into(),
        users: strings(&["ann", "bob", "cyd", "δοκιμή"]),
        full: strings(&["full"]),
        disabled: strings(&["disabled"]),
        ..DomainConfig::default()
    };
    let world = World { hosts: vec![host], domains: vec![domain], ..World::default() };
    Sandbox::start(world).await.unwrap()
}

fn host() -> HostConfig {
    HostConfig::new(NAME)
}

fn ms(ms: u64) -> Delay {
    Duration::from_millis(ms).into()
}

/// A client that sends any octets.
struct Client<S> {
    stream: BufReader<S>,
}

impl Client<TcpStream> {
    async fn connect(sandbox: &Sandbox) -> Self {
        let stream = TcpStream::connect(sandbox.addr(NAME).unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects and greets.
    async fn greeted(sandbox: &Sandbox) -> Self {
        let mut client = Self::connect(sandbox).await;
        assert_eq!(client.reply().await, "220 mx.good.test ESMTP Postfix (sandbox)");
        client.ask("EHLO client.test").await;
        client
    }

    async fn secure(self, sandbox: &Sandbox) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let mut roots = RootCertStore::empty();
        roots.add(sandbox.certificate_der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, self.stream.into_inner()).await?;
        Ok(Client { stream: BufReader::new(stream) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Returns one line of the server, without its end; empty at the end of the stream.
    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        timeout(Duration::from_secs(5), read).await.expect("a line").unwrap();
        String::from_utf8_lossy(&line).trim_end().into()
    }

    /// Returns one reply, its lines joined by newlines.
    async fn reply(&mut self) -> String {
        let mut reply = self.line().await;
        let mut start = 0;
        while reply.as_bytes().get(start + 3) == Some(&b'-') {
            start = reply.len() + 1;
            reply = reply + "\n" + &self.line().await;
        }
        reply
    }

    /// Sends one command and returns its reply.
    async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    /// Runs a dialogue: each command, and how its reply begins.
    async fn script(&mut self, script: &[(&str, &str)]) {
        for (command, wanted) in script {
            let reply = self.ask(command).await;
            assert!(reply.starts_with(wanted), "{command}: {reply}, wanted {wanted}");
        }
    }

    /// Sends a group of commands in one write, and checks how their replies begin.
    async fn group(&mut self, script: &[(&str, &str)]) {
        let lines = script.iter().map(|(command, _)| format!("{command}\r\n"));
        self.send(lines.collect::<String>()).await;
        for (command, wanted) in script {
            let reply = self.reply().await;
            assert!(reply.starts_with(wanted), "{command}: {reply}, wanted {wanted}");
        }
    }

    /// Returns true if the server is silent for 100 ms and keeps the connection open.
    async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.stream.fill_buf()).await.is_err()
    }

    /// Returns all octets until the server closes.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        timeout(Duration::from_secs(5), read).await.expect("the end").unwrap();
        rest
    }

    async fn expect_end(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.rest().await), "");
    }
}
