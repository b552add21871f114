//! The result of a probe, as text and as JSON.

use std::{collections::BTreeMap, io, time::Duration};

use serde::Serialize;
use smtp_pool::{net::TlsInfo, proto::Extensions};

use super::{certificate::Certificate, connect::ProbedServer};
use crate::{summary::format_duration, terminal::Terminal};

#[derive(Debug, Serialize)]
pub(super) struct ProbeReport {
    host: String,
    address: Option<String>,
    banner: String,
    capabilities: Vec<String>,
    tls: Option<TlsReport>,
    /// Why there is no TLS although the server offers it.
    tls_error: Option<String>,
    /// The duration of each step in ms. `lookup` is the lookup of the host.
    timings_ms: BTreeMap<String, f64>,
    #[serde(skip)]
    timings: Vec<(String, Duration)>,
}

#[derive(Debug, Serialize)]
struct TlsReport {
    version: String,
    /// Whether TLS began with STARTTLS, and not at the first octet.
    starttls: bool,
    cipher: &'static str,
    trusted: bool,
    /// Why the certificate is not trusted.
    reason: Option<String>,
    certificate: Option<Certificate>,
}

impl ProbeReport {
    pub(super) fn new(probed: &ProbedServer, lookup: Option<Duration>) -> Self {
        let ProbedServer { connection, distrust, broken_tls, timings, .. } = probed;
        let lookup = lookup.map(|took| ("lookup".to_owned(), took));
        let steps = timings.latencies().map(|(operation, latency)| (operation.to_string(), latency.max));
        let timings: Vec<_> = lookup.into_iter().chain(steps).collect();
        let ms = |took: &Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            host: connection.host().to_string(),
            address: connection.peer_addr().ok().map(|addr| addr.to_string()),
            banner: connection.banner().to_string(),
            capabilities: capabilities(connection.extensions()),
            tls: connection.tls_info().map(|info| TlsReport::new(&info, probed.starttls, distrust.clone())),
            tls_error: broken_tls.clone(),
            timings_ms: timings.iter().map(|(step, took)| (step.clone(), ms(took))).collect(),
            timings,
        }
    }

    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let mut out = Terminal::out();
        if json {
            out.json(self)?;
        } else {
            for (label, value) in self.lines() {
                out.line(format_args!("{label:<13}{value}"))?;
            }
        }
        out.flush()
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("host", self.host.clone()),
            ("address", self.address.clone().unwrap_or_default()),
            ("banner", self.banner.clone()),
        ];
        let capabilities =
            if self.capabilities.is_empty() { &["none".to_owned()][..] } else { &self.capabilities };
        lines.extend(labelled("capabilities", capabilities.iter().cloned()));
        match (&self.tls, &self.tls_error) {
            (Some(tls), _) => lines.extend(tls.lines()),
            (None, Some(error)) => lines.push(("tls", format!("offered, but it failed: {error}"))),
            (None, None) => lines.push(("tls", "none".into())),
        }
        lines.extend(labelled(
            "timings",
            self.timings.iter().map(|(step, took)| format!("{step:<9} {}", format_duration(*took))),
        ));
        lines
    }
}

impl TlsReport {
    fn new(info: &TlsInfo, starttls: bool, reason: Option<String>) -> Self {
        let certificate = info.peer_certificates.first().and_then(|der| Certificate::parse(der));
        Self {
            version: info.version.to_string(),
            starttls,
            cipher: info.cipher,
            trusted: reason.is_none(),
            reason,
            certificate,
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![(
            "tls",
            format!(
                "{}, {}, {}",
                self.version,
                self.cipher,
                if self.starttls { "by STARTTLS" } else { "implicit" }
            ),
        )];
        let trust = match &self.reason {
            Some(reason) => format!("not trusted: {reason}"),
            None => "trusted".into(),
        };
        lines.push(("certificate", trust));
        for (label, value) in self.certificate.iter().flat_map(Certificate::lines) {
            lines.push(("", format!("{label:<9} {value}")));
        }
        lines
    }
}

/// Puts the label in front of the first value only.
fn labelled(label: &'static str, values: impl Iterator<Item = String>) -> Vec<(&'static str, String)> {
    values.enumerate().map(|(n, value)| (if n == 0 { label } else { "" }, value)).collect()
}

fn capabilities(offered: &Extensions) -> Vec<String> {
    let limits = offered.limits;
    let limits = [
        ("MAILMAX", limits.mail_max),
        ("RCPTMAX", limits.rcpt_max),
        ("RCPTDOMAINMAX", limits.rcpt_domain_max),
    ];
    let limits: String =
        limits.iter().filter_map(|(name, limit)| Some(format!(" {name}={}", (*limit)?))).collect();
    let plain = [
        (offered.pipelining, "PIPELINING"),
        (offered.eight_bit_mime, "8BITMIME"),
        (offered.smtputf8, "SMTPUTF8"),
        (offered.starttls, "STARTTLS"),
        (offered.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
        (offered.dsn, "DSN"),
        (offered.chunking, "CHUNKING"),
        (offered.binary_mime, "BINARYMIME"),
        (offered.require_tls, "REQUIRETLS"),
    ];
    let mut names: Vec<String> =
        plain.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect();
    names.extend(offered.size.map(|size| format!("SIZE {size}")));
    if !offered.auth.is_empty() {
        names.push(format!("AUTH {}", offered.auth.join(" ")));
    }
    if !limits.is_empty() {
        names.push(format!("LIMITS{limits}"));
    }
    names
        .extend(offered.others.iter().map(|(name, params)| format!("{name} {params}").trim_end().to_owned()));
    names
}
