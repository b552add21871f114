use super::*;
use crate::verify::Blame;

mod words;

/// One line of `cases.txt` or `judged.txt`.
struct Case<'a> {
    stage: Stage,
    reply: &'a str,
    expected: &'a str,
}

fn cases() -> impl Iterator<Item = Case<'static>> {
    let files = [include_str!("cases.txt"), include_str!("tests/judged.txt")];
    let lines = files.into_iter().flat_map(str::lines).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| {
        let (stage, rest) = line.split_once(" | ").unwrap();
        let (reply, expected) = rest.rsplit_once(" | ").unwrap();
        Case { stage: stage.parse().unwrap(), reply, expected }
    })
}

fn code(word: &str) -> Option<EnhancedCode> {
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none();
    let code = EnhancedCode {
        class: class.parse().ok()?,
        subject: subject.parse().ok()?,
        detail: detail.parse().ok()?,
    };
    whole.then_some(code)
}

/// Classifies a raw line: code, perhaps an enhanced code, text.
fn said(stage: Stage, reply: &str) -> Explanation<'static> {
    let reply = reply.replace(r"\r\n", " ");
    let (digits, text) = reply.split_at(3);
    let text = text.trim_start_matches(['-', ' ']);
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (enhanced, text) = match code(first) {
        Some(enhanced) => (Some(enhanced), rest),
        None => (None, text),
    };
    Classifier::builtin().classify(stage, digits.parse().unwrap(), enhanced, text)
}

