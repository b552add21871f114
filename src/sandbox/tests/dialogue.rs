//! The dialogue of a host without faults.

use super::*;

#[tokio::test]
async fn ehlo_lists_the_extensions_of_the_host() {
    let sandbox = start(host()).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    assert_eq!(
        client.ask("EHLO client.test").await.replace('\n', " "),
        "250-mx.good.test 250-PIPELINING 250-SIZE 10240000 250-STARTTLS 250-ENHANCEDSTATUSCODES \
         250-8BITMIME 250-DSN 250-SMTPUTF8 250 CHUNKING"
    );
    assert_eq!(client.ask("HELO client.test").await, "250 mx.good.test");
}

#[tokio::test]
async fn each_kind_of_mailbox_has_its_reply() {
    let sandbox = start(host()).await;
    Client::greeted(&sandbox)
        .await
        .script(&[
            ("MAIL FROM:<me@client.test> SIZE=1000 BODY=8BITMIME", "250 2.1.0 Ok"),
            ("RCPT TO:<ann@good.test>", "250 2.1.5 Ok"),
            ("rcpt to: <@relay.test:BOB@Good.Test> NOTIFY=NEVER", "250 2.1.5 Ok"),
            ("RCPT TO:<\"ann\"@good.test>", "250 2.1.5 Ok"),
            ("RCPT TO:<postmaster@good.test>", "250 2.1.5 Ok"),
            (
                "RCPT TO:<nobody@good.test>",
                "550 5.1.1 <nobody@good.test>: Recipient address rejected: User unknown in virtual mailbox table",
            ),
            ("RCPT TO:<full@good.test>", "452 4.2.2 <full@good.test>: Recipient address rejected: Quota"),
            ("RCPT TO:<disabled@good.test>", "550 5.2.1 <disabled@good.test>: "),
            ("RCPT TO:<ann@elsewhere.test>", "554 5.7.1 <ann@elsewhere.test>: Relay access denied"),
            ("QUIT", "221 2.0.0 Bye"),
        ])
        .await;
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.rcpts, stats.accepted, stats.errors, stats.transactions), (8, 4, 4, 1));
}

#[tokio::test]
async fn a_group_is_answered_in_order() {
    let sandbox = start(host()).await;
    let mut client = Client::greeted(&sandbox).await;
    client
        .group(&[
            ("MAIL FROM:<>", "250 2.1.0"),
            ("RCPT TO:<ann@good.test>", "250 2.1.5"),
            ("RCPT TO:<nobody@good.test>", "550 5.1.1"),
            ("RCPT TO:<full@good.test>", "452 4.2.2"),
            ("RSET", "250 2.0.0"),
            ("MAIL FROM:<>", "250 2.1.0"),
            ("QUIT", "221 2.0.0"),
        ])
        .await;
    client.expect_end().await;
    assert_eq!(sandbox.stats(NAME).unwrap().improper_pipelining, 0);
}

