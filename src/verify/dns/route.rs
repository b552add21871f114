//! The [`Route`] of the pool that uses the resolver: from a mailbox to the servers of its domain.

use std::io;

use crate::{
    pool::{Key, Route, RouteFuture},
    proto::Mailbox,
    verify::{Resolver, Routes, Unreachable},
};

/// ```
/// # #[cfg(feature = "sandbox")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_pool::{metrics::Metrics, pool::Pool, verify::{Resolver, Routes}};
/// # use smtp_pool::{client::Endpoint, sandbox::{Sandbox, World}};
/// # let sandbox = Sandbox::start(World::demo()).await?;
/// # let addrs = vec![sandbox.addr("mx.good.test").ok_or("no such host")?];
/// let mut routes = Routes::new(); // none: everything is looked up
/// # routes.insert("good.test", Ok(vec![Endpoint::new("mx.good.test", addrs)]));
/// let resolver = Resolver::new(&[], routes, 25, false, Metrics::new().into())?;
/// let pool = Pool::builder().route(resolver).build()?;
/// assert!(pool.verify_email("ann@good.test").await?.is_accepted());
/// # Ok(()) }
/// # #[cfg(not(feature = "sandbox"))]
/// # fn main() {}
/// ```
impl Route for Resolver {
    fn route<'a>(&'a self, mailbox: &'a Mailbox) -> RouteFuture<'a> {
        Box::pin(async {
            let found = self.resolve(mailbox).await.map_err(io::Error::from)?;
            Ok(found.exchangers.iter().map(Key::at).collect())
        })
    }
}

/// The servers of the table alone: a domain without a route is an error, and nothing is looked up.
impl Route for Routes {
    fn route<'a>(&'a self, mailbox: &'a Mailbox) -> RouteFuture<'a> {
        let unknown = Err(Unreachable::NoDnsEntries);
        let found = self.get(mailbox.domain()).unwrap_or(&unknown).clone();
        Box::pin(async { Ok(found?.iter().map(Key::at).collect()) })
    }
}

impl From<Unreachable> for io::Error {
    fn from(unreachable: Unreachable) -> Self {
        let (kind, text) = match unreachable {
            Unreachable::NullMx => {
                (io::ErrorKind::NotFound, "the domain accepts no mail: null MX (RFC 7505)".into())
            }
            Unreachable::NoDnsEntries => {
                (io::ErrorKind::NotFound, "the domain has no MX and no address records".into())
            }
            Unreachable::Unroutable => {
                (io::ErrorKind::AddrNotAvailable, "every address of the MX is private or reserved".into())
            }
            Unreachable::Dns { timeout: true, reason } => (io::ErrorKind::TimedOut, reason.to_string()),
            Unreachable::Dns { timeout: false, reason } => (io::ErrorKind::Other, reason.to_string()),
        };
        Self::new(kind, text)
    }
}
