//! The DNS queries of `doctor`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};

use crate::exit::{ErrorContext, Result};

pub(super) struct Dns {
    resolver: TokioResolver,
}

/// The records found, which may be none, or the reason why the DNS gave no answer.
pub(super) type DnsResult<T> = std::result::Result<Vec<T>, String>;

impl Dns {
    /// Asks `servers`, or the DNS servers of the system if there are none.
    pub(super) fn new(servers: &[SocketAddr], timeout: Duration) -> Result<Self> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if servers.is_empty() {
            TokioResolver::builder(provider).failed_at("the DNS servers of the system")?
        } else {
            let servers = servers.iter().map(|server| {
                let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                ways.iter_mut().for_each(|way| way.port = server.port());
                NameServerConfig::new(server.ip(), true, ways)
            });
            let config = ResolverConfig::from_parts(None, vec![], servers.collect());
            TokioResolver::builder_with_config(config, provider)
        };
        let options = builder.options_mut();
        (options.timeout, options.attempts) = (timeout, 2);
        // Only what others see counts, so the hosts file is not read.
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { resolver: builder.build().failed_at("the DNS resolver")? })
    }

    /// Returns the addresses of a host. An address literal is its own address.
    pub(super) async fn addresses(&self, host: &str) -> DnsResult<IpAddr> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let (v4, v6) = tokio::join!(
            self.ask(host, RecordType::A, RData::ip_addr),
            self.ask(host, RecordType::AAAA, RData::ip_addr)
        );
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok([v4, v6].concat()),
            // The addresses of one family are enough.
            (Ok(ips), Err(_)) | (Err(_), Ok(ips)) if !ips.is_empty() => Ok(ips),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Returns the names of an address.
    pub(super) async fn names(&self, ip: IpAddr) -> DnsResult<String> {
        let name = |data: &RData| match data {
            RData::PTR(name) => Some(name.0.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
            _ => None,
        };
        self.ask(&format!("{}{}", reversed(ip), suffix(ip)), RecordType::PTR, name).await
    }

    /// Returns the codes of `zone` for an address, as addresses in 127.0.0.0/8 (RFC 5782 2.1).
    pub(super) async fn listing(&self, ip: IpAddr, zone: &str) -> DnsResult<IpAddr> {
        self.ask(&format!("{}{zone}", reversed(ip)), RecordType::A, RData::ip_addr).await
    }

    /// Returns the reason for the listing in the words of the blocklist.
    pub(super) async fn reason(&self, ip: IpAddr, zone: &str) -> Option<String> {
        let text = |data: &RData| match data {
            RData::TXT(text) => Some(text.to_string()),
            _ => None,
        };
        self.ask(&format!("{}{zone}", reversed(ip)), RecordType::TXT, text).await.ok()?.pop()
    }

    async fn ask<T>(
        &self,
        name: &str,
        record: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> DnsResult<T> {
        // The dot makes the name absolute.
        match self.resolver.lookup(format!("{}.", name.trim_end_matches('.')), record).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|record| pick(&record.data)).collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => Ok(vec![]),
            Err(NetError::Timeout) => Err("no answer in time".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Returns the address backwards, octet by octet or nibble by nibble, each followed by a dot (RFC 1035 3.5, RFC 3596
/// 2.5).
fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.octets().iter().rev().map(|octet| format!("{octet}.")).collect(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect()
        }
    }
}

fn suffix(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_looked_up_backwards() {
        assert_eq!(reversed("192.0.2.7".parse().unwrap()), "7.2.0.192.");
        let reversed = reversed("2001:db8::25".parse().unwrap());
        assert!(reversed.starts_with("5.2.0.0.") && reversed.ends_with("8.b.d.0.1.0.0.2."), "{reversed}");
        assert_eq!(reversed.len(), 64);
    }
}
