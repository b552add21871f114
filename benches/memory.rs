//! Measures the memory of an idle connection of the pool, in clear and with TLS. Beside it stand a bare tokio stream
//! and a bare tokio-rustls stream. Each kind has a process of its own.
//!
//! `just memory` opens 9,000 of each; with `--test`, 500 of each in a debug build. The server is another process of
//! this binary.
//!
//! The result is the number of octets that the allocator has given out. It does not depend on memory that was freed
//! before. The growth of the resident set is printed beside it.
//!
//! A pooled connection may hold 1 KiB more than the bare stream of its kind. The program fails if it holds more.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a benchmark a panic is the report, and so is the output"
)]

use std::{
    alloc::System,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use smtp_pool::{
    net::{Roots, TlsConfig, TlsPolicy},
    pool::{Key, Pool},
    sandbox::{HostConfig, Sandbox, World},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// An environment variable for the process of the server.
const SERVER: &str = "SMTP_POOL_BENCH_SERVER";
/// An environment variable for a process that measures one kind.
const KIND: &str = "SMTP_POOL_BENCH_KIND";
const KINDS: [&str; 4] = ["tokio stream", "pool, plain", "tokio-rustls stream", "pool, TLS"];
const NAME: &str = "localhost";
/// The maximum number of octets that a pooled connection holds above a bare one.
const GOAL: isize = 1024;
/// The number of connections to open at once.
const AT_ONCE: usize = 16;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if env::var_os(SERVER).is_some() {
        runtime.block_on(serve());
    }
    let count = if env::args().any(|argument| argument == "--test") { 500 } else { 9_000 };
    if let Ok(kind) = env::var(KIND) {
        return runtime.block_on(one(&kind, count));
    }
    println!("{:<28} {:>14} {:>14}", format!("{count} idle connections"), "octets each", "resident each");
    // Each kind has a process of its own, so that none uses pages that another has freed.
    let [bare, pooled, bare_tls, pooled_tls] = KINDS.map(|kind| {
        let mut child = Command::new(env::current_exe().unwrap());
        let output =
            child.args(env::args().skip(1)).env(KIND, kind).stderr(Stdio::inherit()).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let (octets, resident) = line.trim().split_once(' ').unwrap_or_else(|| panic!("{kind}: {line:?}"));
        println!("{kind:<28} {octets:>14} {resident:>14}");
        octets.parse::<isize>().unwrap()
    });
    let (plain, tls) = (pooled - bare, pooled_tls - bare_tls);
    println!("over the bare stream: plain {plain}, TLS {tls} octets; the goal is {GOAL}");
    assert!(plain <= GOAL && tls <= GOAL, "an idle connection holds too much");
}

/// Measures one kind, and prints the result for the parent process.
async fn one(kind: &str, count: usize) {
    let server = Server::start();
    match kind {
        "tokio stream" => measure(count, open(count, || TcpStream::connect(server.plain))).await,
        "pool, plain" => {
            measure(count, fill(server.pool(count, TlsPolicy::Off), server.plain, count)).await;
        }
        "tokio-rustls stream" => {
            let connector = server.connector();
            let connect = || {
                let connector = connector.clone();
                async move {
                    let tcp = TcpStream::connect(server.tls).await?;
                    connector.connect(ServerName::try_from(NAME).unwrap(), tcp).await
                }
            };
            measure(count, open(count, connect)).await;
        }
        _ => measure(count, fill(server.pool(count, TlsPolicy::Implicit), server.tls, count)).await,
    }
}

/// Measures the memory of each connection that `open` opens.
async fn measure<T>(count: usize, open: impl Future<Output = T>) {
    let (before, resident_before) = (held(), resident());
    let connections = open.await;
    // Wait until the work after opening is done.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let count = isize::try_from(count).unwrap();
    println!("{} {}", (held() - before) / count, (resident() - resident_before) / count);
    drop(connections);
}

fn held() -> isize {
    let stats = ALLOCATOR.stats();
    let octets = |n: usize| isize::try_from(n).unwrap();
    octets(stats.bytes_allocated) - octets(stats.bytes_deallocated)
}

/// Returns the resident set in octets.
fn resident() -> isize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<isize>().unwrap() * 4096
}

/// Opens streams, a few at a time.
async fn open<T, F>(count: usize, connect: impl Fn() -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = std::io::Result<T>> + Send + 'static,
{
    let mut streams = Vec::with_capacity(count);
    let mut opening: JoinSet<std::io::Result<T>> = JoinSet::new();
    for _ in 0..count {
        if opening.len() == AT_ONCE {
            streams.push(opening.join_next().await.unwrap().unwrap().unwrap());
        }
        opening.spawn(connect());
    }
    while let Some(stream) = opening.join_next().await {
        streams.push(stream.unwrap().unwrap());
    }
    streams
}

/// Checks out all connections of the pool, and returns all of them.
async fn fill(pool: Pool, addr: SocketAddr, count: usize) -> Pool {
    let key = Arc::new(Key::parse(&addr.to_string()).unwrap().server_name(NAME));
    let lent = open(count, || {
        let (pool, key) = (pool.clone(), Arc::clone(&key));
        async move { pool.get(&*key).await.map_err(std::io::Error::other) }
    });
    drop(lent.await);
    assert_eq!(pool.status().idle, count);
    pool
}

struct Server {
    process: Child,
    plain: SocketAddr,
    tls: SocketAddr,
    certificate: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .env(SERVER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (plain, tls) = (line().parse().unwrap(), line().parse().unwrap());
        let mut certificate = String::new();
        while !certificate.contains("END CERTIFICATE") {
            certificate += &line();
            certificate.push('\n');
        }
        Self { process, plain, tls, certificate }
    }

    fn pool(&self, count: usize, policy: TlsPolicy) -> Pool {
        let tls = TlsConfig::for_policy(policy).roots(Roots::None);
        let tls = tls.add_roots_pem(self.certificate.as_bytes()).unwrap();
        let builder = Pool::builder().tls(policy).tls_config(tls);
        let builder = builder.max_connections(count).max_total_connections(count).max_connecting(AT_ONCE);
        builder.acquire_timeout(Duration::from_secs(300)).build().unwrap()
    }

    /// Returns the same settings for a bare stream.
    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves one port in clear and one with implicit TLS, and prints the certificate of both.
async fn serve() -> ! {
    let host = |implicit_tls| {
        let idle_timeout = Duration::from_secs(3_600).into();
        let name = if implicit_tls { NAME } else { "plain.test" };
        let mut host = HostConfig::new(name);
        (host.implicit_tls, host.idle_timeout) = (implicit_tls, idle_timeout);
        host
    };
    let world = World::new(vec![host(false), host(true)], Vec::new());
    let sandbox = Sandbox::start(world).await.unwrap();
    let (plain, tls) = (sandbox.addr("plain.test").unwrap(), sandbox.addr(NAME).unwrap());
    // A single write, so that the client reads no part of it alone.
    let told = format!("{plain}\n{tls}\n{}\n", sandbox.certificate_pem().trim_end());
    std::io::stdout().lock().write_all(told.as_bytes()).unwrap();
    std::future::pending().await
}
