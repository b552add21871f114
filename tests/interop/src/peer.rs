//! aiosmtpd, a server in Python that offers no PIPELINING.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use smtp_pool::{client::Endpoint, verify::Routes};

use crate::{
    World,
    postfix::{routes, source},
};

/// How aiosmtpd behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct AiosmtpdOptions {
    /// How often each command may be sent in a session; then comes 421 and the end.
    pub command_call_limit: Option<u32>,
}

/// A running aiosmtpd; killed when dropped.
#[derive(Debug)]
pub struct Aiosmtpd {
    server: Child,
    addr: SocketAddr,
}

impl Aiosmtpd {
    /// Starts it with the users of `world`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn start(world: &World, options: AiosmtpdOptions) -> Self {
        let server = Command::new("python3")
            .arg(source("aiosmtpd/server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut server) = server else { panic!("there is no python3, which aiosmtpd runs in") };
        let stdin = server.stdin.as_mut().expect("a pipe");
        // Its end may come first, which the missing port tells as well.
        let _ = writeln!(stdin, "{}", config(world, options));
        let mut port = String::new();
        let stdout = server.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("reading from a pipe");
        let Ok(port) = port.trim().parse::<u16>() else {
            let _ = server.kill();
            panic!("aiosmtpd does not start; is it installed? pip install aiosmtpd");
        };
        Self { server, addr: (Ipv4Addr::LOCALHOST, port).into() }
    }

    /// The ways to the domains of the world, by way of it.
    #[must_use]
    pub fn routes(&self) -> Routes {
        routes(|_| self.addr)
    }

    /// It as an exchanger to connect to.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: "mx1.interop.test".into(), addrs: vec![self.addr] }
    }
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn config(world: &World, options: AiosmtpdOptions) -> String {
    let mut config = world.directory();
    config["command_call_limit"] = options.command_call_limit.into();
    config.to_string()
}
