use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::proto::properties;

/// Returns the extensions of a server that sends these lines after its greeting.
fn offered(lines: &[&str]) -> Extensions {
    let mut reply = "250-mx.example.com\r\n".to_owned();
    for line in lines {
        reply += &format!("250-{line}\r\n");
    }
    Extensions::parse(&Reply::parse((reply + "250 HELP\r\n").as_bytes()).unwrap())
}

#[test]
fn every_keyword_is_known() {
    let all = offered(&[
        "PIPELINING",
        "8BITMIME",
        "SMTPUTF8",
        "STARTTLS",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "CHUNKING",
        "BINARYMIME",
        "REQUIRETLS",
        "SIZE 52428800",
        "AUTH PLAIN LOGIN",
        "LIMITS MAILMAX=10 RCPTMAX=100 RCPTDOMAINMAX=1",
        "X-EXCHANGE foo bar",
    ]);
    let expected = Extensions {
        pipelining: true,
        eight_bit_mime: true,
        smtputf8: true,
        starttls: true,
        enhanced_status_codes: true,
        dsn: true,
        chunking: true,
        binary_mime: true,
        require_tls: true,
        size: Some(52_428_800),
        auth: vec!["PLAIN".into(), "LOGIN".into()],
        limits: Limits { mail_max: Some(10), rcpt_max: Some(100), rcpt_domain_max: Some(1) },
        others: vec![("X-EXCHANGE".into(), "foo bar".into()), ("HELP".into(), "".into())],
    };
    assert_eq!(all, expected);
}

#[test]
fn the_first_line_greets_and_offers_nothing() {
    // RFC 5321 4.1.1.1: "ehlo-greet" may be any text.
    let reply = Reply::parse(b"250-PIPELINING\r\n250 STARTTLS").unwrap();
    let offered = Extensions::parse(&reply);
    assert!(!offered.pipelining && offered.starttls);
    assert_eq!(Extensions::parse(&Reply::parse(b"250 SIZE 1").unwrap()), Extensions::default());
    // A greeting without text is still a first line.
    assert!(Extensions::parse(&Reply::parse(b"250-\r\n250 SIZE 1").unwrap()).size.is_some());
}

#[test]
fn keywords_are_read_in_every_form_that_servers_send() {
    for line in ["pipelining", "PipeLining", " PIPELINING", "\tPIPELINING ", "PIPELINING x"] {
        assert!(offered(&[line]).pipelining, "{line:?}");
    }
    assert!(!offered(&["PIPELININGX"]).pipelining);
    assert!(!offered(&["X PIPELINING"]).pipelining);
    // draft-myers-smtp-auth, for Outlook Express 4
    for line in [
        "AUTH=PLAIN LOGIN",
        "AUTH PLAIN LOGIN",
        "auth plain login",
        "AUTH  PLAIN  LOGIN",
        "AUTH= PLAIN LOGIN",
    ] {
        let offered = offered(&[line]);
        assert_eq!(offered.auth, ["PLAIN".into(), "LOGIN".into()], "{line:?}");
        assert!(offered.offers_auth("plain") && !offered.offers_auth("XOAUTH2"));
    }
    let twice = offered(&["AUTH PLAIN LOGIN", "AUTH=LOGIN PLAIN XOAUTH2", "PIPELINING", "PIPELINING"]);
    assert_eq!(twice.auth, ["PLAIN".into(), "LOGIN".into(), "XOAUTH2".into()]);
}

#[test]
fn invalid_mechanisms_are_omitted() {
    // RFC 4422 3.1: 1 to 20 of letters, digits, hyphen and underscore.
    let offered = offered(&["AUTH PLAIN \u{e4} PLA,IN AAAAAAAAAAAAAAAAAAAAA SCRAM-SHA-256"]);
    assert_eq!(offered.auth, ["PLAIN".into(), "SCRAM-SHA-256".into()]);
}

#[test]
fn a_size_of_0_or_none_is_no_limit() {
    // RFC 1870 4
    assert_eq!(offered(&["SIZE"]).size, Some(0));
    for line in ["SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE +1", "SIZE 99999999999999999999"] {
        assert_eq!(offered(&[line]).max_message_size(), None, "{line:?}");
    }
    assert_eq!(offered(&["SIZE=1000"]).max_message_size(), Some(1000));
    assert_eq!(offered(&[]).size, None);
}

#[test]
fn odd_limits_are_none() {
    // RFC 9422 4: a value is one to six digits and not 0. An unknown limit is skipped.
    let limits = |line: &str| offered(&[line]).limits;
    let rcpt = |n| Limits { rcpt_max: Some(n), ..Limits::default() };
    assert_eq!(limits("LIMITS RCPTMAX=50"), rcpt(50));
    assert_eq!(limits("limits rcptmax=50"), rcpt(50));
    assert_eq!(limits("LIMITS FOO=1 RCPTMAX=50 BAR"), rcpt(50));
    for line in [
        "LIMITS",
        "LIMITS RCPTMAX",
        "LIMITS RCPTMAX=",
        "LIMITS RCPTMAX=0",
        "LIMITS RCPTMAX=-1",
        "LIMITS RCPTMAX=+1",
        "LIMITS RCPTMAX=1.5",
        "LIMITS RCPTMAX=4294967296",
        "LIMITS RCPTMAX=99999999999999999999",
        "LIMITS RCPTMAX = 50",
    ] {
        assert_eq!(limits(line), Limits::default(), "{line:?}");
    }
}

#[test]
fn a_hostile_list_of_mechanisms_costs_little() {
    let names: Vec<String> = (0..10_000).map(|n| format!("{n:X}")).collect();
    let lines: Vec<String> = names.chunks(300).map(|names| format!("AUTH {}", names.join(" "))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let started = Instant::now();
    let offered = offered(&lines);
    assert!(offered.auth.len() <= 64, "{}", offered.auth.len());
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[test]
fn a_hostile_list_of_keywords_is_cut() {
    let lines: Vec<String> = (0..500).map(|n| format!("X-{n} {}", "x".repeat(100))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain(["PIPELINING"]).collect();
    let offered = offered(&lines);
    let octets: usize = offered.others.iter().map(|(keyword, params)| keyword.len() + params.len()).sum();
    assert!((3_900..=4_096).contains(&octets), "{octets}");
    assert!(offered.pipelining && offered.others[0].0 == "X-0".into());
}

proptest! {
    #[test]
    fn any_reply_gives_sound_extensions(
        lines in prop::collection::vec(
            prop_oneof![
                "[ \t]?(?i)(SIZE|AUTH|LIMITS|PIPELINING|X-[A-Z]{1,3})[ =]?([A-Z0-9=+-]{0,12}[ \t]{0,2}){0,4}".prop_map(String::into_bytes),
                "(?i)LIMITS( (MAILMAX|RCPTMAX|RCPTDOMAINMAX|[A-Z]{1,4})=?[0-9]{0,12}){0,4}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            0..8,
        ),
    ) {
        let mut reply = b"250-mx\r\n".to_vec();
        for line in lines {
            reply.extend([b"250-", &line[..], b"\r\n"].concat());
        }
        properties::ehlo(&[&reply[..], b"250 HELP\r\n"].concat());
        properties::ehlo(&reply[..reply.len() - 2]);
    }
}
