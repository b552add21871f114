//! From an endpoint to a session between transactions: dial, TLS, banner, EHLO, STARTTLS, EHLO again, AUTH.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tracing::{Instrument, Span};

use super::{
    ConnectError, Connection, Session, SessionError, Timeouts, log::Log, session::stop_and_wait::unambiguous,
};
use crate::{
    metrics::{Metrics, Operation, ServerMetrics},
    net::{Connect, ConnectTarget, Dialer, Stream, TlsConfig, TlsConfigError, TlsConnector, TlsPolicy},
    proto::{ClientName, Command, Credentials, Reply, Sasl, State, Verb},
};

/// The most servers with broken STARTTLS that are remembered. Beyond it, the memory starts again.
const MAX_BROKEN: usize = 10_000;

/// The port of SMTP (RFC 5321 4.5.4.2).
const SMTP_PORT: u16 = 25;

/// Failures in a row after which STARTTLS counts as broken. One may be an accident, or an attack on one connection.
const BROKEN_AFTER: u32 = 2;

/// A host to connect to: its name, for TLS and for messages, and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Endpoint {
    /// The name that the certificate must be for, if verified.
    pub host: Arc<str>,
    /// What the name resolves to, with the port, in order of preference.
    pub addrs: Vec<SocketAddr>,
}

impl Endpoint {
    /// Returns a host with its addresses, in order of preference.
    #[must_use]
    pub fn new(host: impl Into<Arc<str>>, addrs: Vec<SocketAddr>) -> Self {
        Self { host: host.into(), addrs }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

/// How to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Our own name for EHLO (RFC 5321 4.1.1.1). It should resolve to the address that we connect from. Some servers
    /// refuse a client that greets with another name, and some blocklists list it.
    pub name: ClientName,
    /// The local address to connect from; the system picks one by default.
    pub bind: Option<IpAddr>,
    /// When to use TLS: [`TlsPolicy::Opportunistic`] by default, as servers among themselves do (RFC 7435). At port 465
    /// TLS comes first ([`TlsPolicy::at_port`]).
    pub tls: TlsPolicy,
    /// How to reach servers, in place of TCP ([`Connect`]): none. A verifier does not use it.
    pub connect: Option<Arc<dyn Connect>>,
    /// How to use TLS; by default what goes with the policy ([`TlsConfig::for_policy`]).
    pub tls_config: Option<TlsConfig>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Who to authenticate as, if at all. With credentials, opportunistic TLS is required and verified TLS: they are
    /// sent in the clear only with [`TlsPolicy::Off`].
    pub credentials: Option<Credentials>,
    /// How long STARTTLS that failed twice in a row is not tried again with [`TlsPolicy::Opportunistic`]: 10 minutes.
    pub broken_starttls_memory: Duration,
    /// Whether events of `tracing` may name mailboxes, and repeat what servers say: false. If so, each MAIL, RCPT and
    /// VRFY is an event, and each reply comes with its text. Secrets are in no event ever.
    pub log_addresses: bool,
}

impl ClientConfig {
    /// The defaults, under our own name.
    #[must_use]
    pub fn new(name: ClientName) -> Self {
        Self {
            name,
            bind: None,
            tls: TlsPolicy::default(),
            connect: None,
            tls_config: None,
            timeouts: Timeouts::default(),
            credentials: None,
            broken_starttls_memory: Duration::from_secs(600),
            log_addresses: false,
        }
    }

