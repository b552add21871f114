//! The pool as a [`tower_service::Service`]: a request names a server, and the response is a connection to it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{CheckoutError, Key, Pool, PooledConnection};

/// [`Pool::get`] for the middleware of tower, such as time-outs, retries and load shedding.
///
/// It is always ready: the pool has a queue of its own, in the order of arrival. A concurrency limit around it makes
/// callers wait in `ready` instead.
///
/// ```
/// # #[cfg(feature = "sandbox")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::pool::{Key, Pool};
/// use tower_service::Service;
/// # use smtp_pool::sandbox::{Sandbox, World};
/// # let sandbox = Sandbox::start(World::demo()).await?;
/// # let server = sandbox.addr("mx.good.test").ok_or("no such host")?.to_string();
/// let mut pool = Pool::builder().build()?;
/// let connection = pool.call(server.parse::<Key>()?).await?;
/// # Ok(()) }
/// # #[cfg(not(feature = "sandbox"))]
/// # fn main() {}
/// ```
impl Service<Key> for Pool {
    type Response = PooledConnection;
    type Error = CheckoutError;
    type Future = Pin<Box<dyn Future<Output = Result<PooledConnection, CheckoutError>> + Send>>;

    /// Returns an error if the pool is closed, and is ready otherwise.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CheckoutError>> {
        Poll::Ready(if self.is_closed() { Err(CheckoutError::Closed) } else { Ok(()) })
    }

    fn call(&mut self, server: Key) -> Self::Future {
        let pool = self.clone();
        Box::pin(async move { pool.get(server).await })
    }
}
