use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::proto::{AddressError, properties};

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn name(text: &str) -> ClientName {
    ClientName::parse(text).unwrap()
}

fn mail(from: &str, params: MailParams) -> Command {
    Command::Mail { from: from.parse().unwrap(), params }
}

fn rcpt(to: &str, params: RcptParams) -> Command {
    Command::Rcpt { to: mailbox(to), params }
}

fn wire(command: &Command) -> String {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn commands_are_written_as_the_rfcs_show_them() {
    let dsn = MailParams {
        ret: Some(Ret::Headers),
        envid: Some(EnvelopeId::new("QQ314159").unwrap()),
        ..MailParams::default()
    };
    let orcpt = OriginalRecipient::new("rfc822", "Bob@Example.COM").unwrap();
    let notify = Notify::On { success: true, failure: false, delay: false };
    let sasl = |text: &str| Some(SaslResponse::new(text.as_bytes()).unwrap());
    let plain = Mechanism::new("plain").unwrap();
    let cases = [
        // RFC 5321 appendix D.1
        (Command::Ehlo(name("bar.com")), "EHLO bar.com"),
        (mail("Smith@bar.com", MailParams::default()), "MAIL FROM:<Smith@bar.com>"),
        (rcpt("Jones@foo.com", RcptParams::default()), "RCPT TO:<Jones@foo.com>"),
        (Command::Data, "DATA"),
        (Command::Quit, "QUIT"),
        // RFC 5321 3.6.3: the null reverse-path; 4.1.3: a literal
        (mail("", MailParams::default()), "MAIL FROM:<>"),
        (Command::Helo(name("[192.0.2.1]")), "HELO [192.0.2.1]"),
        (Command::Rset, "RSET"),
        (Command::Noop, "NOOP"),
        (Command::Vrfy(Argument::new("Smith").unwrap()), "VRFY Smith"),
        // RFC 2033 4.1
        (Command::Lhlo(name("foo.edu")), "LHLO foo.edu"),
        // RFC 3207 5
        (Command::StartTls, "STARTTLS"),
        // RFC 4954 4.1, 4: an empty initial response is a single "="
        (
            Command::Auth { mechanism: plain.clone(), initial: sasl("\0tim\0tanstaaftanstaaf") },
            "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm",
        ),
        (Command::Auth { mechanism: plain.clone(), initial: None }, "AUTH PLAIN"),
        (Command::Auth { mechanism: plain, initial: sasl("") }, "AUTH PLAIN ="),
        // RFC 1870 6, RFC 6152 3, RFC 6531 3.4, RFC 8689 4.1
        (
            mail("ned@thor.innosoft.com", MailParams { size: Some(500_000), ..MailParams::default() }),
            "MAIL FROM:<ned@thor.innosoft.com> SIZE=500000",
        ),
        (
            mail(
                "a@b.example",
                MailParams { body: Some(Body::EightBitMime), smtputf8: true, ..MailParams::default() },
            ),
            "MAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8",
        ),
        (
            mail("roger@example.org", MailParams { require_tls: true, ..MailParams::default() }),
            "MAIL FROM:<roger@example.org> REQUIRETLS",
        ),
        // RFC 3461 10.1
        (mail("Alice@Example.ORG", dsn), "MAIL FROM:<Alice@example.org> RET=HDRS ENVID=QQ314159"),
        (
            rcpt("Bob@Example.COM", RcptParams { notify: Some(notify), orcpt: Some(orcpt) }),
            "RCPT TO:<Bob@example.com> NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM",
        ),
        (
            rcpt("Carol@Ivory.EDU", RcptParams { notify: Some(Notify::Never), orcpt: None }),
            "RCPT TO:<Carol@ivory.edu> NOTIFY=NEVER",
        ),
        // RFC 3030 4.2
        (Command::Bdat { size: 86, last: true }, "BDAT 86 LAST"),
        (Command::Bdat { size: 100_000, last: false }, "BDAT 100000"),
    ];
    for (command, line) in cases {
        assert_eq!(wire(&command), format!("{line}\r\n"));
        assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
    }
}

#[test]
fn the_longest_parts_still_make_a_line_within_its_limit() {
    let label = "d".repeat(63);
    let longest = format!("{}@{label}.{label}.{}", "l".repeat(64), "d".repeat(61));
    assert_eq!(longest.len(), 254);
    let all = MailParams {
        size: Some(u64::MAX),
        body: Some(Body::BinaryMime),
        smtputf8: true,
        ret: Some(Ret::Headers),
        envid: Some(EnvelopeId::new(&"=".repeat(33)).unwrap()),
        require_tls: true,
    };
    properties::command_encode(&mail(&longest, all));
    let notify = Some(Notify::On { success: true, failure: true, delay: true });
    let orcpt = Some(OriginalRecipient::new("rfc822", &"o".repeat(493)).unwrap());
    properties::command_encode(&rcpt(&longest, RcptParams { notify, orcpt }));
    properties::command_encode(&Command::Vrfy(Argument::new(&"v".repeat(500)).unwrap()));
    let mechanism = Mechanism::new(&"m".repeat(20)).unwrap();
    let initial = SaslResponse::new(&[b's'; 9195]).unwrap();
    let auth = Command::Auth { mechanism, initial: Some(initial) };
    assert_eq!(wire(&auth).len(), SaslResponse::MAX_LINE);
    properties::command_encode(&auth);
}

#[test]
fn parts_refuse_text_that_does_not_fit_or_breaks_the_line() {
    use ParamError::*;
    for injected in ["a\r\nRCPT TO:<b@c>", "a\nb", "a\rb", "a\0b"] {
        assert_eq!(Argument::new(injected), Err(Octet(1)));
        assert_eq!(Mechanism::new(injected), Err(Octet(1)));
        assert_eq!(EnvelopeId::new(injected), Err(Octet(1)));
        assert_eq!(OriginalRecipient::new("rfc822", injected), Err(Octet(1)));
        assert_eq!(OriginalRecipient::new(injected, "a@b"), Err(Octet(1)));
    }
    assert_eq!(Argument::new(""), Err(Empty));
    assert_eq!(Argument::new(&"v".repeat(501)), Err(TooLong(500)));
    assert_eq!(Mechanism::new(&"m".repeat(21)), Err(TooLong(20)));
    assert_eq!(EnvelopeId::new(&"e".repeat(101)), Err(TooLong(100)));
    assert_eq!(EnvelopeId::new(&"=".repeat(34)), Err(TooLong(100)), "102 octets as xtext");
    assert!(OriginalRecipient::new("rfc822", &"o".repeat(494)).is_err());
    assert!(SaslResponse::new(&[b's'; 9196]).is_err());
}

#[test]
fn a_text_that_a_server_would_trim_is_no_argument() {
    // RFC 5321 4.1.1: a server ignores white space before the line end, so it would be lost.
    for text in [" ", " Smith", "Smith ", "   "] {
        assert!(matches!(Argument::new(text), Err(ParamError::Octet(_))), "{text:?}");
    }
    assert_eq!(Argument::new("John Smith").unwrap().as_str(), "John Smith");
}

#[test]
fn a_control_is_no_argument_and_other_white_space_is_shown() {
    for (text, at) in [("\u{85}", 0), ("Sm\u{9b}ith", 2), ("Smith\t", 5), ("a\r\nRSET", 1), ("\x7f", 0)] {
        assert_eq!(Argument::new(text), Err(ParamError::Octet(at)), "{text:?}");
    }
    let vrfy = Command::Vrfy(Argument::new("\u{a0}Smith\u{2028}").unwrap());
    assert_eq!(format!("{vrfy:?}"), "VRFY \u{a0}Smith\u{2028}");
}

#[test]
fn xtext_encodes_special_octets_and_round_trips() {
    // RFC 3461 4: "+", "=" and octets that are not printable.
    let id = EnvelopeId::new("a+b=c d").unwrap();
    assert_eq!(id.as_xtext(), "a+2Bb+3Dc+20d");
    assert_eq!(EnvelopeId::from_xtext("a+2Bb+3Dc+20d"), Ok(id));
    for broken in ["+", "+2", "a+zz", "+0D+0A", "+E9", "+é"] {
        assert!(EnvelopeId::from_xtext(broken).is_err(), "{broken}");
    }
}

#[test]
fn a_server_is_lenient_where_the_rfc_asks_for_it() {
    let cases = [
        // RFC 5321 2.4: verbs and keywords in any case
        ("mail from:<A@b.example> size=5", "MAIL FROM:<A@b.example> SIZE=5"),
        ("rCpT tO:<a@b.example> notify=success,DELAY", "RCPT TO:<a@b.example> NOTIFY=SUCCESS,DELAY"),
        ("ehlo Bar.COM", "EHLO bar.com"),
        ("bdat 5 last", "BDAT 5 LAST"),
        ("auth plain =", "AUTH PLAIN ="),
        // RFC 5321 3.3: a space after the colon, as many clients send it
        ("MAIL FROM: <a@b.example>", "MAIL FROM:<a@b.example>"),
        ("RCPT TO:   <a@b.example>", "RCPT TO:<a@b.example>"),
        ("MAIL FROM: <>", "MAIL FROM:<>"),
        // RFC 5321 4.1.1: white space at the end; 4.1.1.9: an argument of NOOP
        ("DATA  ", "DATA"),
        ("QUIT\t\r\n", "QUIT"),
        ("NOOP ping", "NOOP"),
        ("RSET\n", "RSET"),
        // RFC 5321 appendix C: source routes
        ("RCPT TO:<@hosta.int,@jkl.org:userc@d.bar.org>", "RCPT TO:<userc@d.bar.org>"),
        ("MAIL FROM:<@a.example:b@c.example>", "MAIL FROM:<b@c.example>"),
        // RFC 5321 4.1.2: the bracket, the quote and the at sign inside quotes
        (r#"RCPT TO:<"a>b"@c.example>"#, r#"RCPT TO:<"a>b"@c.example>"#),
        (r#"RCPT TO:<"\">"@c.example>"#, r#"RCPT TO:<"\">"@c.example>"#),
        (r#"RCPT TO:<"@x:y"@c.example>"#, r#"RCPT TO:<"@x:y"@c.example>"#),
        // RFC 5321 4.1.3: dcontent may contain both, too
        (r#"RCPT TO:<a@[tag:">"]>"#, r#"RCPT TO:<a@[tag:">"]>"#),
        // RFC 6531 3.3
        ("RCPT TO:<пример@c.example>", "RCPT TO:<пример@c.example>"),
    ];
    for (lenient, strict) in cases {
        let command = Command::parse(lenient.as_bytes()).unwrap_or_else(|error| panic!("{lenient}: {error}"));
        assert_eq!(wire(&command), format!("{strict}\r\n"), "{lenient}");
    }
}

#[test]
fn a_line_that_is_no_command_is_refused_with_the_code_of_its_fault() {
    let cases: [(&[u8], u16); 46] = [
        // RFC 5321 4.2.4: 500 unknown, 501 syntax, 553 address, 555 parameter
        (b"", 500),
        (b"\r\n", 500),
        (b"GET / HTTP/1.1", 500),
        (b"MAILFROM:<a@b>", 500),
        (b" DATA", 500),
        (b"QUITX", 500),
        (b"MAIL", 501),
        (b"MAIL FROM", 501),
        (b"MAIL FROM:a@b.example", 501),
        (b"MAIL FROM:<a@b.example", 501),
        (b"MAIL TO:<a@b.example>", 501),
        (b"RCPT FROM:<a@b.example>", 501),
        (b"RCPT TO:<\"a>b@c.example>", 501),
        (b"DATA now", 501),
        (b"RSET x", 501),
        (b"QUIT x", 501),
        (b"STARTTLS x", 501),
        (b"VRFY", 501),
        (b"VRFY a\x07b", 501),
        (b"NOOP a\0b", 501),
        (b"DATA\rQUIT", 501),
        (b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>", 501),
        (b"EHLO \xff", 501),
        (b"AUTH", 501),
        (b"AUTH PLAIN !", 501),
        (b"AUTH PLAIN AA", 501),
        (b"AUTH \xc3\xa4", 501),
        (b"BDAT", 501),
        (b"BDAT x", 501),
        (b"BDAT -1", 501),
        (b"BDAT +1", 501),
        (b"BDAT 1 FIRST", 501),
        (b"BDAT 1 LAST LAST", 501),
        (b"BDAT 99999999999999999999", 501),
        (b"MAIL FROM:<a@b.example>SIZE=1", 501),
        (b"EHLO", 553),
        (b"EHLO a b", 553),
        (b"RCPT TO:<>", 553),
        (b"RCPT TO:<a>", 553),
        (b"RCPT TO:<@a.example>", 553),
        (b"MAIL FROM:<a@b.example> SIZE", 555),
        (b"MAIL FROM:<a@b.example> SIZE=+1", 555),
        (b"MAIL FROM:<a@b.example> SMTPUTF8=yes", 555),
        (b"MAIL FROM:<a@b.example> NOTIFY=NEVER", 555),
        (b"RCPT TO:<a@b.example> NOTIFY=NEVER,SUCCESS", 555),
        (b"RCPT TO:<a@b.example> ORCPT=a@b.example", 555),
    ];
    for (line, code) in cases {
        let error = Command::parse(line).expect_err(&line.escape_ascii().to_string());
        assert_eq!(error.code(), code, "{}: {error}", line.escape_ascii());
    }
}

#[test]
fn an_address_that_is_none_keeps_its_reason() {
    let Err(CommandError::Address(error)) = Command::parse(b"RCPT TO:<a b@c.example>") else { panic!() };
    assert_eq!(Err::<Mailbox, AddressError>(error), Mailbox::parse("a b@c.example"));
}

#[test]
fn debug_shows_the_line_and_no_secret() {
    assert_eq!(format!("{:?}", rcpt("a@b.example", RcptParams::default())), "RCPT TO:<a@b.example>");
    let initial = SaslResponse::new(b"\0tim\0tanstaaftanstaaf").unwrap();
    assert_eq!(format!("{initial:?}"), "SaslResponse(…)");
    let auth = Command::Auth { mechanism: Mechanism::new("PLAIN").unwrap(), initial: Some(initial) };
    assert_eq!(format!("{auth:?}"), "AUTH PLAIN …");
}

/// Generates every command, about half of them with parts near the limits of their types.
fn command() -> impl Strategy<Value = Command> {
    let address = prop_oneof![
        4 => r#"([a-z0-9+=._-]{1,64}|"([ !#-\[\]-~]|\\[ -~]){0,30}"|[а-я]{1,32})@([a-z][a-z0-9-]{0,20}\.){0,8}[a-z]{1,20}"#,
        1 => r"[a-z]{1,64}@\[(IPv6:2001:db8::[0-9a-f]{1,4}|192\.0\.2\.[0-9]{1,2}|tag:[!-Z^-~]{1,180})\]",
        1 => Just(String::new()),
    ];
    let name = prop_oneof![
        r"([a-z][a-z0-9]{0,61}\.){0,3}[a-z]{1,62}",
        Just("[192.0.2.1]".to_owned()),
        "[A-Za-z0-9_-]{1,20}",
        "[ -~]{1,500}"
    ];
    let first = prop_oneof![3 => address, 1 => name];
    let second = prop_oneof!["[ -~]{0,100}", "rfc822", "[A-Za-z0-9-]{1,64}", "\\PC{0,200}"];
    let third = prop_oneof!["[ -~]{0,500}", "[+=]{0,170}", "\\PC{0,20}"];
    let number = prop_oneof![any::<u64>(), 0u64..2000];
    let parts = (any::<u8>(), (first, second, third), number, any::<u8>());
    parts.prop_filter_map("parts that the types refuse", |(kind, (a, b, c), number, flags)| {
        properties::command(kind, [&a, &b, &c], number, flags)
    })
}

proptest! {
    #[test]
    fn a_command_is_one_line_and_reads_back(command in command()) {
        properties::command_encode(&command);
    }

    #[test]
    fn any_octets_are_refused_or_sound(
        start in "(?i)(MAIL FROM:|RCPT TO:|AUTH |BDAT |VRFY |EHLO |NOOP|)",
        rest in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            prop::collection::vec(prop::sample::select(&b"<>@:,\"\\ \t=+;a1.\r\n\0[]\xc3\xa9"[..]), 0..40),
        ],
    ) {
        properties::command_decode(&[start.as_bytes(), &rest].concat());
    }
}
