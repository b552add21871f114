//! The plan of a run of `probe`. Making it finds every error of usage before the run starts.

use std::time::Duration;

use smtp_pool::net::{TlsConfig, TlsPolicy};

use super::args::ProbeArgs;
use crate::{
    exit::Result,
    options::{seconds, tls_config},
    route::host_and_port,
};

pub(crate) struct ProbePlan {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: TlsPolicy,
    pub(super) tls_config: TlsConfig,
    pub(super) helo: Option<String>,
    pub(super) timeout: Duration,
    pub(super) json: bool,
}

impl ProbePlan {
    pub(crate) fn new(args: &ProbeArgs) -> Result<Self> {
        let (host, port) = host_and_port(&args.host, 25).map_err(|failure| failure.within(&args.host))?;
        let tls = match args.tls {
            Some(tls) => tls.into(),
            None if port == 465 => TlsPolicy::Implicit,
            None => TlsPolicy::Opportunistic,
        };
        let tls_config = tls_config(tls, args.ca.as_deref())?;
        let timeout = seconds("--timeout", args.timeout, 0.001)?;
        Ok(Self {
            host: host.into(),
            port,
            tls,
            tls_config,
            helo: args.helo.clone(),
            timeout,
            json: args.json,
        })
    }
}
