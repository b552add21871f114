//! Selects IPv4 addresses: a server that refuses clients over IPv6 is asked over IPv4.

use std::net::{IpAddr, SocketAddr};

use crate::client::Endpoint;

/// Returns the exchanger with only its IPv4 addresses, or `None` if it has none. The pool keeps its connections apart
/// from those to all addresses.
pub(super) fn over_ipv4(exchanger: &Endpoint) -> Option<Endpoint> {
    let addrs: Vec<SocketAddr> = exchanger.addrs.iter().copied().filter(|addr| !is_ipv6(addr.ip())).collect();
    (!addrs.is_empty()).then(|| Endpoint { host: exchanger.host.clone(), addrs })
}

/// Returns whether any exchanger can be reached over IPv4, from the local address if one is set.
pub(super) fn has_ipv4(exchangers: &[Endpoint], bind: Option<IpAddr>) -> bool {
    !bind.is_some_and(is_ipv6)
        && exchangers.iter().flat_map(|exchanger| &exchanger.addrs).any(|addr| !is_ipv6(addr.ip()))
}

/// Returns whether the server sees a client over IPv6. An IPv4-mapped address (RFC 4291 2.5.5.2) counts as IPv4.
pub(super) fn is_ipv6(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv6()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanger(addrs: &[&str]) -> Endpoint {
        Endpoint {
            host: "mx.example.com".into(),
            addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn ipv4_addresses_are_kept_in_their_order() {
        for (all, ipv4) in [
            (
                &["[2001:db8::1]:25", "192.0.2.1:25", "[2001:db8::2]:25", "192.0.2.2:25"][..],
                &["192.0.2.1:25", "192.0.2.2:25"][..],
            ),
            (&["[::ffff:192.0.2.1]:25", "[::1]:25"], &["[::ffff:192.0.2.1]:25"]),
            (&["192.0.2.1:25"], &["192.0.2.1:25"]),
            (&["[2001:db8::1]:25"], &[]),
            (&[], &[]),
        ] {
            let kept = (!ipv4.is_empty()).then(|| exchanger(ipv4));
            assert_eq!(over_ipv4(&exchanger(all)), kept, "{all:?}");
            assert_eq!(
                has_ipv4(&[exchanger(&["[::1]:25"]), exchanger(all)], None),
                !ipv4.is_empty(),
                "{all:?}"
            );
        }
    }

    #[test]
    fn a_local_address_of_ipv6_reaches_no_ipv4() {
        let exchangers = [exchanger(&["192.0.2.1:25", "[2001:db8::1]:25"])];
        assert!(has_ipv4(&exchangers, Some("192.0.2.9".parse().unwrap())));
        assert!(!has_ipv4(&exchangers, Some("2001:db8::9".parse().unwrap())));
    }
}
