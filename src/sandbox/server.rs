//! A running world: its sockets, and the queries about it.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    select,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::CertificateDer};

use super::{
    HostStats, Truth, World, connection::serve, directory::Directory, greylist::Greylist, session::Mx,
    stats::Counters, tls::Authority,
};
use crate::proto::Mailbox;

/// A running [`World`]. Dropping it closes every listener and every connection.
///
/// ```
/// use smtp_pool::sandbox::{Sandbox, World};
/// use tokio::{io::{AsyncBufReadExt, BufReader}, net::TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sandbox = Sandbox::start(World::from_toml(r#"
///     [[host]]
///     name = "mx.good.test"
///     [[domain]]
///     name = "good.test"
///     users = ["ann"]
/// "#)?).await?;
///
/// let stream = TcpStream::connect(sandbox.addr("mx.good.test").unwrap()).await?;
/// let mut banner = String::new();
/// BufReader::new(stream).read_line(&mut banner).await?;
/// assert!(banner.starts_with("220 mx.good.test ESMTP"));
/// assert_eq!(sandbox.stats("mx.good.test").unwrap().connections, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "the servers end when the sandbox is dropped"]
pub struct Sandbox {
    directory: Arc<Directory>,
    hosts: Vec<RunningHost>,
    by_name: HashMap<String, usize>,
    authority: Authority,
    /// Dropping the set ends each listener task, which ends its connections.
    _listeners: JoinSet<()>,
}

/// A host with its address.
#[derive(Debug)]
struct RunningHost {
    mx: Arc<Mx>,
    addr: SocketAddr,
    /// Reserves the port of a host that is down: it is bound, but does not listen.
    _down: Option<TcpSocket>,
}

/// The route of mail for a domain, as in the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRoute<'a> {
    /// MX hosts and their addresses, the preferred first.
    Hosts(Vec<(&'a str, SocketAddr)>),
    /// The domain accepts no mail: `MX 0 .` (RFC 7505).
    NullMx,
}

/// A domain with its MX hosts and their addresses, or none if it accepts no mail.
type MxRecords<'a> = (&'a str, Option<Vec<(&'a str, SocketAddr)>>);

impl Sandbox {
    /// Binds every host of the world, and starts to serve on the current runtime.
    ///
    /// # Errors
    /// Fails if the world is invalid ([`ErrorKind::InvalidInput`], around a [`WorldError`](super::WorldError)), or if
    /// an address cannot be bound.
    pub async fn start(world: World) -> io::Result<Self> {
        let directory =
            Arc::new(Directory::new(&world).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?);
        let authority = Authority::new()?;
        let (mut hosts, mut by_name, mut listeners) = (Vec::new(), HashMap::new(), JoinSet::new());
        for (index, config) in directory.hosts().iter().enumerate() {
            by_name.insert(config.name.to_ascii_lowercase(), index);
            let mx = Arc::new(Mx {
                index,
                seed: world.seed,
                config: config.clone(),
                directory: Arc::clone(&directory),
                greylist: config.greylist.map(|age| Greylist::new(age, world.seed)),
                harvest: Mutex::default(),
                counters: Counters::default(),
            });
            let (addr, down) = if config.down {
                let socket = reserve(config.listen)?;
                (socket.local_addr()?, Some(socket))
            } else {
                let listener = TcpListener::bind(config.listen).await?;
                let addr = listener.local_addr()?;
                listeners.spawn(listen(listener, authority.acceptor(&config.name)?, Arc::clone(&mx)));
                (addr, None)
            };
            hosts.push(RunningHost { mx, addr, _down: down });
        }
        Ok(Self { directory, hosts, by_name, authority, _listeners: listeners })
    }

    /// Returns the address of a host.
    #[must_use]
    pub fn addr(&self, host: &str) -> Option<SocketAddr> {
        self.host(host).map(|host| host.addr)
    }

    /// Returns every host and its address, in the order of the description.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.hosts.iter().map(|host| (&*host.mx.config.name, host.addr))
    }

    /// Returns the route of mail for a domain; `None` if the domain does not exist. The name is in lower case and
    /// A-labels, as [`Mailbox::domain`] returns it.
    #[must_use]
    pub fn route(&self, domain: &str) -> Option<HostRoute<'_>> {
        self.directory.domain(domain).map(|hosts| self.route_over(hosts))
    }

    /// Returns every domain and its route, in any order. All other domains do not exist.
    pub fn routes(&self) -> impl Iterator<Item = (&str, HostRoute<'_>)> {
        self.directory.domains().map(|(domain, hosts)| (domain, self.route_over(hosts)))
    }

    /// Returns every domain with its MX hosts and their addresses, the preferred first, or none where the domain accepts
    /// no mail. `verify::Routes::only` takes it, so that a verifier or a pool asks only this sandbox.
    pub fn mx_records(&self) -> impl Iterator<Item = MxRecords<'_>> {
        self.routes().map(|(domain, route)| match route {
            HostRoute::Hosts(hosts) => (domain, Some(hosts)),
            HostRoute::NullMx => (domain, None),
        })
    }

    /// Returns the true state of the address, independent of the replies of its hosts.
    #[must_use]
    pub fn expected(&self, mailbox: &Mailbox) -> Truth {
        self.directory.truth(mailbox)
    }

    /// Returns the counters of a host so far.
    #[must_use]
    pub fn stats(&self, host: &str) -> Option<HostStats> {
        self.host(host).map(|host| host.mx.counters.snapshot())
    }

    /// Returns the root certificate that signs those of the hosts, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.authority.pem()
    }

    /// Returns the root certificate as DER.
    #[must_use]
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        self.authority.der()
    }

    fn host(&self, name: &str) -> Option<&RunningHost> {
        self.by_name.get(&name.to_ascii_lowercase()).and_then(|&index| self.hosts.get(index))
    }

    fn route_over(&self, hosts: &[usize]) -> HostRoute<'_> {
        if hosts.is_empty() {
            return HostRoute::NullMx;
        }
        let hosts = hosts.iter().filter_map(|&index| self.hosts.get(index));
        HostRoute::Hosts(hosts.map(|host| (&*host.mx.config.name, host.addr)).collect())
    }
}

/// Binds a port without listening, so that no other process uses it.
fn reserve(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn listen(listener: TcpListener, tls: TlsAcceptor, mx: Arc<Mx>) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(Arc::clone(&mx), tls.clone(), stream, peer.ip()));
                }
                Err(error) => {
                    // Most likely there are no file descriptors left: wait until a connection ends.
                    tracing::warn!(host = mx.config.name, %error, "cannot accept");
                    sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