    /// The policy in force: with credentials, opportunistic TLS is required.
    #[must_use]
    pub fn policy(&self) -> TlsPolicy {
        match self.tls {
            TlsPolicy::Opportunistic if self.credentials.is_some() => TlsPolicy::Required,
            policy => policy,
        }
    }
}

/// A host and a port.
type Server = (Arc<str>, Option<u16>);

/// STARTTLS of one server, which was offered and failed.
#[derive(Debug)]
struct BrokenStartTls {
    failures: u32,
    last: Instant,
}

/// Where a connector records.
#[derive(Debug)]
enum Recorder {
    /// By the host of each endpoint.
    ByHost(Arc<Metrics>),
    /// All connections are to one server, under any name of its endpoints.
    Server(Arc<ServerMetrics>),
}

impl Recorder {
    fn server(&self, host: &str) -> Arc<ServerMetrics> {
        match self {
            Self::ByHost(metrics) => metrics.server(host),
            Self::Server(metrics) => Arc::clone(metrics),
        }
    }
}

/// Opens connections, and remembers which hosts offer STARTTLS without being able to do it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{client::{ClientConfig, Connector, Endpoint}, metrics::Metrics, proto::ClientName};
/// let config = ClientConfig::new(ClientName::parse("verifier.example.org")?);
/// let connector = Connector::new(config, Metrics::new().into())?;
/// let endpoint = Endpoint::new("mx.example.com", vec!["192.0.2.25:25".parse()?]);
/// let mut connection = connector.connect(&endpoint).await?;
/// println!("{:?}", connection.extensions());
/// connection.quit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Connector {
    config: ClientConfig,
    dialer: Dialer,
    tls: TlsConnector,
    /// The server, if all connections are to one.
    server: Option<(Arc<str>, u16)>,
    metrics: Recorder,
    broken_starttls: Mutex<HashMap<Server, BrokenStartTls>>,
}

impl Connector {
    /// A connector; reads root certificates where TLS is to be verified.
    ///
    /// # Errors
    /// The TLS configuration cannot be used.
    pub fn new(config: ClientConfig, metrics: Arc<Metrics>) -> Result<Self, TlsConfigError> {
        let tls_config = config.tls_config.clone().unwrap_or_else(|| TlsConfig::for_policy(config.policy()));
        let tls = TlsConnector::new(&tls_config)?;
        Ok(Self::with_tls(config, tls, metrics))
    }

    /// A connector that shares `tls`, its roots and its sessions, with others; `tls_config` of `config` has no effect.
    #[must_use]
    pub fn with_tls(config: ClientConfig, tls: TlsConnector, metrics: Arc<Metrics>) -> Self {
        Self::recording(config, tls, None, Recorder::ByHost(metrics))
    }

    /// Returns a connector to one server, which records under the name that `metrics` has.
    pub(crate) fn for_server(
        config: ClientConfig,
        tls: TlsConnector,
        server: (Arc<str>, u16),
        metrics: Arc<ServerMetrics>,
    ) -> Self {
        Self::recording(config, tls, Some(server), Recorder::Server(metrics))
    }

    fn recording(
        mut config: ClientConfig,
        tls: TlsConnector,
        server: Option<(Arc<str>, u16)>,
        metrics: Recorder,
    ) -> Self {
        config.timeouts = config.timeouts.bounded();
        let dialer = Dialer { bind: config.bind, timeout: config.timeouts.connect, ..Dialer::default() };
        Self { config, dialer, tls, server, metrics, broken_starttls: Mutex::default() }
    }

