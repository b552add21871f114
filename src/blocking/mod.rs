//! The API without async. Each value holds a private runtime, and each method is one `block_on` of its namesake.
//!
//! The docs of the namesakes hold. Calls work on every thread that may block: those
//! outside of a runtime, and those of [`spawn_blocking`](tokio::task::spawn_blocking) and
//! [`block_in_place`](tokio::task::block_in_place). In async code, calls fail with [`InAsync`] instead of blocking a
//! thread that other tasks need. Only within [`unconstrained`](tokio::task::unconstrained) is async code not
//! recognised: there tokio itself panics.

mod client;
mod pool;
#[cfg(feature = "verify")]
mod verify;

use std::{
    future::Future,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use thiserror::Error;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::coop,
};

#[cfg(feature = "verify")]
pub use self::verify::{Records, Verifier};
pub use self::{
    client::{Connection, Connector},
    pool::{HealthHandle, HealthManager, Pool, PooledConnection},
};

/// A blocking call was made from async code, where it would hold up every task of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a blocking call from async code: use the async API, or `spawn_blocking`")]
pub struct InAsync;

/// The error of a blocking call: that of its async namesake, or a call from async code.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The error of the async namesake.
    #[error(transparent)]
    Inner(E),
    /// Called from async code.
    #[error(transparent)]
    InAsync(#[from] InAsync),
    /// The private runtime cannot be started.
    #[error("the private runtime cannot be started")]
    Runtime(#[source] io::Error),
}

/// The private runtime, which a value shares with all that it makes.
#[derive(Clone, Debug)]
struct Private(Arc<Owned>);

/// A runtime that may be dropped anywhere: in async code an ordinary one would panic.
#[derive(Debug)]
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Private {
    /// Starts a runtime that runs on the threads of its callers, and only while they call.
    fn start<E>() -> Result<Self, Error<E>> {
        Self::build(Builder::new_current_thread().enable_all())
    }

    /// Starts a runtime with a thread of its own, for work that goes on between calls.
    fn start_apart<E>() -> Result<Self, Error<E>> {
        Self::build(Builder::new_multi_thread().worker_threads(1).thread_name("smtp-pool").enable_all())
    }

    fn build<E>(builder: &mut Builder) -> Result<Self, Error<E>> {
        let runtime = builder.build().map_err(Error::Runtime)?;
        Ok(Self(Owned(Some(runtime)).into()))
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, InAsync> {
        match &self.0.0 {
            Some(runtime) if Handle::try_current().is_err() || may_block() => Ok(runtime.block_on(future)),
            _ => Err(InAsync),
        }
    }
}

/// Returns whether a thread with a runtime at hand may block. tokio polls async code with a budget of at most 255
/// operations, and gives none to the threads of `spawn_blocking` and `block_in_place`.
fn may_block() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(_restore) = coop::poll_proceed(&mut context) else { return false };
    // The first guard restores the budget, so what the others use up is not lost.
    (0..u8::MAX).all(|_| match coop::poll_proceed(&mut context) {
        Poll::Ready(guard) => {
            guard.made_progress();
            true
        }
        Poll::Pending => false,
    })
}
