//! NSD, an authoritative name server. It has a zone with every kind of MX record, and a zone that it cannot load.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::{
    port,
    postfix::{fill, source},
};

/// The paths to try, because some shells have no `/usr/sbin` in their PATH.
const NSD: [&str; 3] = ["nsd", "/usr/sbin/nsd", "/usr/local/sbin/nsd"];
const DEADLINE: Duration = Duration::from_secs(30);
/// A query for the SOA record of `test`, behind the length that TCP needs. Any query would do.
const QUESTION: &[u8] = b"\0\x16\0\x01\0\0\0\x01\0\0\0\0\0\0\x04test\0\0\x06\0\x01";

/// A running NSD. It is killed and its files are deleted when it is dropped.
#[derive(Debug)]
pub struct Nsd {
    server: Child,
    dir: TempDir,
    addr: SocketAddr,
}

impl Nsd {
    /// Starts NSD with the zones in `nsd/`.
    ///
    /// # Panics
    /// NSD is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("smtp-pool-nsd-").tempdir().expect("a temporary directory");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        let path = dir.path().to_str().expect("a path in UTF-8").to_owned();
        let values = [("DIR", path), ("port", addr.port().to_string())];
        let config = dir.path().join("nsd.conf");
        fs::write(&config, fill(include_str!("../nsd/nsd.conf"), &values)).expect("a file");
        fs::copy(source("nsd/test.zone"), dir.path().join("test.zone")).expect("the zone");
        let start = |program: &&str| {
            Command::new(program)
                .arg("-d")
                .arg("-c")
                .arg(&config)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .ok()
        };
        let Some(server) = NSD.iter().find_map(start) else {
            panic!("NSD is not installed: `just nsd`");
        };
        let nsd = Self { server, dir, addr };
        nsd.wait();
        nsd
    }

    /// Returns its address, for UDP and TCP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn wait(&self) {
        let started = Instant::now();
        while !self.answers() {
            let log = || fs::read_to_string(self.dir.path().join("nsd.log")).unwrap_or_default();
            assert!(started.elapsed() < DEADLINE, "NSD does not answer:\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(self.addr)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(QUESTION)?;
            stream.read_exact(&mut [0; 14])
        };
        ask().is_ok()
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.server.id())
            && let Some(group) = Pid::from_raw(pid)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.server.wait();
    }
}
