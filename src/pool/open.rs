//! Opens a connection in the caller's own future. It is for a caller that limits its connections itself, and that must be
//! able to end an attempt. Otherwise an attempt without a caller would hold its slot until it ends.

use std::{
    panic::Location,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    CheckoutError, Pool, PooledConnection, ToKey,
    connect::ReservedSlot,
    server::{Server, WaitFailure},
};

impl Pool {
    /// Returns an idle connection to `server`, or a new one, opened within `limit`. Dropping the future ends the attempt
    /// and frees its slot at once. Without a free slot, it waits as [`get`](Self::get) does.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[track_caller]
    pub(crate) fn open<K: ToKey>(
        &self,
        server: K,
        limit: Duration,
    ) -> impl Future<Output = Result<PooledConnection, CheckoutError>> {
        let taken_at = Location::caller();
        async move {
            loop {
                let found = self.registry.server(&server)?;
                match Box::pin(found.open_and_lend(limit, taken_at)).await {
                    // The server had just been forgotten.
                    Err(CheckoutError::Closed) if !self.is_closed() => {}
                    outcome => return outcome,
                }
            }
        }
    }
}

impl Server {
    async fn open_and_lend(
        self: Arc<Self>,
        limit: Duration,
        taken_at: &'static Location<'static>,
    ) -> Result<PooledConnection, CheckoutError> {
        self.used.store(self.shared.clock.now(), Ordering::Relaxed);
        self.maintenance.ensure_running();
        if let Some(connection) = self.take(false, taken_at) {
            return Ok(connection);
        }
        if self.slots.reserve_spare() {
            let reserved = ReservedSlot::new(&self);
            match self.open_within(limit).await {
                Ok(connection) => reserved.fill(connection),
                Err(error) => {
                    let failure = WaitFailure::Open(error);
                    reserved.fail(&failure);
                    return Err(self.checkout_error(failure));
                }
            }
        }
        let wait = self.shared.config.acquire_timeout;
        self.get(wait, taken_at).await
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Instant};

    use tokio::{
        net::{TcpListener, TcpSocket, TcpStream},
        time::timeout,
    };

    use super::*;
    use crate::{
        client::ConnectError,
        net::ErrorKind,
        pool::{Config, Key, OpenError},
    };

    const LONG: Duration = Duration::from_secs(60);

    /// A host that drops SYN, because its backlog is full.
    async fn blackhole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (addr, mut backlog) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
            backlog.push(stream.unwrap());
            assert!(backlog.len() < 16, "the backlog never fills");
        }
        (addr, listener, backlog)
    }

    fn pool(config: Config) -> Pool {
        Pool::builder().config(Config { max_retries: 0, ..config }).build().unwrap()
    }

    #[tokio::test]
    async fn dropping_an_attempt_frees_its_slot_at_once() {
        let (addr, _listener, _backlog) = blackhole().await;
        let pool = pool(Config { max_total_connections: 1, ..Config::default() });
        let key = Key::parse(&addr.to_string()).unwrap();
        assert!(timeout(Duration::from_millis(50), pool.open(key.clone(), LONG)).await.is_err());
        assert_eq!(pool.status().connecting, 0);
        // The only slot is free again.
        let began = Instant::now();
        let error = pool.open(key, Duration::from_millis(50)).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let CheckoutError::Connect { source, .. } = error else { panic!("{error:?}") };
        assert!(matches!(*source, OpenError::Timeout { .. }), "{source:?}");
    }

    #[tokio::test]
    async fn tcp_connect_has_its_own_time_out_within_that_of_the_attempt() {
        let (addr, _listener, _backlog) = blackhole().await;
        let mut config = Config { connection_timeout: LONG, ..Config::default() };
        config.timeouts.connect = Duration::from_millis(100);
        let pool = pool(config);
        let error = pool.get(&*addr.to_string()).await.unwrap_err();
        let CheckoutError::Connect { source, .. } = error else { panic!("{error:?}") };
        let OpenError::Connect(ConnectError::Dial(dial)) = &*source else { panic!("{source:?}") };
        assert_eq!(dial.kind(), ErrorKind::TimedOut);
    }
}
