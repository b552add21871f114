use proptest::prelude::*;

use super::*;
use crate::proto::{DecodeError, properties};

fn reply(text: &str) -> Reply {
    Reply::parse(text.as_bytes()).unwrap()
}

#[test]
fn the_first_digit_decides_the_kind() {
    // RFC 5321 4.2.1
    for (code, kind) in [(200, 2), (250, 2), (299, 2), (334, 3), (399, 3), (450, 4), (550, 5), (599, 5)] {
        let reply = reply(&code.to_string());
        let kinds =
            [reply.is_positive(), reply.is_intermediate(), reply.is_transient(), reply.is_permanent()];
        assert_eq!(kinds.iter().position(|&is| is), Some(kind - 2), "{code}");
        assert_eq!(kinds.iter().filter(|&&is| is).count(), 1, "{code}");
    }
    assert!(reply("421 bye").is_closing());
    assert!(!reply("420 bye").is_closing() && !reply("521 bye").is_closing());
}

#[test]
fn a_reply_of_two_codes_is_of_no_kind() {
    for (text, code, mixed) in [
        ("250-yes\r\n550 no", 250, true),
        ("250-yes\r\n250-yes\r\n251 yes", 250, true),
        ("550-no\r\n250-yes\r\n550 no", 550, true),
        ("421-bye\r\n250 yes", 421, true),
        ("354-go\r\n554 no", 354, true),
        ("250-yes\r\n250 yes", 250, false),
        ("250-yes\r\nno code\r\n250 yes", 250, false),
        ("250 yes", 250, false),
    ] {
        let reply = reply(text);
        let kinds =
            [reply.is_positive(), reply.is_intermediate(), reply.is_transient(), reply.is_permanent()];
        assert_eq!((reply.code(), reply.has_mixed_codes()), (code, mixed), "{text}");
        assert_eq!(kinds.iter().filter(|&&is| is).count(), usize::from(!mixed), "{text}");
        assert!(!mixed || (!reply.is_closing() && reply.is_malformed()), "{text}");
        assert_eq!(reply.detach(), reply);
    }
}

#[test]
fn exactly_one_reply_is_parsed() {
    assert_eq!(reply("250 OK"), reply("250 OK\r\n"));
    assert_eq!(Reply::parse(b"250-OK\r\n"), Err(DecodeError::Incomplete));
    assert_eq!(Reply::parse(b""), Err(DecodeError::Incomplete));
    assert_eq!(Reply::parse(b"250 OK\r\n250 OK"), Err(DecodeError::Trailing));
    assert!(Reply::parse(b"250 OK\r\n \r\n").is_ok());
    assert!(matches!(Reply::parse(b"OK"), Err(DecodeError::NotAReply(_))));
}

#[test]
fn enhanced_codes_are_read_to_their_boundary() {
    let cases: &[(&str, Option<&str>)] = &[
        // RFC 2034 4, RFC 3463 2
        ("550 5.1.1 No such user", Some("5.1.1")),
        ("250 2.1.5 Ok", Some("2.1.5")),
        ("450-4.2.1 Mailbox\r\n450 4.2.1 busy", Some("4.2.1")),
        // up to three digits: Exchange Online, Gmail
        ("550 5.7.606 Access denied", Some("5.7.606")),
        ("550 5.100.999 x", Some("5.100.999")),
        // at the end of the line, and before a tab
        ("554 5.7.1", Some("5.7.1")),
        ("554 5.7.1\tno", Some("5.7.1")),
        // the class may differ from that of the reply
        ("550 4.7.1 later", Some("4.7.1")),
        // on a later line only
        ("550-Sorry\r\n550 5.1.1 No such user", Some("5.1.1")),
        // Cisco ESA (IronPort) writes a number sign, others an extra space
        ("550 #5.1.0 Address rejected.", Some("5.1.0")),
        ("550  5.1.1 No such user", Some("5.1.1")),
        // none of them: class 3, one number, two, four, four digits, a letter, a sign after it
        ("550 3.1.1 x", None),
        ("550 5 x", None),
        ("550 5.1 x", None),
        ("550 5.1. x", None),
        ("250 2.0.0.1 x", None),
        ("550 5.1.1234 x", None),
        ("550 5.1234.1 x", None),
        ("550 5.1.x", None),
        ("550 15.1.1 x", None),
        ("550 5.1.1: x", None),
        ("550 +5.1.1 x", None),
        ("550 ##5.1.1 x", None),
        // not at the start: an address, a version
        ("220 mx 5.1.1 ready", None),
        ("550 [5.1.1] x", None),
    ];
    for &(text, code) in cases {
        assert_eq!(reply(text).enhanced().map(|code| code.to_string()).as_deref(), code, "{text:?}");
    }
    for text in ["#5.1.1", " 5.1.1", "5.1.1 ", "5.1.1 x", "", "5"] {
        assert!(text.parse::<EnhancedCode>().is_err(), "{text:?}");
    }
}

#[test]
fn text_is_that_of_all_lines_without_codes() {
    assert_eq!(reply("550-5.1.1 No such user,\r\n550 5.1.1 try again").text(), "No such user, try again");
    assert_eq!(reply("550-5.1.1\r\n550 5.1.1 No such user").text(), "No such user");
    assert_eq!(reply("250-a\r\n250-\r\n250-b\r\n250").text(), "a b", "lines without text add no spaces");
    assert_eq!(reply("550 #5.1.0 Address rejected.").text(), "Address rejected.");
    assert_eq!(reply("550 5.1.1").to_string(), "550 5.1.1");
    assert_eq!(reply("550-5.1.1 No\r\n550 5.1.1 user").to_string(), "550 5.1.1 No user");
    assert_eq!(reply("250").to_string(), "250");
}

#[test]
fn lines_keep_their_octets_and_their_enhanced_codes() {
    let reply = Reply::parse(b"550-5.1.1 \xd3\xc3\r\n550-\r\n550  x ").unwrap();
    let lines: Vec<&[u8]> = reply.lines().collect();
    assert_eq!(lines, [&b"5.1.1 \xd3\xc3"[..], b"", b" x"]);
    assert_eq!(reply.as_bytes(), b"550-5.1.1 \xd3\xc3\r\n550-\r\n550  x \r\n");
}

#[test]
fn an_excerpt_has_the_first_lines() {
    let short = Reply::parse(b"550-5.1.1 No\r\n550 5.1.1 user\r\n").unwrap();
    assert_eq!(short.excerpt(), short);
    let line = format!("550-5.7.1 {}\r\n", "x".repeat(1_000));
    let long = Reply::parse(format!("{}550 5.7.1 end\r\n", line.repeat(60)).as_bytes()).unwrap();
    let excerpt = long.excerpt();
    assert_eq!(excerpt.as_bytes(), line.repeat(4).as_bytes());
    assert_eq!((excerpt.code(), excerpt.enhanced(), excerpt.lines().count()), (550, long.enhanced(), 4));
    assert!(long.text().starts_with(&*excerpt.text()));
}

proptest! {
    #[test]
    fn enhanced_codes_are_read_as_a_naive_reader_reads_them(
        text in "#?[ \t]?[2-5x]?\\.?[0-9]{0,4}\\.?[0-9]{0,4}[ \t.:0-9]?[ -~]{0,4}",
    ) {
        properties::enhanced_code(&text);
    }

    #[test]
    fn enhanced_codes_round_trip(class in prop::sample::select(vec![2, 4, 5]), subject in 0..1000u16, detail in 0..1000u16) {
        let code = EnhancedCode { class, subject, detail };
        prop_assert_eq!(code.to_string().parse(), Ok(code));
    }
}