/// Returns the name as in records.
fn name(sub_status: SubStatus) -> String {
    serde_json::to_value(sub_status).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn replies_have_their_documented_meaning() {
    let mut wrong = Vec::new();
    for Case { stage, reply, expected } in cases() {
        let Explanation { verdict, rule, .. } = said(stage, reply);
        let found = name(verdict.sub_status);
        let unknown = verdict.status() == Status::Unknown;
        if !expected.split('/').any(|e| e == found || (e == "unknown" && unknown)) {
            wrong.push(format!("{stage} {reply}\n    expected {expected}, found {found} by {rule}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases().count(), wrong.join("\n"));
}

#[test]
fn words_for_a_mailbox_may_be_about_another_subject() {
    let replies = include_str!("tests/not_about_the_mailbox.txt").lines();
    let replies = replies.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let wrong: Vec<_> = replies
        .map(|reply| (reply, said(Stage::Rcpt, reply)))
        .filter(|(_, found)| found.verdict.status() == Status::Undeliverable)
        .map(|(reply, found)| format!("{reply}: {}", found.rule))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Refusals of the client, and texts for a missing mailbox.
const CLIENT_REFUSALS: &[&str] = &[
    "Client host rejected",
    "blocked using zen.spamhaus.org",
    "your IP 192.0.2.9 is blacklisted",
    "see https://www.spamhaus.org/query/ip/192.0.2.9",
    "cannot find your reverse hostname",
    "poor reputation",
    "listed at bl.spamcop.net",
    "Sender address rejected: Domain not found",
    "greylisted, come back later",
    "too many connections from your network",
    "rate limit exceeded",
    "your host is banned",
    "SPF check failed",
    "too many requests",
    "Access denied",
    "too many unknown recipients",
    "rejected for policy reasons",
    "detected as spam",
    "your address is not allowed here",
    "it was blocked",
    "encryption is required",
    "attack detected",
    "your server requires confirmation",
    "Ваш сервер в черном списке",
    "您的IP被拒绝",
    "Uw server staat op een zwarte lijst",
];
const MAILBOX_MISSING: &[&str] = &[
    "User unknown",
    "no such user",
    "mailbox unavailable",
    "mailbox not found",
    "Recipient address rejected",
    "account disabled",
    "this user does not exist",
    "Empfaenger unbekannt",
    "domain does not accept mail",
    "invalid recipient",
    "mailbox is closed",
    "adresse inconnue",
    "is suspended",
    "could not be found",
    "usuario desconocido",
    "пользователь не найден",
    "用户不存在",
];

#[test]
fn a_refusal_of_the_client_outranks_words_for_a_mailbox() {
    let code = |subject, detail| Some(EnhancedCode { class: 5, subject, detail });
    let mut wrong = Vec::new();
    for (us, them) in CLIENT_REFUSALS.iter().flat_map(|us| MAILBOX_MISSING.iter().map(move |them| (us, them)))
    {
        for text in [format!("<ann@example.org>: {us}; {them}"), format!("{them} <ann@example.org>, {us}")] {
            for enhanced in [None, code(1, 1), code(2, 1), code(7, 1)] {
                for stage in [Stage::Rcpt, Stage::Data, Stage::Unknown] {
                    let Explanation { verdict, rule, .. } =
                        Classifier::builtin().classify(stage, 550, enhanced, &text);
                    if verdict.status() != Status::Unknown {
                        wrong.push(format!("{stage} {text}: {rule}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

mod properties {
    use proptest::prelude::*;

    use super::super::properties;
    use super::*;
    use crate::verify::Providers;

    fn text() -> impl Strategy<Value = String> {
        let phrase =
            prop::sample::select([CLIENT_REFUSALS, MAILBOX_MISSING].concat()).prop_map(str::to_owned);
        prop::collection::vec(prop_oneof![phrase, ".{0,20}", "<[a-z ]{0,9}@?[a-z.]{0,9}>?"], 0..6)
            .prop_map(|parts| parts.join(" "))
    }

    fn enhanced() -> impl Strategy<Value = Option<EnhancedCode>> {
        let code = (2..6u8, 0..8u16, 0..20u16);
        prop::option::of(code.prop_map(|(class, subject, detail)| EnhancedCode { class, subject, detail }))
    }

    /// A line of a file of rules or providers.
    fn line() -> impl Strategy<Value = &'static str> {
        let all = [Classifier::BUILTIN_RULES, Providers::BUILTIN].map(|file| file.lines());
        let all: Vec<_> = all.into_iter().flatten().filter(|line| !line.starts_with('#')).collect();
        let heads = prop::sample::select(vec!["[[rule]]", "[[provider]]", "id = \"x\"", "name = \"X\""]);
        prop_oneof![1 => heads, 3 => prop::sample::select(all)]
    }

    proptest! {
        #[test]
        fn every_reply_gets_a_consistent_verdict(
            stage: u8, code in 0..700u16, enhanced in enhanced(), text in text(),
        ) {
            properties::classify(stage, code, enhanced, &text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_file_is_valid_or_refused_with_its_line(
            lines in prop::collection::vec(line(), 0..12), garbage in "[^a]{0,6}",
        ) {
            properties::data_files(&(lines.join("\n") + &garbage));
        }
    }

    #[test]
    fn the_built_in_files_keep_the_guarantees() {
        properties::data_files(Classifier::BUILTIN_RULES);
        properties::data_files(Providers::BUILTIN);
    }

    proptest! {
        #[test]
        fn an_address_proves_nothing(local in "[a-z]{1,9}(-[a-z]{1,9}){0,3}", word in prop::sample::select(vec![
            "user-unknown", "mailbox-full", "greylisted", "blacklisted", "spamhaus.org", "no-such-user",
        ])) {
            let plain = Classifier::builtin().classify(Stage::Rcpt, 550, None, "<a@example.com>: sorry");
            for address in [format!("<{word}@{local}.example>"), format!("{local}@{word}.example"), format!("<{word}>")] {
                let text = format!("{address}: sorry");
                let said = Classifier::builtin().classify(Stage::Rcpt, 550, None, &text);
                prop_assert_eq!(said, plain, "{}", text);
            }
        }
    }
}

#[test]
fn the_code_alone_decides_a_success() {
    let verdict =
        |stage, code| Classifier::builtin().classify(stage, code, None, "User unknown").verdict.sub_status;
    assert_eq!(verdict(Stage::Rcpt, 250), SubStatus::Accepted);
    assert_eq!(verdict(Stage::Rcpt, 251), SubStatus::Accepted);
    assert_eq!(verdict(Stage::Rcpt, 252), SubStatus::Other);
    assert_eq!(verdict(Stage::Rcpt, 221), SubStatus::ProtocolError);
    assert_eq!(verdict(Stage::Mail, 250), SubStatus::Other);
    assert_eq!(verdict(Stage::Data, 354), SubStatus::Other);
    assert_eq!(verdict(Stage::Rcpt, 0), SubStatus::ProtocolError);
}

#[test]
fn retry_names_connection_and_time() {
    let retry = |stage, reply| said(stage, reply).verdict.retry;
    assert_eq!(retry(Stage::Rcpt, "452 4.5.3 Too many recipients"), Some(Retry::NextTransaction));
    assert_eq!(retry(Stage::Rcpt, "421 4.5.3 Too many recipients"), Some(Retry::NextConnection));
    assert_eq!(retry(Stage::Rcpt, "421 4.3.2 shutting down"), Some(Retry::NextConnection));
    assert_eq!(retry(Stage::Banner, "421 4.3.2 shutting down"), Some(Retry::Later));
    assert_eq!(retry(Stage::Rcpt, "450 4.2.0 Greylisted"), Some(Retry::Later));
    assert_eq!(retry(Stage::Rcpt, "450 too many messages per session"), Some(Retry::NextConnection));
    assert_eq!(retry(Stage::Rcpt, "550 5.1.1 User unknown"), None);
    assert_eq!(retry(Stage::Rcpt, "554 5.7.1 Client host rejected"), None);
}

#[test]
fn limits_of_mailbox_client_and_transaction_differ() {
    let blame = |reply| said(Stage::Rcpt, reply).verdict.blame;
    assert_eq!(blame("450 4.2.1 The user is receiving mail too quickly"), Some(Blame::Recipient));
    assert_eq!(blame("450 4.7.1 too many messages from your IP"), Some(Blame::Us));
    assert_eq!(blame("452 4.5.3 Too many recipients"), Some(Blame::Server));
}

#[test]
fn stages_have_one_name_each() {
    for (i, (stage, name)) in Stage::ALL.into_iter().enumerate() {
        assert_eq!((stage as usize, stage.to_string().as_str()), (i, name));
        assert_eq!(name.parse(), Ok(stage));
        assert_eq!(serde_json::to_value(stage).unwrap(), name);
    }
}

mod tables {
    use super::*;

    fn error_of(rule: &str) -> String {
        Classifier::from_toml(rule).unwrap_err().to_string()
    }

    fn classify(rule: &str, text: &str) -> SubStatus {
        let classifier = Classifier::from_toml(rule).unwrap();
        classifier.classify(Stage::Rcpt, 550, None, text).verdict.sub_status
    }

    #[test]
    fn the_builtin_table_compiles() {
        Classifier::from_toml(Classifier::BUILTIN_RULES).unwrap();
    }

    #[test]
    fn errors_name_the_key() {
        let rule = |rest: &str| format!("[[rule]]\nid = 'x'\nverdict = 'mailbox_not_found'\n{rest}");
        let faults = [
            ("", "the table has no rule"),
            ("[[rule]]\nid = 'x'", "verdict"),
            ("[[rule]]\nid = 'x'\nverdict = 'gone'", "line 3"),
            ("[[rule]]\nid = 'x'\nverdict = 'catch_all'\ncodes = ['5xx']", "key `verdict`"),
            ("[[rule]]\nid = 'x'\nverdict = 'blocked'\nblame = 'recipient'\ncodes = ['5xx']", "key `blame`"),
            (&rule("cods = ['550']"), "cods"),
            (&rule(""), "key `any`"),
            (&rule("codes = ['6xx']"), "rule `x`, key `codes`: `6xx`"),
            (&rule("codes = ['55']"), "key `codes`"),
            (&rule("codes = ['450']"), "temporary"),
            (&rule("enhanced = ['5.1']"), "key `enhanced`"),
            (&rule("enhanced = ['none', '5.1.1']"), "key `enhanced`"),
            (&rule("stages = ['mail']"), "key `stages`"),
            (&rule("stages = ['vrfy']"), "vrfy"),
            (&rule("any = ['<a@b>']"), "key `any`"),
            (&rule("any = ['a*b']"), "key `any`"),
            (&rule("with = ['a']\nall = ['b']"), "key `with`"),
            (&[rule("any = ['a']"), rule("any = ['b']")].join("\n"), "key `id`"),
        ];
        for (table, expected) in faults {
            let found = error_of(table);
            assert!(found.contains(expected), "{table}\n{found}\nlacks {expected}");
        }
    }

    #[test]
    fn phrases_are_whole_words() {
        let rule =
            "[[rule]]\nid = 'x'\nverdict = 'mailbox_not_found'\nany = ['gone', 'left*', 'bye.example']";
        let hit = SubStatus::MailboxNotFound;
        for text in
            ["gone", "is GONE!", "(gone)", "left", "leftover", "http://www.bye.example/x", "ann@b.c gone"]
        {
            assert_eq!(classify(rule, text), hit, "{text}");
        }
        for text in ["bygone", "goner", "gone.example.com", "http://x.example/gone", "<gone@b.c>", "by-gone"]
        {
            assert_eq!(classify(rule, text), SubStatus::Other, "{text}");
        }
    }

    #[test]
    fn conditions_are_all_needed() {
        let rule = "[[rule]]\nid = 'x'\nverdict = 'mailbox_not_found'\nall = ['a']\nany = ['b', 'c']\nwith = ['d']\nnone = ['e']";
        assert_eq!(classify(rule, "a b d"), SubStatus::MailboxNotFound);
        for text in ["b d", "a d", "a b", "a b d e"] {
            assert_eq!(classify(rule, text), SubStatus::Other, "{text}");
        }
    }
}

mod plain_words {
    use super::text::plain;
    use super::*;

    #[test]
    fn addresses_and_urls_are_removed() {
        for (text, expected) in [
            ("<ann@example.org>: User  unknown", "user unknown"),
            ("<\"user unknown\"@example.org> no", "no"),
            ("<mx.example.org[192.0.2.1]>: rejected", "rejected"),
            ("mail for ann@example.org, sorry", "mail for sorry"),
            ("blocked 192.0.2.1.", "blocked {ip}"),
            ("blocked [2001:db8::1]", "blocked {ip}"),
            ("blocked IP=192.0.2.1, ip:192.0.2.2:25", "blocked ip {ip} ip {ip} 25"),
            ("Boîte pleine, Empfänger ÜBERFÜLLT", "boite pleine empfaenger ueberfuellt"),
            ("<>: no, <ann@example.org> 550-no", "{null} no no"),
            ("Gửi đến người dùng, příjemce, ПОЛЬЗОВАТЕЛЬ", "gui den nguoi dung prijemce пользователь"),
            ("see http://a.example/user-unknown?x=1", "see http___a.example_user-unknown_x_1"),
            ("<is not an address", "is not an address"),
            ("", ""),
        ] {
            assert_eq!(plain(text).words, expected);
        }
    }

    #[test]
    fn enhanced_codes_are_found_in_the_text() {
        let found = |text| plain(text).code.map(|c: EnhancedCode| c.to_string());
        for text in ["#5.1.0 no", "no (#5.1.0)", "no - 5.1.0 [BL1]", "no: 5.1.0 not", "5.1.0"] {
            assert_eq!(found(text).as_deref(), Some("5.1.0"), "{text}");
        }
        for text in ["192.0.2.1", "5.1", "5.1.0.2", "v5.1.0x", "9.1.1"] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_quoted_code_of_another_class_does_not_count() {
        let said = Classifier::builtin().classify(Stage::Rcpt, 550, None, "host x said: 450 4.1.1 hm");
        assert_eq!(said.verdict.status(), Status::Unknown);
    }
}

#[test]
fn each_verdict_has_a_subject() {
    let about = |stage, reply| {
        let verdict = said(stage, reply).verdict;
        (verdict.subject, verdict.retry)
    };
    let null = "550 That mailbox does not accept bounces";
    assert_eq!(about(Stage::Rcpt, null).0, Some(Subject::Sender));
    let full = about(Stage::Rcpt, "550 A bounce goes to one person: multi-recipient bounce refused");
    assert_eq!(full, (Some(Subject::Transaction), Some(Retry::NextTransaction)));
    for one in [
        "550 Bounce mail may have exactly one RCPT",
        "554 5.5.0 Mails from <> are limited to a single address",
        "550 You may not send a DSN to multiple people",
        "452 Empty sender: RCPT limit is 1",
        "550 Delivery reports go to one recipient at a time",
        "550 5.7.1 Error messages must have only one envelope recipient",
        "550 Leerer Absender: nur ein Empfänger erlaubt",
        "550 Les bounces n'ont qu'un seul destinataire",
        "550 退信只能有一个收件人",
    ] {
        let found = said(Stage::Rcpt, one).verdict;
        assert_eq!((found.sub_status, found.blame), (SubStatus::RateLimited, Some(Blame::Server)), "{one}");
        assert_eq!((found.subject, found.retry), full, "{one}");
    }
    let ipv6 = "550 5.2.1 [example.org] does not accept email over IPv6";
    assert_eq!(about(Stage::Rcpt, ipv6).1, Some(Retry::OverIpv4));
    assert_eq!(about(Stage::Rcpt, "550 5.1.1 User unknown").0, Some(Subject::Recipient));
}
