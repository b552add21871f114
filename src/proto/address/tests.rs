use std::net::IpAddr;

use proptest::prelude::*;

use super::AddressErrorKind::*;
use super::*;
use crate::proto::properties;

fn repeat(text: &str, times: usize) -> String {
    text.repeat(times)
}

/// Returns a domain of exactly `octets` octets, in labels of at most 63.
fn domain_of(octets: usize) -> String {
    let mut domain = repeat("d", octets);
    for dot in (63..octets.saturating_sub(1)).step_by(64) {
        domain.replace_range(dot..=dot, ".");
    }
    domain
}

/// (as written, as on the wire), or one text for both.
const VALID: &[(&str, &str)] = &[
    // RFC 5321 4.1.2: Dot-string
    ("jane@example.org", ""),
    ("jane.doe@example.org", ""),
    ("a@b", ""),
    ("user+detail@example.org", ""),
    ("!#$%&'*+-/=?^_`{|}~@example.org", ""),
    ("1234567890@example.org", ""),
    ("-@example.org", ""),
    ("_______@example.org", ""),
    // RFC 3696 3, with its errata
    ("customer/department=shipping@example.com", ""),
    ("$A12345@example.com", ""),
    ("!def!xyz%abc@example.com", ""),
    ("_somename@example.com", ""),
    (r#""Abc\@def"@example.com"#, ""),
    (r#""Fred\ Bloggs"@example.com"#, ""),
    (r#""Joe.\\Blow"@example.com"#, ""),
    (r#""Abc@def"@example.com"#, ""),
    (r#""Fred Bloggs"@example.com"#, ""),
    // RFC 5321 4.1.2: Quoted-string
    (r#"""@example.org"#, ""),
    (r#""\"\\"@example.org"#, ""),
    (r#"" "@example.org"#, ""),
    (r#""..a..[](),:;<>@"@example.org"#, ""),
    (r#""jane\~"@example.org"#, ""),
    // RFC 5321 2.3.5 and 4.1.2: Domain
    ("Jane.DOE@EXAMPLE.Org", "Jane.DOE@example.org"),
    ("a@localhost", ""),
    ("a@1.2.3.4", ""),
    ("a@0-0.example", ""),
    ("a@r3---sn-4g5e6nez.example", ""),
    ("a@ab--cd.EXAMPLE", "a@ab--cd.example"),
    // RFC 6531 3.3: UTF8-non-ascii and U-label
    ("пример@example.org", ""),
    ("用户.名@example.org", ""),
    ("\u{E9}\u{A0}@example.org", ""), // the first after C1
    (r#""жан дое"@example.org"#, ""),
    ("ß@Straße.example", "ß@xn--strae-oqa.example"),
    ("jane@BÜCHER.example", "jane@xn--bcher-kva.example"),
    ("jane@XN--BCHER-KVA.Example", "jane@xn--bcher-kva.example"),
    ("θσερ@εχαμπλε.ψομ", "θσερ@xn--mxahbxey0c.xn--xxaf0a"),
    ("a@例え。テスト", "a@xn--r8jz45g.xn--zckzah"),
    ("a@ｅｘａｍｐｌｅ．ｏｒｇ", "a@example.org"),
    ("a@so\u{AD}ft.example", "a@soft.example"),
    // RFC 5321 4.1.3: address literals
    ("a@[192.0.2.1]", ""),
    ("a@[0.0.0.0]", ""),
    ("a@[192.000.002.001]", "a@[192.0.2.1]"),
    ("a@[IPv6:2001:db8::1]", ""),
    ("a@[ipV6:2001:DB8:0:0:0:0:0:1]", "a@[IPv6:2001:db8::1]"),
    ("a@[IPv6:::]", ""),
    ("a@[IPv6:1:2:3:4:5:6:7:8]", ""),
    ("a@[IPv6:1:2:3:4:5:6::]", "a@[IPv6:1:2:3:4:5:6::]"),
    ("a@[IPv6:::ffff:192.0.2.1]", ""),
    ("a@[IPv6:::FFFF:192.000.2.1]", "a@[IPv6:::ffff:192.0.2.1]"),
    ("a@[IPv6:1:2:3:4:5:6:192.0.2.1]", "a@[IPv6:1:2:3:4:5:6:c000:201]"),
    ("a@[IPv6:1:2:3:4::192.0.2.1]", "a@[IPv6:1:2:3:4::c000:201]"),
    ("a@[x-tag:!\"#:Z^~]", ""),
    ("a@[-9:x]", ""),
];

#[test]
fn valid_mailboxes() {
    for &(written, wire) in VALID {
        let wire = if wire.is_empty() { written } else { wire };
        let mailbox = Mailbox::parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(mailbox.as_str(), wire);
        let local_part = &wire[..wire.rfind('@').unwrap()];
        assert_eq!((mailbox.local_part(), mailbox.domain()), (local_part, &wire[local_part.len() + 1..]));
        assert_eq!(mailbox.is_ascii(), wire.is_ascii());
        assert_eq!(mailbox.needs_smtputf8(), !wire.is_ascii());
        assert_eq!(Mailbox::parse(wire).as_ref(), Ok(&mailbox), "{wire} again");
    }
}

/// (input, fault, byte)
const INVALID: &[(&str, AddressErrorKind, usize)] = &[
    ("", Empty, 0),
    ("jane", MissingAt, 4),
    (r#""jane""#, MissingAt, 6),
    // RFC 5321 4.1.2: Dot-string
    ("@example.org", EmptyLocalPart, 0),
    (".jane@example.org", EmptyAtom, 0),
    ("jane..doe@example.org", EmptyAtom, 5),
    ("jane.@example.org", EmptyAtom, 4),
    ("jane doe@example.org", LocalPartChar, 4),
    ("jane,doe@example.org", LocalPartChar, 4),
    ("жан;@example.org", LocalPartChar, 6),
    ("mailto:jane@example.org", LocalPartChar, 6),
    (r"jane\@doe@example.org", LocalPartChar, 4),
    (r#"jane"doe"@example.org"#, LocalPartChar, 4),
    // RFC 5321 4.1.2: Quoted-string
    (r#""jane@example.org"#, UnterminatedQuote, 0),
    (r#""jane\"@example.org"#, UnterminatedQuote, 0),
    (r#""jane\"#, UnterminatedQuote, 0),
    ("\"\\ü\"@example.org", QuotedPair, 2),
    (r#""jane".doe@example.org"#, TextAfterQuote, 6),
    (r#""jane""doe"@example.org"#, TextAfterQuote, 6),
    // No controls (RFC 5321 4.1.2; RFC 6531 3.3 and RFC 5198 2 for C1)
    ("ja\0ne@example.org", Control, 2),
    ("jane@example.org\r\nRCPT TO:<joe@example.org>", Control, 16),
    ("jane\r\nDATA@example.org", Control, 4),
    ("\"a\tb\"@example.org", Control, 2),
    ("\"a\\\nb\"@example.org", Control, 3),
    ("\"a\u{7F}\"@example.org", Control, 2),
    ("\u{E9}\u{80}@example.org", Control, 2),
    ("\u{E9}\u{9F}@example.org", Control, 2),
    ("\"\u{85}\"@example.org", Control, 1),
    ("\"\\\u{85}\"@example.org", Control, 2),
    // RFC 5321 2.3.5 and 4.1.2: Domain
    ("jane@", EmptyDomain, 5),
    ("jane@.", EmptyLabel, 5),
    ("jane@.example.org", EmptyLabel, 5),
    ("jane@example..org", EmptyLabel, 13),
    ("jane@example.org.", TrailingDot, 16),
    ("jane@under_score.example", DomainChar, 10),
    ("jane@exa mple.org", DomainChar, 8),
    ("jane@bü_cher.example", DomainChar, 8),
    ("jane@example.org:25", DomainChar, 16),
    ("jane@_", DomainChar, 5),
    ("jane@doe@example.org", AtInDomain, 8),
    ("jane@-example.org", LabelHyphen, 5),
    ("jane@example-.org", LabelHyphen, 12),
    ("jane@example.-", LabelHyphen, 13),
    // RFC 5890 2.3.2.1 and UTS #46
    ("jane@a.xn--zzzzzzzz9999.org", ALabel, 7),
    ("jane@xn--a.org", ALabel, 5),
    ("jane@xn--abc-.org", LabelHyphen, 12),
    ("jane@xn--ls8h=.org", DomainChar, 13),
    ("jane@XN--BCHER-KV.example", ALabel, 5),
    ("jane@ok.\u{FF20}.example", ULabel, 8),
    ("jane@ok。\u{301}a.example", ULabel, 10),
    ("jane@ok．ok｡\u{301}a.example", ULabel, 15),
    ("jane@b\u{E4}d\u{85}.example", ULabel, 5),
    ("jane@\u{5D0}.1a\u{5D0}.example", ULabel, 8),
    ("jane@1a.\u{5D0}.example", ULabel, 5), // RFC 5893 2: invalid only together with the other label
    ("jane@ü。。example", EmptyLabel, 10),
    ("jane@ok.\u{AD}.example", EmptyLabel, 8),
    ("jane@ok.example。", TrailingDot, 8), // the error names the label before it
    // RFC 5321 4.1.3: address literals
    ("jane@[192.0.2.1", UnterminatedLiteral, 5),
    ("jane@[192.0.2.1].org", TextAfterLiteral, 16),
    ("jane@[192.0.2.256]", Ipv4Literal, 6),
    ("jane@[192.0.2]", Ipv4Literal, 6),
    ("jane@[192.0.2.1.1]", Ipv4Literal, 6),
    ("jane@[192.0.2.0001]", Ipv4Literal, 6),
    ("jane@[192.0.2.+1]", Ipv4Literal, 6),
    ("jane@[]", Ipv4Literal, 6),
    ("jane@[example.org]", Ipv4Literal, 6),
    ("jane@[IPv6:]", Ipv6Literal, 11),
    ("jane@[IPv6:2001:db8]", Ipv6Literal, 11),
    ("jane@[IPv6:2001::db8::1]", Ipv6Literal, 11),
    ("jane@[IPv6:1:2:3:4:5:6:7::]", Ipv6Literal, 11), // "::" replaces at least two groups
    ("jane@[IPv6:1:2:3:4:5::192.0.2.1]", Ipv6Literal, 11),
    ("jane@[IPv6:fe80::1%eth0]", Ipv6Literal, 11),
    ("jane@[IPv6:::ffff:192.0.2.256]", Ipv6Literal, 11),
    ("jane@[2001:db8::1]", UntaggedIpv6, 6),
    ("jane@[::1]", UntaggedIpv6, 6),
    ("jane@[:x]", LiteralTag, 6),
    ("jane@[tag-:x]", LiteralTag, 9),
    ("jane@[t_g:x]", LiteralTag, 7),
    ("jane@[tag:]", LiteralContent, 10),
    ("jane@[tag:a[b]", LiteralContent, 11),
    ("jane@[tag:a\\b]", LiteralContent, 11),
    ("jane@[tag:a b]", LiteralContent, 11),
    ("jane@[tag:aü]", LiteralContent, 11),
    ("jane@[tag:a\r\nb]", Control, 11),
    // More than a bare address
    (" jane@example.org", SurroundingWhitespace, 0),
    ("jane@example.org ", SurroundingWhitespace, 16),
    ("jane@example.org\r\n", SurroundingWhitespace, 16),
    ("\u{A0}jane@example.org", SurroundingWhitespace, 0),
    ("jane@example.org\u{3000}", SurroundingWhitespace, 16),
    (" ", SurroundingWhitespace, 0),
    ("<jane@example.org>", DisplayName, 0),
    ("Jane Doe <jane@example.org>", DisplayName, 9),
    (r#""Doe, Jane" <jane@example.org>"#, DisplayName, 12),
    ("@relay.example:jane@example.org", SourceRoute, 0),
    ("@a.example,@b.example:jane@example.org", SourceRoute, 0),
    ("@[IPv6:::1]", EmptyLocalPart, 0),
    ("@jane@example.org", EmptyLocalPart, 0),
    ("(work)jane@example.org", Comment, 0),
    ("jane(work)@example.org", Comment, 4),
    (r#""jane"(work)@example.org"#, Comment, 6),
    ("jane@example.org(work)", Comment, 16),
    ("jane@(work)example.org", Comment, 5),
];

#[test]
fn invalid_mailboxes() {
    let describe = |input: &str, kind, at| format!("{}: {kind:?} {at}", input.escape_debug());
    let found = |input| match Mailbox::parse(input) {
        Ok(mailbox) => format!("{} is accepted", mailbox),
        Err(error) => describe(input, error.kind(), error.at()),
    };
    let (found, expected): (Vec<_>, Vec<_>) =
        INVALID.iter().map(|&(input, kind, at)| (found(input), describe(input, kind, at))).unzip();
    let wrong: Vec<_> = found.iter().zip(&expected).filter(|(found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "(found, expected): {wrong:#?}");
}

#[cfg(feature = "verify")]
#[test]
fn a_mailbox_in_its_wire_form_is_lent_and_not_copied() {
    let is_lent =
        |input| matches!(Mailbox::parse_lent(input).unwrap().into_parts().0, std::borrow::Cow::Borrowed(_));
    assert!(is_lent("Jane.Doe@mx-1.example.org"));
    assert!(!is_lent("jane@Example.org"));
    assert!(!is_lent("jane@bücher.example"));
}

/// Checks the longest valid text and one octet more (RFC 5321 4.5.3.1, RFC 1035 2.3.4, RFC 3696 erratum 1690).
#[test]
fn lengths_count_octets_on_the_wire() {
    let fault = |input: String| Mailbox::parse(&input).err().map(|error| (error.kind(), error.at()));

    assert_eq!(fault(repeat("l", 64) + "@b"), None);
    assert_eq!(fault(repeat("l", 65) + "@b"), Some((LocalPartTooLong, 64)));
    assert_eq!(fault(format!("\"{}\"@b", repeat("l", 62))), None);
    assert_eq!(fault(format!("\"{}\"@b", repeat("l", 63))), Some((LocalPartTooLong, 64)));
    assert_eq!(fault(repeat("ü", 32) + "@b"), None);
    assert_eq!(fault(repeat("ü", 33) + "@b"), Some((LocalPartTooLong, 64)));
    assert_eq!(fault(format!("l{}@b", repeat("ü", 32))), Some((LocalPartTooLong, 63)), "inside ü");

    assert_eq!(fault(format!("a@{}.b", repeat("d", 63))), None);
    assert_eq!(fault(format!("a@{}.b", repeat("d", 64))), Some((LabelTooLong, 65)));
    // An A-label of n "ü" has n + 6 octets (checked against another punycode encoder).
    assert_eq!(fault(format!("a@b.{}", repeat("ü", 57))), None);
    assert_eq!(fault(format!("a@b.{}", repeat("ü", 58))), Some((LabelTooLong, 4)));

    assert_eq!(fault(format!("a@{}", domain_of(252))), None);
    assert_eq!(fault(format!("a@{}", domain_of(253))), Some((TooLong, 254)));
    assert_eq!(fault(format!("a@{}", domain_of(254))), Some((DomainTooLong, 255)));
    assert_eq!(fault(format!("{}@{}", repeat("l", 64), domain_of(189))), None);
    assert_eq!(fault(format!("{}@{}", repeat("l", 64), domain_of(190))), Some((TooLong, 254)));
    assert_eq!(fault(format!("a@[x:{}]", repeat("c", 248))), None);
    assert_eq!(fault(format!("a@[x:{}]", repeat("c", 249))), Some((TooLong, 254)));
    assert_eq!(fault(format!("a@[x:{}]", repeat("c", 252))), Some((DomainTooLong, 257)));
    assert!(ClientName::parse(&format!("[x:{}]", repeat("c", 251))).is_ok(), "255 octets");

    // "ü" has 7 octets as an A-label.
    let name = |octets: usize| ClientName::parse(&format!("ü.{}", domain_of(octets - 8)));
    assert_eq!(name(253).map(|name| name.as_str().len()), Ok(253));
    assert_eq!(name(254).map_err(|error| error.kind()), Err(DomainTooLong));

    // It is longer on the wire than as written, and the error names the label that is too much.
    assert_eq!(fault(format!("a@{}b", repeat("ü.", 30))), None);
    assert_eq!(fault(format!("a@{}b", repeat("ü.", 40))), Some((DomainTooLong, 2 + 3 * 31)));
    assert_eq!(fault(format!("a@{}", repeat("ü", 600))), Some((DomainTooLong, 2 + 1012)));
    // It is shorter on the wire than as written.
    assert_eq!(fault(format!("a@b{}.exampl", repeat("\u{AD}", 502))), None);
    assert_eq!(fault(format!("a@b{}.exampl", repeat("\u{AD}", 503))), Some((DomainTooLong, 2 + 1012)));
}

#[test]
fn kinds_of_hosts_are_distinguished() {
    let host = |input| ClientName::parse(input).unwrap();
    assert_eq!(host("EXAMPLE.org").host(), Host::Domain("example.org"));
    assert_eq!(host("[192.0.2.1]").host(), Host::Ipv4([192, 0, 2, 1].into()));
    assert_eq!(host("[ipv6:2001:DB8::1]").host(), Host::Ipv6("2001:db8::1".parse().unwrap()));
    assert_eq!(host("[IPv6:::1.2.3.4]").host(), Host::Ipv6("::1.2.3.4".parse().unwrap()));
    assert_eq!(host("[Tag:a:b]").host(), Host::General { tag: "Tag", content: "a:b" });
    assert_eq!(host("[Tag:2001:db8::1]").host(), Host::General { tag: "Tag", content: "2001:db8::1" });
    assert_eq!(host("[Tag:192.0.2.1]").host(), Host::General { tag: "Tag", content: "192.0.2.1" });
}

#[test]
fn a_client_name_is_a_domain_or_a_literal() {
    assert_eq!(ClientName::from(Domain::parse("Mail.Example").unwrap()).as_str(), "mail.example");
    assert_eq!(ClientName::from("192.0.2.1".parse::<IpAddr>().unwrap()).as_str(), "[192.0.2.1]");
    assert_eq!(ClientName::parse("192.0.2.256]").unwrap_err().kind(), DomainChar);
    assert_eq!(Domain::parse("[192.0.2.1]").unwrap_err().kind(), DomainChar);
    assert_eq!(ClientName::parse("mail.example\n").unwrap_err().kind(), SurroundingWhitespace);
}

#[test]
fn a_domain_keeps_its_limits_by_itself() {
    assert!(Domain::parse(&domain_of(253)).is_ok());
    assert_eq!(Domain::parse(&domain_of(254)).unwrap_err().to_string(), "domain too long at byte 253");
    assert_eq!(Domain::parse("").unwrap_err().kind(), EmptyDomain);
    assert_eq!(Domain::parse("example.org.").unwrap_err().kind(), TrailingDot);
}

#[test]
fn equality_is_that_of_the_wire_form() {
    let parse = |input| Mailbox::parse(input).unwrap();
    assert_eq!(parse("a@EXAMPLE.org"), parse("a@example.ORG"));
    assert_eq!(parse("a@bücher.example"), parse("a@xn--bcher-kva.example"));
    assert_ne!(parse("a@example.org"), parse("A@example.org"));
    assert_ne!(parse("a@example.org"), parse("\"a\"@example.org"));
}

#[test]
fn a_reverse_path_may_be_null() {
    for null in ["", "<>"] {
        assert_eq!(null.parse(), Ok(ReversePath::Null));
    }
    assert_eq!(ReversePath::Null.to_string(), "");
    let path: ReversePath = "пример@example.org".parse().unwrap();
    assert_eq!(path, Mailbox::parse("пример@example.org").unwrap().into());
    assert!(path.needs_smtputf8());
    assert_eq!(path.to_string(), "пример@example.org");
    assert_eq!("<a@b>".parse::<ReversePath>().unwrap_err().kind(), DisplayName);
}

// Strategies: one for each rule of the grammar.

fn local_part() -> impl Strategy<Value = String> {
    let atext = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~\u{A0}-\u{2FF}а-я中-民😀-]";
    let dot_string = format!("({atext}{{1,4}}\\.){{0,3}}{atext}{{1,4}}");
    let quoted_string = r#""([ !#-\[\]-~]|\\[ -~]|[à-ÿ中-民😀]){0,10}""#;
    prop_oneof![
        3 => prop::string::string_regex(&dot_string).unwrap().prop_filter("white space at the edge", |text| text.trim_start() == text),
        1 => quoted_string,
    ]
}

fn host() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?"
        .prop_filter("reserved", |label| !label.to_ascii_lowercase().starts_with("xn--"));
    let u_label = "[äöüßà-öа-я中-民]{1,6}";
    let label = prop_oneof![4 => label, 1 => u_label, 1 => Just("xn--bcher-kva".to_owned())];
    let domain = prop::collection::vec(label, 1..5).prop_map(|labels| labels.join("."));
    let ipv4 = any::<[u8; 4]>().prop_map(|[a, b, c, d]| format!("[{a}.{b:02}.{c:03}.{d}]"));
    let ipv6 = any::<[u16; 8]>().prop_map(|groups| format!("[iPv6:{}]", std::net::Ipv6Addr::from(groups)));
    let zeros = (0usize..7, 2usize..8, any::<u16>()).prop_map(|(before, zeros, group)| {
        let groups: Vec<_> =
            (0..8).map(|n| if n >= before && n < before + zeros { 0 } else { group }).collect();
        let groups: [u16; 8] = groups.try_into().unwrap();
        format!("[IPv6:{}]", std::net::Ipv6Addr::from(groups))
    });
    let mapped = any::<[u8; 4]>().prop_map(|[a, b, c, d]| format!("[IPv6:::ffff:{a}.{b}.{c}.{d:03}]"));
    let general = r"\[x(-[a-z0-9]){0,3}:[!-Z^-~]{1,12}\]";
    prop_oneof![6 => domain, 1 => ipv4, 1 => ipv6, 1 => zeros, 1 => mapped, 1 => general]
}

/// Generates texts near the grammar: valid ones with an insertion, and any text.
fn any_text() -> impl Strategy<Value = String> {
    let special = prop_oneof![
        "[\\x00-\\x20\"\\\\.@<>()\\[\\]:%_-]{1,2}",
        "[\u{80}-\u{A0}\u{AD}\u{200B}-\u{200F}\u{2028}\u{3002}\u{FF0E}\u{FF20}\u{5D0}\u{301}１ａ℀]{1,2}",
        Just("xn--".to_owned()),
        any::<String>(),
    ];
    let broken = (local_part(), host(), special, any::<prop::sample::Index>()).prop_map(
        |(local_part, host, special, place)| {
            let mut text = format!("{local_part}@{host}");
            let place = place.index(text.len() + 1);
            text.insert_str(text.floor_char_boundary(place), &special);
            text
        },
    );
    let ldh = "a@(xn--|XN--)?[a-zA-Z0-9.-]{1,20}(\\.xn--[a-z0-9-]{1,12})?";
    prop_oneof![4 => broken, 2 => ldh, 1 => "\\PC*@\\PC*", 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_form_of_the_grammar_round_trips(local_part in local_part(), host in host()) {
        let text = format!("{local_part}@{host}");
        let mailbox = Mailbox::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(mailbox.local_part(), local_part);
        properties::mailbox_is_sound(&mailbox);
        let client_name = ClientName::parse(&host).unwrap();
        prop_assert_eq!(client_name.as_str(), mailbox.domain());
    }

    #[test]
    fn any_text_is_sound_or_refused_at_a_place_in_it(text in any_text()) {
        properties::address_roundtrip(&text);
    }
}