    /// Opens a connection and brings it to where a transaction can begin.
    ///
    /// At port 465 TLS comes first, unless the policy is [`TlsPolicy::Off`] ([`TlsPolicy::at_port`]). At every other port,
    /// STARTTLS is used as the policy says.
    ///
    /// With [`TlsPolicy::Opportunistic`], a server whose STARTTLS fails is connected to once more, in the clear. After two
    /// failures in a row, STARTTLS is not tried for
    /// [`broken_starttls_memory`](ClientConfig::broken_starttls_memory). Each failure is logged as a warning.
    ///
    /// # Errors
    /// Any step failed or was refused.
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        self.connect_with(endpoint, self.config.credentials.as_ref(), &AtomicBool::new(false)).await
    }

    /// Connects as [`connect`](Self::connect) does, with a secret that may be newer than the configuration.
    ///
    /// `is_silent` is true while the client waits for a banner in the clear. A caller reads it that ends the attempt at
    /// its own deadline.
    pub(crate) async fn connect_with(
        &self,
        endpoint: &Endpoint,
        credentials: Option<&Credentials>,
        is_silent: &AtomicBool,
    ) -> Result<Connection, ConnectError> {
        // The span lasts as long as the connection. Many callers use the connection, so the span has no parent.
        let span = tracing::debug_span!(parent: None, "connection", server = %endpoint);
        self.connect_in(endpoint, credentials, is_silent).instrument(span).await
    }

    async fn connect_in(
        &self,
        endpoint: &Endpoint,
        credentials: Option<&Credentials>,
        is_silent: &AtomicBool,
    ) -> Result<Connection, ConnectError> {
        let metrics = self.metrics.server(&endpoint.host);
        let policy = self.policy(endpoint);
        let mut opened = self.open(endpoint, policy, credentials, &metrics, is_silent).await;
        if let Err(error @ (ConnectError::Tls(_) | ConnectError::StartTls(_))) = &opened
            && policy == TlsPolicy::Opportunistic
        {
            self.record_broken(endpoint, error);
            opened = self.open(endpoint, TlsPolicy::Off, credentials, &metrics, is_silent).await;
        } else if opened.as_ref().is_ok_and(|connection| connection.tls_info().is_some()) {
            self.broken_starttls().remove(&server(endpoint));
        }
        match &opened {
            Ok(connection) => {
                tracing::debug!(
                    took = ?connection.opened().elapsed(),
                    tls = ?connection.tls_info().map(|tls| tls.version),
                    "connected"
                );
                metrics.connection_opened();
            }
            Err(error) => {
                tracing::debug!(kind = error.kind(), "cannot connect");
                metrics.connection_failed(error.kind());
            }
        }
        opened
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Returns the policy for one attempt: none for STARTTLS that is known to be broken.
    fn policy(&self, endpoint: &Endpoint) -> TlsPolicy {
        let policy = self.config.policy().at_port(self.port(endpoint));
        if policy != TlsPolicy::Opportunistic {
            return policy;
        }
        match self.broken_starttls().get(&server(endpoint)) {
            Some(broken) if broken.failures >= BROKEN_AFTER && self.remembers(broken) => TlsPolicy::Off,
            _ => policy,
        }
    }

    fn port(&self, endpoint: &Endpoint) -> u16 {
        let port = self.server.as_ref().map_or(SMTP_PORT, |(_, port)| *port);
        endpoint.addrs.first().map_or(port, SocketAddr::port)
    }

    /// Opens the transport. Returns the round trip of TCP, as far as it is known.
    async fn reach(&self, endpoint: &Endpoint) -> Result<(Stream, Option<Duration>), ConnectError> {
        let Some(connect) = &self.config.connect else {
            let (tcp, round_trip) = self.dialer.dial_timed(&endpoint.addrs).await?;
            return Ok((tcp.into(), Some(round_trip)));
        };
        // The host of the endpoint is the name in the certificate.
        let host = self.server.as_ref().map_or(&endpoint.host, |(host, _)| host);
        let target = ConnectTarget::new(host, self.port(endpoint), &endpoint.addrs);
        let connected = timeout(self.config.timeouts.connect, connect.connect(target)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        Ok((connected.map_err(ConnectError::Transport)?, None))
    }

    fn broken_starttls(&self) -> MutexGuard<'_, HashMap<Server, BrokenStartTls>> {
        self.broken_starttls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembers(&self, broken: &BrokenStartTls) -> bool {
        broken.last.elapsed() < self.config.broken_starttls_memory
    }

    /// Returns the log for a session of the connection that is being opened.
    fn log(&self) -> Log {
        // If the span of the connection is disabled, the current span belongs to a caller, and is not kept.
        let wanted = tracing::enabled!(tracing::Level::DEBUG);
        let span = if wanted { Span::current() } else { Span::none() };
        Log { span, addresses: self.config.log_addresses }
    }

    /// Records that STARTTLS failed.
    fn record_broken(&self, endpoint: &Endpoint, error: &ConnectError) {
        let mut broken = self.broken_starttls();
        if broken.len() == MAX_BROKEN {
            broken.clear();
        }
        let now = Instant::now();
        let entry = broken.entry(server(endpoint)).or_insert(BrokenStartTls { failures: 0, last: now });
        let failures = if self.remembers(entry) { entry.failures.saturating_add(1) } else { 1 };
        *entry = BrokenStartTls { failures, last: now };
        drop(broken);
        let kind = error.kind();
        if failures < BROKEN_AFTER {
            tracing::warn!(host = %endpoint, kind, "STARTTLS failed, this connection goes on in the clear");
        } else {
            let pause = self.config.broken_starttls_memory;
            tracing::warn!(host = %endpoint, kind, failures, ?pause, "STARTTLS failed again, it is not tried until the pause is over");
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        policy: TlsPolicy,
        credentials: Option<&Credentials>,
        metrics: &Arc<ServerMetrics>,
        is_silent: &AtomicBool,
    ) -> Result<Connection, ConnectError> {
        let started = Instant::now();
        let (mut stream, round_trip) = self.reach(endpoint).await?;
        metrics.record(Operation::Connect, started.elapsed());
        if policy == TlsPolicy::Implicit {
            stream = self.handshake(stream, endpoint, metrics).await?;
        }
        let mut session = Session::new(stream, self.config.timeouts, Arc::clone(metrics));
        session.set_log(self.log());
        if let Some(round_trip) = round_trip {
            session.set_connect_time(round_trip);
        }
        let is_clear = policy != TlsPolicy::Implicit;
        is_silent.store(is_clear, Ordering::Relaxed);
        let banner = match session.banner().await {
            Err(SessionError::Timeout { .. }) if is_clear && session.unread() == 0 => {
                return Err(ConnectError::Silent);
            }
            banner => banner?,
        };
        is_silent.store(false, Ordering::Relaxed);
        if session.state() != State::Connected {
            return Err(refused(Verb::Connect, &banner));
        }
        self.greet(&mut session, &banner).await?;
        let wanted = matches!(policy, TlsPolicy::Opportunistic | TlsPolicy::Required);
        if wanted && session.extensions().starttls {
            session = self.starttls(session, endpoint, policy, metrics).await?;
            if let Some(round_trip) = round_trip {
                session.set_connect_time(round_trip);
            }
        } else if policy == TlsPolicy::Required {
            return Err(ConnectError::NoStartTls);
        }
        if let Some(credentials) = credentials {
            authenticate(&mut session, credentials).await?;
        }
        Ok(Connection::new(session, Arc::clone(&endpoint.host), banner, started))
    }

    /// Greets by EHLO, and by HELO if the server does not know EHLO or a firewall mangles it.
    async fn greet(&self, session: &mut Session<Stream>, banner: &Reply) -> Result<(), ConnectError> {
        let ehlo = session.greet(&Command::Ehlo(self.config.name.clone())).await?;
        if ehlo.is_positive() {
            return Ok(());
        }
        let unknown = matches!(ehlo.code(), 500..=504) || banner.text().contains("***");
        if !unknown || session.state() == State::Closed {
            return Err(refused(Verb::Ehlo, &ehlo));
        }
        let helo = session.greet(&Command::Helo(self.config.name.clone())).await?;
        if helo.is_positive() { Ok(()) } else { Err(refused(Verb::Helo, &helo)) }
    }

    async fn starttls(
        &self,
        mut session: Session<Stream>,
        endpoint: &Endpoint,
        policy: TlsPolicy,
        metrics: &Arc<ServerMetrics>,
    ) -> Result<Session<Stream>, ConnectError> {
        session.queue(&Command::StartTls)?;
        let (verb, reply) = session.reply().await.map_err(ConnectError::StartTls)?;
        let reply = unambiguous(verb, reply).map_err(ConnectError::StartTls)?;
        if session.state() != State::Tls {
            return match policy {
                TlsPolicy::Opportunistic if session.state() == State::Ready => Ok(session),
                _ => Err(refused(Verb::StartTls, &reply)),
            };
        }
        let stream = self.handshake(session.into_stream()?, endpoint, metrics).await?;
        let mut session = Session::secured(stream, self.config.timeouts, Arc::clone(metrics));
        session.set_log(self.log());
        let ehlo =
            session.greet(&Command::Ehlo(self.config.name.clone())).await.map_err(ConnectError::StartTls)?;
        if ehlo.is_positive() { Ok(session) } else { Err(refused(Verb::Ehlo, &ehlo)) }
    }

    async fn handshake(
        &self,
        stream: Stream,
        endpoint: &Endpoint,
        metrics: &ServerMetrics,
    ) -> Result<Stream, ConnectError> {
        let started = Instant::now();
        let deadline = started + self.config.timeouts.tls;
        let stream = stream.upgrade(&self.tls, &endpoint.host, deadline).await?;
        metrics.record(Operation::Tls, started.elapsed());
        metrics.tls_handshake(stream.tls_info().is_some_and(|tls| tls.resumed));
        Ok(stream)
    }
}

/// Returns the server of an endpoint.
fn server(endpoint: &Endpoint) -> Server {
    (Arc::clone(&endpoint.host), endpoint.addrs.first().map(SocketAddr::port))
}

/// Returns the error of a refusal, with an excerpt of the reply: the pool keeps the error for long.
fn refused(verb: Verb, reply: &Reply) -> ConnectError {
    ConnectError::Refused { verb, reply: reply.excerpt() }
}

/// Sends AUTH, and answers challenges until the server decides (RFC 4954 4).
pub(super) async fn authenticate<S>(
    session: &mut Session<S>,
    credentials: &Credentials,
) -> Result<(), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut sasl = Sasl::new(credentials, session.extensions())?;
    let auth = Command::Auth { mechanism: sasl.mechanism().clone(), initial: sasl.initial()? };
    let mut reply = session.command(&auth).await?;
    while session.state() == State::Auth {
        reply = session.auth_response(&sasl.respond()?).await?;
    }
    let reply = unambiguous(Verb::Auth, reply)?;
    match reply.code() {
        235 => Ok(()),
        200..=299 => Err(SessionError::from(crate::proto::DialogueError::Unsolicited(reply.code())).into()),
        _ => Err(refused(Verb::Auth, &reply)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    fn connector(tls: TlsPolicy) -> Connector {
        let mut config = ClientConfig::new(ClientName::parse("client.example.org").unwrap());
        config.tls = tls;
        config.timeouts = Timeouts::all(Duration::from_millis(200));
        Connector::new(config, Metrics::new().into()).unwrap()
    }

    #[test]
    fn tls_comes_first_at_port_465_and_by_starttls_elsewhere() {
        for (policy, port, wanted) in [
            (TlsPolicy::Opportunistic, 465, TlsPolicy::Implicit),
            (TlsPolicy::Required, 465, TlsPolicy::Implicit),
            (TlsPolicy::Implicit, 465, TlsPolicy::Implicit),
            (TlsPolicy::Off, 465, TlsPolicy::Off),
            (TlsPolicy::Opportunistic, 587, TlsPolicy::Opportunistic),
            (TlsPolicy::Required, 25, TlsPolicy::Required),
            (TlsPolicy::Implicit, 2465, TlsPolicy::Implicit),
        ] {
            let endpoint = Endpoint { host: "mx".into(), addrs: vec![([127, 0, 0, 1], port).into()] };
            assert_eq!(connector(policy).policy(&endpoint), wanted, "{policy} at {port}");
        }
    }

    /// Connects to a server that says so much in the clear, and no more.
    async fn connect_to(said: &'static [u8], tls: TlsPolicy) -> ConnectError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "localhost".into(), addrs: vec![listener.local_addr().unwrap()] };
        let serving = async {
            let mut socket = listener.accept().await.unwrap().0;
            socket.write_all(said).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = serving => unreachable!(),
            connected = async { connector(tls).connect(&endpoint).await } => connected.unwrap_err(),
        }
    }

    #[tokio::test]
    async fn a_server_that_waits_for_implicit_tls_is_told_from_one_that_is_slow() {
        let error = connect_to(b"", TlsPolicy::Opportunistic).await;
        assert!(matches!(error, ConnectError::Silent), "{error:?}");
        assert!(error.to_string().contains("implicit"), "{error}");
        assert_eq!(error.kind(), "timed_out");
        // Half a banner is no sign of TLS, and silence within TLS is none either.
        let error = connect_to(b"220 mx", TlsPolicy::Opportunistic).await;
        let late = |error: &SessionError| matches!(error, SessionError::Timeout { verb: Verb::Connect });
        assert!(matches!(&error, ConnectError::Session(error) if late(error)), "{error:?}");
        let error = connect_to(b"", TlsPolicy::Implicit).await;
        assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    }
}