#[tokio::test]
async fn a_line_may_come_in_pieces() {
    let sandbox = start(host()).await;
    let mut client = Client::greeted(&sandbox).await;
    for piece in ["NO", "OP", "\r", "\nMAIL FR", "OM:<>\n"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!((client.reply().await, client.reply().await), ("250 2.0.0 Ok".into(), "250 2.1.0 Ok".into()));
}

#[tokio::test]
async fn errors_of_sequence_and_syntax() {
    let sandbox = start(host()).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    client
        .script(&[
            ("MAIL FROM:<>", "503 5.5.1"),
            ("EHLO", "501 5.5.4"),
            ("EHLO not_a_name", "501 5.5.4"),
            ("EHLO client.test", "250-mx.good.test"),
            ("RCPT TO:<ann@good.test>", "503 5.5.1 Error: need MAIL command"),
            ("DATA", "503 5.5.1"),
            ("FEED ME", "500 5.5.2"),
            ("", "500 5.5.2"),
            ("MAIL me@client.test", "501 5.5.4"),
            ("MAIL FROM:<a@@b>", "553 5.1.7"),
            ("MAIL FROM:<> AUTH=<>", "555 5.5.4"),
            ("MAIL FROM:<> SIZE=99999999999", "552 5.3.4"),
            ("MAIL FROM:<> BODY=BINARYMIME", "555 5.5.4"),
            ("MAIL FROM:<>", "250 2.1.0"),
            ("MAIL FROM:<>", "503 5.5.1 Error: nested MAIL command"),
            ("RCPT TO:<a b@good.test>", "553 5.1.3"),
            ("RCPT TO:<ann@good.test> COLOUR=RED", "555 5.5.4"),
            ("RCPT TO:<nobody@good.test>", "550 5.1.1"),
            ("DATA", "554 5.5.1 Error: no valid recipients"),
            ("AUTH PLAIN", "502 5.5.1"),
            ("LHLO client.test", "502 5.5.2"),
            ("VRFY ann", "252 2.0.0"),
            ("NOOP really", "250 2.0.0"),
            ("RSET", "250 2.0.0"),
        ])
        .await;
}

#[tokio::test]
async fn hostile_lines_are_errors_only() {
    let sandbox = start(host()).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send([vec![b'x'; 1_000_000], b"\r\n".to_vec()].concat()).await;
    assert_eq!(client.reply().await, "500 5.5.2 Error: line too long");
    client.send(b"RCPT TO:<\xff\xfe\0@good.test>\r\n").await;
    assert!(client.reply().await.starts_with("501 "));
    client.send(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n").await;
    assert!(client.reply().await.starts_with('5'));
    assert_eq!(client.ask("NOOP").await, "250 2.0.0 Ok");
}

#[tokio::test]
async fn utf8_needs_the_parameter() {
    let sandbox = start(host()).await;
    Client::greeted(&sandbox)
        .await
        .script(&[
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<δοκιμή@good.test>", "553 5.6.7"),
            ("RSET", "250"),
            ("MAIL FROM:<δ@client.test>", "553 5.6.7"),
            ("MAIL FROM:<δ@client.test> SMTPUTF8", "250"),
            ("RCPT TO:<δοκιμή@good.test>", "250 2.1.5"),
        ])
        .await;
}

#[tokio::test]
async fn without_extensions() {
    use Extension as E;
    let without = vec![
        E::Pipelining,
        E::Size,
        E::StartTls,
        E::EnhancedStatusCodes,
        E::EightBitMime,
        E::Dsn,
        E::SmtpUtf8,
        E::Chunking,
    ];
    let sandbox = start(HostConfig { without, ..host() }).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    assert_eq!(client.ask("EHLO client.test").await, "250 mx.good.test");
    client
        .script(&[
            ("STARTTLS", "502 Error"),
            ("MAIL FROM:<> SIZE=1", "555 Unsupported"),
            ("MAIL FROM:<> SMTPUTF8", "555 Unsupported"),
            ("MAIL FROM:<> RET=HDRS", "555 Unsupported"),
        ])
        .await;
    client.group(&[("MAIL FROM:<>", "250 Ok"), ("RCPT TO:<ann@good.test>", "250 Ok")]).await;
    assert_eq!(sandbox.stats(NAME).unwrap().improper_pipelining, 1);
}

#[tokio::test]
async fn helo_only() {
    let sandbox = start(HostConfig { helo_only: true, ..host() }).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    client
        .script(&[
            ("EHLO client.test", "502 Error: command not recognized"),
            ("HELO client.test", "250 mx.good.test"),
            ("MAIL FROM:<>", "250 Ok"),
            ("RCPT TO:<nobody@good.test>", "550 <nobody@good.test>"),
        ])
        .await;
}

#[tokio::test]
async fn starttls_resets_the_state_and_drops_earlier_octets() {
    let sandbox = start(HostConfig { require_tls: true, ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("MAIL FROM:<>", "530 5.7.0")]).await;
    // An injection: the NOOP must not be answered inside TLS.
    client.send("STARTTLS\r\nNOOP\r\n").await;
    assert_eq!(client.reply().await, "220 2.0.0 Ready to start TLS");
    let mut client = client.secure(&sandbox).await.unwrap();
    client.script(&[("MAIL FROM:<>", "503 5.5.1")]).await;
    assert!(!client.ask("EHLO client.test").await.contains("STARTTLS"));
    client.script(&[("STARTTLS", "554 5.5.1"), ("MAIL FROM:<>", "250"), ("QUIT", "221")]).await;
    client.expect_end().await;
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.handshakes, stats.improper_pipelining), (1, 1));
}

#[tokio::test]
async fn implicit_tls() {
    let sandbox = start(HostConfig { implicit_tls: true, ..host() }).await;
    let mut client = Client::connect(&sandbox).await.secure(&sandbox).await.unwrap();
    assert!(client.reply().await.starts_with("220 "));
    assert!(!client.ask("EHLO client.test").await.contains("STARTTLS"));
}

#[tokio::test]
async fn auth_plain_and_login() {
    let accounts = [("tim".to_owned(), "tanstaaftanstaaf".to_owned())].into();
    let sandbox = start(HostConfig { accounts, ..host() }).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    assert!(client.ask("EHLO client.test").await.contains("AUTH PLAIN LOGIN"));
    client
        .script(&[
            ("AUTH CRAM-MD5", "504 5.5.4"),
            ("AUTH PLAIN", "334"),
            ("*", "501 5.7.0"),
            ("AUTH PLAIN AHRpbQB3cm9uZw==", "535 5.7.8"),
            ("AUTH PLAIN", "334"),
            ("not base64", "501 5.5.2"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("dGlt", "334 UGFzc3dvcmQ6"),
            ("dGFuc3RhYWZ0YW5zdGFhZg==", "235 2.7.0"),
            ("AUTH LOGIN", "503 5.5.1"),
        ])
        .await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "235 2.7.0")]).await;
}
