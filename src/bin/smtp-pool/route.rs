//! Parses `HOST:PORT` and `DOMAIN=HOST:PORT`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use smtp_pool::{
    client::Endpoint,
    proto::Domain,
    verify::{MailRoute, Routes, Unreachable},
};

use crate::exit::{ErrorContext, Failure, Result};

/// Splits `HOST[:PORT]`. An IPv6 address with a port stands in brackets.
pub(crate) fn host_and_port(text: &str, default_port: u16) -> Result<(&str, u16)> {
    let wrong = || {
        Failure::usage("this is not HOST[:PORT]")
            .hint("give a host as in mx.example.com:25, 192.0.2.1 or [2001:db8::25]:25")
    };
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, default_port),
        Some((host, rest)) => (host, port(rest.strip_prefix(':').ok_or_else(wrong)?)?),
        None if text.parse::<Ipv6Addr>().is_ok() => (text, default_port),
        None => match text.split_once(':') {
            Some((host, rest)) => (host, port(rest)?),
            None => (text, default_port),
        },
    };
    let plausible = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(plausible) { Err(wrong()) } else { Ok((host, port)) }
}

/// Returns a host with its addresses, which the resolver of the system looks up.
pub(crate) fn endpoint(text: &str, default_port: u16) -> Result<Endpoint> {
    let (host, port) = host_and_port(text, default_port)?;
    let addrs: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => (host, port).to_socket_addrs().usage_at(format_args!("cannot resolve {host}"))?.collect(),
    };
    if addrs.is_empty() {
        return Err(Failure::usage(format_args!("the host {host} has no address")));
    }
    Ok(Endpoint::new(host, addrs))
}

/// Returns the routes of the command line. Several hosts for one domain are its mail servers, in their order.
pub(crate) fn routes(typed: &[String], default_port: u16) -> Result<Routes> {
    let mut routes: Vec<(String, MailRoute)> = Vec::new();
    for text in typed {
        let (domain, route) =
            route(text, default_port).map_err(|failure| failure.within(format_args!("--route {text}")))?;
        match routes.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, Ok(exchangers))) => match route {
                Ok(more) => exchangers.extend(more),
                Err(_) => return Err(contradiction(&domain)),
            },
            Some((_, Err(_))) => return Err(contradiction(&domain)),
            None => routes.push((domain, route)),
        }
    }
    let mut all = Routes::new();
    for (domain, route) in routes {
        all.insert(&domain, route);
    }
    Ok(all)
}

fn contradiction(domain: &str) -> Failure {
    Failure::usage(format_args!(
        "--route {domain}=.: another --route gives the domain a host, so it cannot refuse all mail"
    ))
}

fn route(text: &str, default_port: u16) -> Result<(String, MailRoute)> {
    let Some((domain, host)) = text.split_once('=') else {
        return Err(Failure::usage("this is not DOMAIN=HOST[:PORT]")
            .hint("give a route as in example.com=127.0.0.1:2525; `*` is every other domain"));
    };
    let domain = match domain {
        "*" => domain.to_owned(),
        _ => Domain::parse(domain).usage_at("this is not a domain")?.as_str().to_owned(),
    };
    let route = if host == "." { Err(Unreachable::NullMx) } else { Ok(vec![endpoint(host, default_port)?]) };
    Ok((domain, route))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        let good = [
            ("mx.example.com", ("mx.example.com", 25)),
            ("mx.example.com:2525", ("mx.example.com", 2525)),
            ("192.0.2.1:587", ("192.0.2.1", 587)),
            ("[2001:db8::25]:465", ("2001:db8::25", 465)),
            ("[2001:db8::25]", ("2001:db8::25", 25)),
            ("2001:db8::25", ("2001:db8::25", 25)),
        ];
        for (text, found) in good {
            assert_eq!(host_and_port(text, 25).unwrap(), found, "{text}");
        }
        for text in ["", ":25", "mx:", "mx:0", "mx:99999", "[::1]25", "[::1]:", "a b", "http://x"] {
            assert!(host_and_port(text, 25).is_err(), "{text}");
        }
    }

    #[test]
    fn several_routes_are_tried_in_order() {
        let typed = ["Good.test=127.0.0.1:1", "good.test=[::1]", "*=127.0.0.1", "bücher.test=."];
        let routes = routes(&typed.map(String::from), 2525).unwrap();
        let hosts = routes.get("good.test").unwrap().as_ref().unwrap();
        let addrs: Vec<String> = hosts.iter().map(|host| host.addrs[0].to_string()).collect();
        assert_eq!(addrs, ["127.0.0.1:1", "[::1]:2525"]);
        assert_eq!(routes.get("xn--bcher-kva.test"), Some(&Err(Unreachable::NullMx)));
        assert!(routes.get("other.test").unwrap().is_ok());
    }

    #[test]
    fn errors_name_the_route() {
        let error = |text: &str| routes(&[text.to_owned()], 25).unwrap_err().to_string();
        assert!(
            error("good.test")
                .starts_with("--route good.test: this is not DOMAIN=HOST[:PORT]\n  hint: give a route as in")
        );
        assert!(error("good..test=::1").starts_with("--route good..test=::1: this is not a domain: "));
        let both = ["a.test=.", "a.test=::1"].map(String::from);
        assert!(routes(&both, 25).is_err());
    }
}
