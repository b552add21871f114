//! The same without async: each value holds a private runtime, and each method is one `block_on` of its namesake.
//!
//! Nothing is written twice here, so the docs of the namesakes hold. Called from within a tokio runtime, everything
//! fails with [`InAsync`] instead of blocking a thread that others need.

mod client;
mod pool;
#[cfg(feature = "verify")]
mod verify;

use std::{future::Future, io, sync::Arc};

use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};

#[cfg(feature = "verify")]
pub use self::verify::{Records, Verifier};
pub use self::{
    client::{Connection, Connector},
    pool::{HealthHandle, HealthManager, Pool, PooledConnection},
};

/// A blocking call was made from within a tokio runtime, where it would hold up every task of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a blocking call from within a tokio runtime: use the async API, or a thread outside of the runtime")]
pub struct InAsync;

/// What a blocking call can fail with: the error of its async namesake, or being called from async code.
#[derive(Debug, Error)]
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

/// The private runtime, shared by what came out of one value.
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
    /// A runtime that runs on the threads of its callers, and only while they call.
    fn start<E>() -> Result<Self, Error<E>> {
        Self::build(Builder::new_current_thread().enable_all())
    }

    /// A runtime that has a thread of its own, for what goes on while nobody calls.
    fn start_apart<E>() -> Result<Self, Error<E>> {
        Self::build(Builder::new_multi_thread().worker_threads(1).thread_name("smtp-pool").enable_all())
    }

    fn build<E>(builder: &mut Builder) -> Result<Self, Error<E>> {
        let runtime = builder.build().map_err(Error::Runtime)?;
        Ok(Self(Owned(Some(runtime)).into()))
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, InAsync> {
        match (Handle::try_current(), &self.0.0) {
            // `spawn_blocking` is refused with the rest: nothing public tells its threads from those that run tasks, and
            // there the async API is at hand by `Handle::block_on`.
            (Err(_), Some(runtime)) => Ok(runtime.block_on(future)),
            _ => Err(InAsync),
        }
    }
}
