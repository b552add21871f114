//! One connection, from its banner to its end.

use std::{io, net::IpAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Does, FaultStage,
    session::{Mx, ServerSession, Step},
    transport::{ReplyTiming, Reset, Transport},
};

/// Why the conversation is over while the connection is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
    Handshake,
}

/// Serves one client. A failure ends only this connection.
pub(super) async fn serve(mx: Arc<Mx>, tls: TlsAcceptor, stream: TcpStream, peer: IpAddr) {
    let id = mx.counters.connections.increment();
    let ended = match OpenConnection::claim(&mx) {
        Some(open) => converse(&mx, &tls, stream, peer, id, &mut Some(open)).await,
        None => refuse(&mx, stream, peer, id).await,
    };
    tracing::debug!(host = mx.config.name, %peer, error = ended.err().map(tracing::field::display), "closed");
}

/// One of the connections that may be open at the same time. The host frees it when it decides to close, before it
/// sends the final reply. So a client that has read the reply may connect again.
struct OpenConnection<'a>(&'a Mx);

impl<'a> OpenConnection<'a> {
    fn claim(mx: &'a Mx) -> Option<Self> {
        let count = mx.counters.open.up_to(mx.config.max_connections.unwrap_or(u64::MAX))?;
        mx.counters.max_open.raise_to(count);
        Some(Self(mx))
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.counters.open.decrement();
    }
}

async fn refuse(mx: &Arc<Mx>, stream: TcpStream, peer: IpAddr, id: u64) -> io::Result<()> {
    mx.counters.refused_connections.increment();
    let mut session = ServerSession::new(Arc::clone(mx), peer, id, false);
    let mut transport = Transport::new(stream, &mx.config, session.rng.fork());
    session.close(&mut transport.out, 421, "4.7.0", format_args!("Error: too many connections from {peer}"));
    transport.send(None, ReplyTiming::default()).await?;
    transport.close().await
}

async fn converse(
    mx: &Arc<Mx>,
    tls: &TlsAcceptor,
    stream: TcpStream,
    peer: IpAddr,
    id: u64,
    open: &mut Option<OpenConnection<'_>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = ServerSession::new(Arc::clone(mx), peer, id, false);
    if mx.config.implicit_tls {
        let Some(stream) = handshake(mx, tls, stream, &mut session, open).await? else { return Ok(()) };
        let mut transport = Transport::new(stream, &mx.config, session.rng.fork());
        let end = greet(mx, &mut transport, &mut session, open).await?;
        *open = None;
        return transport.end(end == End::Reset).await;
    }
    let mut transport = Transport::new(stream, &mx.config, session.rng.fork());
    let end = greet(mx, &mut transport, &mut session, open).await?;
    if end != End::Handshake {
        *open = None;
        return transport.end(end == End::Reset).await;
    }
    // The stream is passed without its buffers. Octets after STARTTLS, taken into TLS, would be an injection.
    let stream = transport.into_stream();
    let Some(stream) = handshake(mx, tls, stream, &mut session, open).await? else { return Ok(()) };
    let mut transport = Transport::new(stream, &mx.config, session.rng.fork());
    let end = dialogue(&mut transport, &mut session, open).await?;
    *open = None;
    transport.end(end == End::Reset).await
}

async fn handshake(
    mx: &Mx,
    tls: &TlsAcceptor,
    stream: TcpStream,
    session: &mut ServerSession,
    open: &mut Option<OpenConnection<'_>>,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    if let Some(does) = session.fault(FaultStage::Tls, None) {
        // Wait until the client begins: octets after the reply to STARTTLS would be an injection, which is another
        // fault.
        stream.readable().await?;
        let mut transport = Transport::new(stream, &mx.config, session.rng.fork());
        if does == Does::Silence {
            transport.ignore().await?;
        }
        *open = None;
        if does == Does::Reset {
            transport.reset().await?;
            return Ok(None);
        }
        if !matches!(does, Does::Silence | Does::Eof) {
            // The client reads these as a TLS record of an unknown type.
            transport.put(&[0x80; 64]);
            transport.send(None, ReplyTiming::default()).await?;
        }
        transport.close().await?;
        return Ok(None);
    }
    let stream = timeout(mx.config.idle_timeout.max(), tls.accept(stream)).await??;
    session.secured();
    Ok(Some(stream))
}

/// Sends the banner, then runs the dialogue.
async fn greet<S: AsyncRead + AsyncWrite + Reset + Unpin>(
    mx: &Mx,
    transport: &mut Transport<S>,
    session: &mut ServerSession,
    open: &mut Option<OpenConnection<'_>>,
) -> io::Result<End> {
    let delay = mx.config.banner_delay;
    if !delay.is_zero() {
        transport.put(format!("220-{} ESMTP\r\n", mx.config.name).as_bytes());
        transport.send(session.octet_delay(), session.take_timing()).await?;
        transport.drain().await?;
        if !transport.is_silent(delay).await? {
            mx.counters.early_talkers.increment();
            transport.put(b"521 5.5.1 Protocol error\r\n");
            *open = None;
            transport.send(None, ReplyTiming::default()).await?;
            return Ok(End::Close);
        }
    }
    let step = session.banner(&mut transport.out);
    match act(step, transport, session, open).await? {
        Some(end) => Ok(end),
        None => dialogue(transport, session, open).await,
    }
}

/// Answers lines until one side ends the dialogue.
async fn dialogue<S: AsyncRead + AsyncWrite + Reset + Unpin>(
    transport: &mut Transport<S>,
    session: &mut ServerSession,
    open: &mut Option<OpenConnection<'_>>,
) -> io::Result<End> {
    loop {
        let step = session.step(&mut transport.input, &mut transport.out);
        if let Some(end) = act(step, transport, session, open).await? {
            return Ok(end);
        }
    }
}

/// Sends the pending replies, then performs the step of the session.
async fn act<S: AsyncRead + AsyncWrite + Reset + Unpin>(
    step: Step,
    transport: &mut Transport<S>,
    session: &mut ServerSession,
    open: &mut Option<OpenConnection<'_>>,
) -> io::Result<Option<End>> {
    if matches!(step, Step::Close | Step::Reset) {
        *open = None;
    }
    transport.send(session.octet_delay(), session.take_timing()).await?;
    match step {
        Step::Next => {}
        Step::Read => match transport.fill().await {
            Ok(true) => {}
            Ok(false) => return Ok(Some(End::Close)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                session.close(&mut transport.out, 421, "4.4.2", format_args!("Error: timeout exceeded"));
                *open = None;
                transport.send(session.octet_delay(), session.take_timing()).await?;
                return Ok(Some(End::Close));
            }
            Err(error) => return Err(error),
        },
        Step::Pause(delay) => transport.pause(delay).await?,
        Step::Close => return Ok(Some(End::Close)),
        Step::Reset => return Ok(Some(End::Reset)),
        Step::Handshake => {
            transport.drain().await?;
            return Ok(Some(End::Handshake));
        }
        Step::Silence => {
            transport.ignore().await?;
            return Ok(Some(End::Close));
        }
        Step::Endless => {
            transport.send_without_end().await?;
            return Ok(Some(End::Close));
        }
    }
    Ok(None)
}
