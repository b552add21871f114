//! The verifier, blocking.

use std::sync::Arc;

use super::{Error, InAsync, Private};
use crate::{
    metrics::Metrics,
    verify::{self, Record, VerifierConfig, VerifierError, VerifyOptions},
};

/// [`verify::Verifier`], blocking. Its engine runs on a thread of its own, which all clones share.
///
/// ```no_run
/// use smtp_pool::{blocking::Verifier, metrics::Metrics, proto::ClientName, verify::VerifierConfig};
/// let config = VerifierConfig::new(ClientName::parse("verifier.example.org")?);
/// let verifier = Verifier::new(config, Metrics::new().into())?;
/// for record in verifier.verify_all(["ann@example.com".to_owned()])? {
///     let record = record?;
///     println!("{}: {:?}", record.address, record.status);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    inner: verify::Verifier,
    runtime: Private,
}

impl Verifier {
    /// [`verify::Verifier::new`].
    ///
    /// # Errors
    /// As its namesake.
    pub fn new(config: VerifierConfig, metrics: Arc<Metrics>) -> Result<Self, Error<VerifierError>> {
        // Its own thread keeps the limits and closes connections between calls.
        let runtime = Private::start_apart()?;
        let inner =
            runtime.block_on(async { verify::Verifier::new(config, metrics) })?.map_err(Error::Inner)?;
        Ok(Self { inner, runtime })
    }

    /// [`verify::Verifier::verify`].
    ///
    /// # Errors
    /// Called from async code.
    pub fn verify(&self, address: &str) -> Result<Option<Record>, InAsync> {
        self.runtime.block_on(self.inner.verify(address))
    }

    /// [`verify::Verifier::verify_with`].
    ///
    /// # Errors
    /// Called from async code.
    pub fn verify_with(&self, address: &str, options: VerifyOptions) -> Result<Option<Record>, InAsync> {
        self.runtime.block_on(self.inner.verify_with(address, options))
    }

    /// [`verify::Verifier::verify_all`]. Work goes on between the calls of the iterator.
    ///
    /// # Errors
    /// Called from async code.
    pub fn verify_all<I>(&self, addresses: I) -> Result<Records, InAsync>
    where
        I: IntoIterator<Item = String>,
        I::IntoIter: Send + 'static,
    {
        let inner = self.runtime.block_on(async { self.inner.verify_all(addresses) })?;
        Ok(Records { inner, runtime: self.runtime.clone(), is_refused: false })
    }
}

/// [`verify::Records`] as an iterator.
///
/// Within async code it yields one error and then ends. Outside of async code it goes on where it stopped.
#[derive(Debug)]
#[must_use = "nothing is verified unless the records are iterated"]
pub struct Records {
    inner: verify::Records,
    runtime: Private,
    /// The last call came from async code.
    is_refused: bool,
}

impl Iterator for Records {
    type Item = Result<Record, InAsync>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.runtime.block_on(self.inner.next());
        let was_refused = std::mem::replace(&mut self.is_refused, next.is_err());
        match next {
            Ok(record) => record.map(Ok),
            Err(refused) => (!was_refused).then_some(Err(refused)),
        }
    }
}
