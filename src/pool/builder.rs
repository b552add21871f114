//! The builder of a pool.

use std::{marker::PhantomData, net::IpAddr, sync::Arc, time::Duration};

use super::{
    BuildError, Config, Hooks, Key, Pool, Route,
    shared::{Callbacks, Shared, TlsConnectors},
};
use crate::{
    client::Timeouts,
    metrics::Metrics,
    net::{Connect, TlsConfig, TlsConnector, TlsPolicy},
    proto::{ClientName, Credentials},
};

/// Builds a pool of type `P`. [`Pool::builder`] builds a [`Pool`]. With the feature `blocking`,
/// [`blocking::Pool::builder`](../blocking/struct.Pool.html#method.builder) builds a blocking one.
#[must_use = "a builder makes a pool by `build`"]
pub struct Builder<P = Pool> {
    config: Config,
    metrics: Option<Arc<Metrics>>,
    callbacks: Callbacks,
    tls_config: Option<TlsConfig>,
    pool: PhantomData<fn() -> P>,
}

impl<P> Default for Builder<P> {
    fn default() -> Self {
        Self {
            config: Config::default(),
            metrics: None,
            callbacks: Callbacks::default(),
            tls_config: None,
            pool: PhantomData,
        }
    }
}

macro_rules! settings {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("Sets [`Config::", stringify!($name), "`].")]
            pub fn $name(mut self, value: $type) -> Self {
                self.config.$name = value.into();
                self
            }
        )*
    };
}

impl Pool {
    /// Returns a builder with the default configuration.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<P> Builder<P> {
    settings! {
        max_connections: usize,
        connection_timeout: Duration,
        max_lifetime: Duration,
        cleanup_interval: Duration,
        max_retries: u32,
        health_check_interval: Duration,
        min_idle: usize,
        idle_timeout: Duration,
        acquire_timeout: Duration,
        lifetime_jitter: f64,
        max_total_connections: usize,
        max_connecting: usize,
        noop_after: Duration,
        fair: bool,
        per_minute: u32,
        leak_after: Duration,
        breaker_failures: u32,
        breaker_pause: Duration,
        backoff: Duration,
        server_ttl: Duration,
        port: u16,
        server: Key,
        helo: ClientName,
        bind: IpAddr,
        tls: TlsPolicy,
        credentials: Credentials,
        timeouts: Timeouts,
        log_addresses: bool,
    }

    /// Sets the whole configuration.
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Sets where to record. By default the pool has metrics of its own ([`Pool::metrics`]).
    pub fn metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Sets how to find the server for a mailbox. It has no effect if [`Config::server`] is set.
    pub fn route(mut self, route: impl Route + 'static) -> Self {
        self.callbacks.route = Some(Arc::new(route));
        self
    }

    /// Sets what to do with each connection when it is opened, lent and closed.
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.callbacks.hooks = Some(Arc::new(hooks));
        self
    }

    /// Sets how to reach servers, in place of TCP. Names are not looked up then.
    pub fn connect(mut self, connect: impl Connect + 'static) -> Self {
        self.callbacks.connect = Some(Arc::new(connect));
        self
    }

    /// Sets roots, versions and verification of TLS. The default depends on the policy ([`TlsConfig::for_policy`]).
    pub fn tls_config(self, config: TlsConfig) -> Self {
        Self { tls_config: Some(config), ..self }
    }
}

impl Builder {
    /// Builds the pool. It opens connections when they are asked for. If [`Config::server`] and [`Config::min_idle`] are
    /// set and it is built within a tokio runtime, it opens those at once.
    ///
    /// # Errors
    /// A setting is invalid, or the TLS configuration cannot be used.
    pub fn build(self) -> Result<Pool, BuildError> {
        self.make()
    }
}

impl<P> Builder<P> {
    pub(crate) fn make(self) -> Result<Pool, BuildError> {
        self.config.check()?;
        let connector = |policy| {
            let of_policy = || TlsConfig::for_policy(policy);
            TlsConnector::new(&self.tls_config.clone().unwrap_or_else(of_policy))
        };
        let verified = connector(TlsPolicy::Required)?;
        let unverified =
            if self.tls_config.is_some() { verified.clone() } else { connector(TlsPolicy::Opportunistic)? };
        let tls = TlsConnectors { verified, unverified };
        let metrics = self.metrics.unwrap_or_default();
        Ok(Pool::new(Shared::new(self.config.bounded(), metrics, self.callbacks, tls)))
    }
}
