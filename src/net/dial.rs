//! Opens one TCP connection to a list of resolved addresses (Happy Eyeballs, RFC 8305).

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::error::{AttemptError, DialError};

/// The shortest delay that RFC 8305 5 allows between two attempts.
const MIN_ATTEMPT_DELAY: Duration = Duration::from_millis(10);

/// Connects to the first of several addresses that answers.
///
/// ```
/// use smtp_pool::net::Dialer;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let addresses = [listener.local_addr()?];
/// let mut dialer = Dialer::default();
/// dialer.timeout = std::time::Duration::from_secs(10);
/// let stream = dialer.dial(&addresses).await?;
/// assert!(stream.nodelay()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialer {
    /// The local address to connect from, for hosts with several. By default the system chooses.
    ///
    /// Addresses of the other family are then skipped.
    pub bind: Option<IpAddr>,
    /// The time after which the next attempt starts beside a running one: 250 ms by default (RFC 8305 8).
    ///
    /// Values below 10 ms count as 10 ms, the minimum of RFC 8305 5.
    pub attempt_delay: Duration,
    /// The time limit of all attempts together: 30 s by default.
    ///
    /// It allows four SYNs (sent after 0, 1, 3 and 7 s). The limit of the system is about two minutes.
    pub timeout: Duration,
}

impl Default for Dialer {
    fn default() -> Self {
        Self { bind: None, attempt_delay: Duration::from_millis(250), timeout: Duration::from_secs(30) }
    }
}

impl Dialer {
    /// Connects to the first of `addresses` that answers, and sets `TCP_NODELAY` on the connection.
    ///
    /// The addresses are tried in their order, but the families alternate, beginning with that of the first address
    /// (RFC 8305 4). An attempt starts when the previous one has failed, or has run for
    /// [`attempt_delay`](Self::attempt_delay). The first connection wins, and the other attempts are dropped (RFC
    /// 8305 5). The caller should limit the number of addresses; this method does not.
    ///
    /// `TCP_NODELAY` is set because a group of commands is one write, so there is nothing to coalesce. Nagle's
    /// algorithm with delayed acknowledgements would cost 40 ms per group.
    ///
    /// # Errors
    ///
    /// Fails if there is no address to try, if each failed, or if [`timeout`](Self::timeout) has passed.
    ///
    /// # Cancellation safety
    ///
    /// Dropping the future closes the attempts under way; no task remains.
    pub async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
        Ok(self.dial_timed(addresses).await?.0)
    }

    /// Like [`dial`](Self::dial). Also returns the duration of the successful attempt, which is at least a round
    /// trip.
    pub(crate) async fn dial_timed(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(TcpStream, Duration), DialError> {
        let usable = |peer: &SocketAddr| self.bind.is_none_or(|bind| bind.is_ipv4() == peer.is_ipv4());
        let order = interleave(addresses.iter().copied().filter(usable));
        match self.bind {
            Some(bind) if order.is_empty() && !addresses.is_empty() => {
                return Err(DialError::NoAddressOfFamily { bind });
            }
            _ => {}
        }
        let delay = self.attempt_delay.max(MIN_ATTEMPT_DELAY);
        let mut failures = Vec::new();
        let race = race(order, delay, |peer| connect(peer, self.bind), &mut failures);
        match timeout(self.timeout, race).await {
            Ok(Some(stream)) => Ok(stream),
            Ok(None) => Err(DialError::from_failures(failures)),
            Err(_) => Err(DialError::TimedOut { after: self.timeout, failures }),
        }
    }
}

async fn connect(peer: SocketAddr, bind: Option<IpAddr>) -> io::Result<(TcpStream, Duration)> {
    let started = Instant::now();
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    if let Some(ip) = bind {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    Ok((socket.connect(peer).await?, started.elapsed()))
}

/// Alternates the families, beginning with that of the first address. Within a family the order stays.
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let first_is_v4 = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|peer| peer.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

/// Runs `connect` on the addresses until one succeeds. Starts the next one when `delay` has passed or an attempt has
/// failed. Returns `None` if all failed. Failures are added to `failures`, also if the future is dropped early.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    delay: Duration,
    connect: impl Fn(SocketAddr) -> F,
    failures: &mut Vec<AttemptError>,
) -> Option<T> {
    let mut waiting = addresses.into_iter();
    let mut running = Vec::new();
    let mut next_start = pin!(sleep(delay));
    loop {
        if let Some(peer) = waiting.next() {
            running.push((peer, Box::pin(connect(peer))));
            next_start.as_mut().reset(Instant::now() + delay);
        } else if running.is_empty() {
            return None;
        }
        tokio::select! {
            (peer, outcome) = first_done(&mut running) => match outcome {
                Ok(connection) => return Some(connection),
                Err(source) => failures.push(AttemptError { peer, source }),
            },
            () = &mut next_start, if waiting.len() > 0 => {}
        }
    }
}

/// Waits until one of `running` ends, and removes it. Cancel-safe: unfinished attempts stay.
async fn first_done<F: Future>(running: &mut Vec<(SocketAddr, Pin<Box<F>>)>) -> (SocketAddr, F::Output) {
    poll_fn(|context| {
        for (index, (peer, attempt)) in running.iter_mut().enumerate() {
            if let Poll::Ready(output) = attempt.as_mut().poll(context) {
                let peer = *peer;
                drop(running.remove(index));
                return Poll::Ready((peer, output));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
