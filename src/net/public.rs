//! The filter of addresses on the public Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns true if `ip` is a unicast address that is reachable from the whole Internet.
///
/// The owner of a domain chooses the addresses of its MX. A client that connects to any address could be made to
/// probe its own network. So the verifier refuses addresses that are not public.
///
/// The result is false for addresses that the IANA special-purpose address registries (RFC 6890) do not call globally
/// reachable. In IPv4 these are this host, loopback, private use (RFC 1918), shared by carriers (RFC 6598),
/// link-local, documentation, benchmarking, reserved, multicast and broadcast. In IPv6 it is false outside of the
/// global unicast block `2000::/3` (RFC 4291). This excludes unique local, link-local, site-local and loopback
/// addresses. An IPv4 address inside of an IPv6 address (mapped, NAT64 or 6to4) is judged by itself, because packets
/// end up there.
///
/// The registries call a few anycast addresses in refused blocks global, such as `192.0.0.9` (PCP) and `2001:1::1`.
/// They are still refused, since no mail exchanger has them.
///
/// ```
/// use smtp_pool::net::is_public;
/// assert!(is_public("8.8.8.8".parse()?));
/// assert!(!is_public("169.254.169.254".parse()?));
/// assert!(!is_public("64:ff9b::10.0.0.1".parse()?));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !matches!(
        ip.octets(),
        [0 | 10 | 127, ..]                  // this network (RFC 791), private, loopback
        | [100, 64..=127, ..]               // shared by carriers, RFC 6598
        | [169, 254, ..]                    // link-local, RFC 3927
        | [172, 16..=31, ..]                // private, RFC 1918
        | [192, 0, 0 | 2, _]                // protocol assignments; TEST-NET-1
        | [192, 88, 99, _]                  // the 6to4 relays of old, RFC 7526
        | [192, 168, ..]                    // private, RFC 1918
        | [198, 18 | 19, ..]                // benchmarking, RFC 2544
        | [198, 51, 100, _]                 // TEST-NET-2
        | [203, 0, 113, _]                  // TEST-NET-3
        | [224..=255, ..] // multicast, reserved, broadcast
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        [0x2001, 0..=0x1ff, ..] => false, // protocol assignments, RFC 2928, including Teredo
        [0x2001, 0xdb8, ..] => false,     // documentation, RFC 3849
        [0x3fff, 0..=0xfff, ..] => false, // documentation, RFC 9637
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Returns the IPv4 address that packets to `ip` end up at.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = ip.octets();
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => Some(Ipv4Addr::new(a, b, c, d)), // mapped, RFC 4291 2.5.5.2
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::new(a, b, c, d)), // NAT64, RFC 6052 2.1
        [0x2002, ..] => {
            let [_, _, a, b, c, d, ..] = ip.octets();
            Some(Ipv4Addr::new(a, b, c, d)) // 6to4, RFC 3056
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn every_block_at_its_edges() {
        let public = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7::1",
            "2001:db9::1",
            "2607:f8b0:4004:c07::1a",
            "3ffe:ffff::1",
            "3fff:1000::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ];
        let refused = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.9",
            "192.0.0.255",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2002:7f00:1::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff02::1",
        ];
        for ip in public {
            assert!(is_public(ip.parse().unwrap()), "{ip} is public");
        }
        for ip in refused {
            assert!(!is_public(ip.parse().unwrap()), "{ip} is not public");
        }
    }
}
