use super::*;

#[track_caller]
fn check(line: &str, reply: &str, stage: Option<Stage>) {
    let found = find(line).unwrap();
    let DeliveryResult::Reply(result) = &found.result else { panic!("{line}: {found:?}") };
    assert_eq!((result.to_string().as_str(), found.stage), (reply, stage), "{line}");
}

#[test]
fn replies_are_found_in_logs() {
    check("550 5.1.1 User unknown", "550 5.1.1 User unknown", None);
    check("  smtp; 550 5.1.1 User unknown", "550 5.1.1 User unknown", None);
    check("Diagnostic-Code: SMTP;550-5.1.1 gone, 550 5.1.1 really", "550 5.1.1 gone, 550 5.1.1 really", None);
    check(
        "Oct 12 10:11:12 mx postfix/smtp[250]: 4F2A: to=<a@b.test>, relay=mx.b.test[192.0.2.1]:25, delay=250, \
         dsn=5.1.1, status=bounced (host mx.b.test[192.0.2.1] said: 550 5.1.1 No such user (in reply to RCPT TO command))",
        "550 5.1.1 No such user",
        Some(Stage::Rcpt),
    );
    check("host mx[192.0.2.1] refused to talk to me: 554 Blocked", "554 Blocked", Some(Stage::Banner));
    check(
        "SMTP error from remote mail server after RCPT TO:<a@b.test>: host mx [192.0.2.1]: 550 unknown user",
        "550 unknown user",
        Some(Stage::Rcpt),
    );
    check("2024-05-01T10:11:12Z 451 4.7.1 Greylisted", "451 4.7.1 Greylisted", None);
    check("2024-05-01 10:11:12 421 Try later", "421 Try later", None);
    check("<<< 552 full", "552 full", None);
    check("bounced with 5.2.2 Mailbox full", "550 5.2.2 Mailbox full", None);
    check("status=sent (250 2.0.0 Ok: queued)", "250 2.0.0 Ok: queued", None);
}

#[test]
fn replies_of_several_lines() {
    check(r"550-5.1.1 No such\r\n550 5.1.1 user", "550 5.1.1 No such user", None);
    check("550-5.1.1 No such\n550 5.1.1 user\n", "550 5.1.1 No such user", None);
    check("550-5.1.1 cut off here", "550 5.1.1 cut off here", None);
    check("550 5.1.1 folded\n by a log", "550 5.1.1 folded  by a log", None);
    check(&format!("550 {}", "x".repeat(5_000)), &format!("550 {}", "x".repeat(MAX_LINE - 6)), None);
}

#[test]
fn no_reply_is_an_error() {
    for line in ["no reply at all", "2024-05-01", "192.0.2.1", "line 5501", "666 devil", ""] {
        assert!(find(line).is_err(), "{line}: {:?}", find(line));
    }
}

