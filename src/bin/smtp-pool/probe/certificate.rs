//! The parts of a certificate that `probe` shows.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::Serialize;
use x509_parser::{extensions::GeneralName, parse_x509_certificate, time::ASN1Time};

/// A certificate, as far as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    subject: String,
    issuer: String,
    /// Subject alternative names: DNS names and addresses.
    names: Vec<String>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

impl Certificate {
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter().filter_map(name).collect());
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.unwrap_or_default(),
            not_before: timestamp(validity.not_before),
            not_after: timestamp(validity.not_after),
        })
    }

    /// Returns labels and values as text.
    pub(super) fn lines(&self) -> [(&'static str, String); 4] {
        let day = |time: Option<Timestamp>| time.map_or_else(|| "?".into(), |time| time.to_string());
        let validity = format!("{} to {}", day(self.not_before), day(self.not_after));
        [
            ("subject", self.subject.clone()),
            ("issuer", self.issuer.clone()),
            ("names", self.names.join(", ")),
            ("valid", validity),
        ]
    }
}

fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(|octets| Ipv4Addr::from(octets).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(|octets| Ipv6Addr::from(octets).to_string()))
                .ok()
        }
        _ => None,
    }
}
