//! Worlds: parsing, validation, start and end.

use std::{collections::HashMap, error::Error, net::SocketAddr};

use super::*;

fn truth(sandbox: &Sandbox, address: &str) -> Truth {
    sandbox.expected(&Mailbox::parse(address).unwrap())
}

#[tokio::test]
async fn expected_returns_the_true_state() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    for (address, wanted) in [
        ("Ann@good.test", Truth::Known),
        ("\"John Doe\"@good.test", Truth::Known),
        ("ann@bücher.test", Truth::Known),
        ("nobody@good.test", Truth::Unknown),
        ("full@good.test", Truth::Full),
        ("disabled@good.test", Truth::Disabled),
        ("x@catchall.test", Truth::CatchAll),
        ("x@null.test", Truth::NullMx),
        ("x@nowhere.test", Truth::NoDomain),
        ("x@[127.0.0.1]", Truth::NoDomain),
    ] {
        assert_eq!(truth(&sandbox, address), wanted, "{address}");
    }
}

#[tokio::test]
async fn routes_are_those_of_dns() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    let routes: HashMap<_, _> = sandbox.routes().collect();
    assert_eq!(routes["null.test"], HostRoute::NullMx);
    let backup = ["mx1.backup.test", "mx2.backup.test"].map(|host| (host, sandbox.addr(host).unwrap()));
    assert_eq!(routes["backup.test"], HostRoute::Hosts(backup.to_vec()));
    assert_eq!(sandbox.route("xn--bcher-kva.test"), Some(routes["xn--bcher-kva.test"].clone()));
    assert_eq!(sandbox.route("nowhere.test"), None);
    assert_eq!(sandbox.hosts().count(), World::demo().hosts.len());
    let down = TcpStream::connect(sandbox.addr("mx.down.test").unwrap()).await;
    assert_eq!(down.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_demo_list_agrees_with_the_demo_world() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    let list = include_str!("../../../examples/addresses.csv");
    // The sub-status of hosts that treat all mailboxes alike.
    let by_host = HashMap::from([
        ("greylist.test", "greylisted"),
        ("blocked.test", "blocked"),
        ("listed.test", "blocked"),
        ("rate.test", "rate_limited"),
        ("closing.test", "mail_server_temporary_error"),
        ("broken.test", "mail_server_temporary_error"),
        ("garbage.test", "protocol_error"),
        ("down.test", "failed_smtp_connection"),
    ]);
    let mut domains: Vec<_> = sandbox.routes().map(|(domain, _)| domain).collect();
    for row in list.lines().skip(1) {
        let (_, row) = row.split_once(',').unwrap();
        let (row, sub_status) = row.rsplit_once(',').unwrap();
        let (email, _) = row.rsplit_once(',').unwrap();
        let email = match email.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"').unwrap().replace("\"\"", "\""),
            None => email.into(),
        };
        let Ok(mailbox) = Mailbox::parse(&email) else {
            assert_eq!(sub_status, "failed_syntax_check", "{email}");
            continue;
        };
        domains.retain(|&domain| domain != mailbox.domain());
        let wanted = by_host.get(mailbox.domain()).copied().unwrap_or(match sandbox.expected(&mailbox) {
            Truth::Known => "accepted",
            Truth::Unknown => "mailbox_not_found",
            Truth::Full => "mailbox_quota_exceeded",
            Truth::Disabled => "mailbox_disabled",
            Truth::CatchAll => "catch_all",
            Truth::NullMx => "does_not_accept_mail",
            Truth::NoDomain => "no_dns_entries",
        });
        assert_eq!(sub_status, wanted, "{email}");
    }
    assert_eq!(domains, [""; 0], "every domain has a row");
}

#[tokio::test]
async fn a_large_world_needs_a_few_lines_and_depends_on_the_seed() {
    let text = r#"
        seed = 7
        [[host]]
        name = "mx{}.test"
        count = 10
        [[domain]]
        name = "d{}.test"
        count = 200
        hosts = ["mx{}.test"]
        known_share = 0.7
    "#;
    let world = World::from_toml(text).unwrap();
    let first = Sandbox::start(world.clone()).await.unwrap();
    let again = Sandbox::start(world.clone()).await.unwrap();
    let other = Sandbox::start(World { seed: 8, ..world }).await.unwrap();
    assert_eq!(
        first.route("d123.test"),
        Some(HostRoute::Hosts(vec![("mx3.test", first.addr("mx3.test").unwrap())]))
    );
    let truths = |sandbox| -> Vec<_> {
        (0..1000).map(|n| truth(sandbox, &format!("user{n}@d{}.test", n % 200))).collect()
    };
    assert_eq!(truths(&first), truths(&again));
    assert_ne!(truths(&first), truths(&other));
    let known = truths(&first).iter().filter(|&&truth| truth == Truth::Known).count();
    assert!((650..750).contains(&known), "{known}");
}

#[tokio::test]
async fn dropping_the_sandbox_closes_everything() {
    let sandbox = start(host()).await;
    let addr: SocketAddr = sandbox.addr(NAME).unwrap();
    let mut client = Client::greeted(&sandbox).await;
    drop(sandbox);
    client.expect_end().await;
    while let Ok(stream) = TcpStream::connect(addr).await {
        drop(stream);
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_error_names_its_key() {
    let host = "[[host]]\nname = \"mx.test\"\n";
    for (text, wanted) in [
        ("seeed = 1", "seeed"),
        ("[[host]]\nname = \"mx.test\"\ntarpit = { octets = \"1s\" }", "octets"),
        ("[[host]]\nname = \"mx.test\"\nlatency = \"5 parsecs\"", "5 parsecs"),
        ("[[host]]\nname = \"mx.test\"\nwithout = [\"SLEEP\"]", "SLEEP"),
        ("[[host]]\nname = \"mx.test\"\nfaults = [{ at = \"lunch\", does = \"eof\" }]", "lunch"),
        ("[[host]]\nname = \"mx_1.test\"", "host.name = \"mx_1.test\""),
        ("[[host]]\nname = \"mx{}.test\"", "`count`"),
        ("[[host]]\nname = \"mx.test\"\ncount = 2", "`count`"),
        ("[[host]]\nname = \"mx.test\"\nlisten = \"0.0.0.0:25\"", "host.listen"),
        (&format!("{host}{host}"), "occurs twice"),
        ("[[domain]]\nname = \"a.test\"", "domain.hosts"),
        (&format!("{host}[[domain]]\nname = \"a.test\"\nhosts = [\"mx.tset\"]"), "mx.tset"),
        (&format!("{host}[[domain]]\nname = \"a.test\"\nknown_share = 70.0"), "known_share"),
    ] {
        let error = World::from_toml(text).unwrap_err();
        let text = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
        assert!(text.contains(wanted), "{text}");
    }
}