#[test]
fn replies_of_each_server_are_found_in_its_log() {
    // The remark of a quoted reply stays.
    check(
        "status=bounced (host mx[192.0.2.1] said: 550 5.1.1 <a@b.test>: undeliverable address: host in[192.0.2.2] \
         said: 554 No (in reply to MAIL FROM command) (in reply to RCPT TO command))",
        "550 5.1.1 <a@b.test>: undeliverable address: host in[192.0.2.2] said: 554 No (in reply to MAIL FROM command)",
        Some(Stage::Rcpt),
    );
    check(
        "dsn=4.7.0, status=deferred (host mx[192.0.2.1] refused to talk to me: 421 4.7.0 Too many connections)",
        "421 4.7.0 Too many connections",
        Some(Stage::Banner),
    );
    check("dsn=5.1.1, status=bounced (unknown user: \"nobody\")", "550 5.1.1 unknown user: \"nobody\"", None);
    check(
        "postfix/smtpd[7]: NOQUEUE: reject: RCPT from mx.a.test[192.0.2.1]: 550 5.1.1 <b@c.test>: Recipient address \
         rejected: User unknown in local recipient table; from=<> to=<b@c.test> proto=ESMTP helo=<mx.a.test>",
        "550 5.1.1 <b@c.test>: Recipient address rejected: User unknown in local recipient table",
        Some(Stage::Rcpt),
    );
    check(
        "2024-05-01 10:11:12 1abc ** a@b.test R=dnslookup T=remote_smtp H=mx.b.test [192.0.2.1]: SMTP error from \
         remote mail server after pipelined MAIL FROM:<> SIZE=1: 554 5.7.1 No bounces",
        "554 5.7.1 No bounces",
        Some(Stage::Mail),
    );
    check(
        "2024-05-01 10:11:12 H=(x) [192.0.2.1] F=<> rejected RCPT <a@b.test>: Unknown user",
        "550 Unknown user",
        Some(Stage::Rcpt),
    );
    check(
        "H=(x) [192.0.2.1] F=<> temporarily rejected RCPT <a@b.test>: greylisted",
        "450 greylisted",
        Some(Stage::Rcpt),
    );
    check(
        "sendmail[7]: to=<a@b.test>, mailer=esmtp, relay=mx.b.test. [192.0.2.1], dsn=5.1.1, stat=User unknown",
        "550 5.1.1 User unknown",
        None,
    );
    check("dsn=4.0.0, stat=Deferred: 451 4.7.1 Greylisted", "451 4.7.1 Greylisted", None);
    check("dsn=2.0.0, stat=Sent (Ok: queued)", "250 2.0.0 Sent (Ok: queued)", None);
    check(
        "ruleset=check_rcpt, arg1=<a@b.test>, relay=[192.0.2.1], reject=550 5.7.1 <a@b.test>... Relaying denied",
        "550 5.7.1 <a@b.test>... Relaying denied",
        Some(Stage::Rcpt),
    );
}

#[test]
fn a_log_tells_why_there_is_no_reply() {
    use smtp_pool::verify::SubStatus as S;
    for (line, sub_status) in [
        (
            "to=<a@b.test>, relay=none, delay=30, dsn=4.4.1, status=deferred (connect to mx.b.test[192.0.2.1]:25: \
             Connection timed out)",
            S::TimeoutExceeded,
        ),
        (
            "dsn=4.4.1, status=deferred (connect to mx[203.0.113.5]:25: Connection refused)",
            S::FailedSmtpConnection,
        ),
        (
            "dsn=4.4.1, status=deferred (connect to mx[192.0.2.1]:25: No route to host)",
            S::FailedSmtpConnection,
        ),
        (
            "dsn=4.4.2, status=deferred (conversation with mx[192.0.2.1] timed out while sending RCPT TO)",
            S::TimeoutExceeded,
        ),
        (
            "dsn=4.4.2, status=deferred (lost connection with mx[192.0.2.1] while sending DATA)",
            S::FailedSmtpConnection,
        ),
        (
            "dsn=4.4.3, status=deferred (Host or domain name not found. Name service error for name=mx type=A: Host \
             not found, try again)",
            S::MailServerTemporaryError,
        ),
        ("dsn=5.4.6, status=bounced (mail for b.test loops back to myself)", S::Other),
        ("dsn=4.7.5, status=deferred (Cannot start TLS: handshake failure)", S::TlsFailed),
        ("== a@b.test R=dnslookup T=remote_smtp defer (110): Connection timed out", S::TimeoutExceeded),
        ("== a@b.test R=dnslookup T=remote_smtp defer (111): Connection refused", S::FailedSmtpConnection),
        ("** a@b.test: all hosts for 'b.test' have been failing for a long time", S::FailedSmtpConnection),
        ("dsn=4.0.0, stat=Deferred: Connection timed out with mx.b.test.", S::TimeoutExceeded),
        ("dsn=5.1.2, stat=Host unknown (Name server: b.test: host not found)", S::MailServerTemporaryError),
    ] {
        match find(line).unwrap().result {
            DeliveryResult::NoReply(reason) => assert_eq!(reason.sub_status, sub_status, "{line}"),
            result => panic!("{line}: {result:?}"),
        }
    }
}
