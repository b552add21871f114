//! DATA, BDAT and LMTP.

use super::*;

const ENVELOPE: [(&str, &str); 3] =
    [("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250"), ("RCPT TO:<bob@good.test>", "250")];

#[tokio::test]
async fn data_ends_at_the_dot_and_nowhere_else() {
    let sandbox = start(host()).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.script(&[("DATA", "354 ")]).await;
    // A stuffed dot, a dot between bare line feeds, and the terminator in two pieces, with a group after it.
    client.send("..\r\nQUIT\r\n\n.\nx\r\n.").await;
    assert!(client.is_silent().await);
    client.send("\r\nMAIL FROM:<>\r\nRCPT TO:<ann@good.test>\r\n").await;
    assert_eq!(client.reply().await, "250 2.0.0 Ok: queued as 0000000001");
    assert_eq!((client.reply().await, client.reply().await), ("250 2.1.0 Ok".into(), "250 2.1.5 Ok".into()));
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.messages, stats.message_octets), (1, ".\r\nQUIT\r\n\n.\nx\r\n".len() as u64));
}

#[tokio::test]
async fn bdat_consumes_its_octets_even_if_refused() {
    let sandbox = start(HostConfig { size_limit: 20, ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("BDAT 6\r\nQUIT\r\nNOOP\r\n").await;
    assert_eq!(client.reply().await, "503 5.5.1 Error: need MAIL command");
    assert_eq!(client.reply().await, "250 2.0.0 Ok");
    client.script(&ENVELOPE).await;
    client.send("BDAT 6\r\n\r\n.\r\nxBDAT 4\r\nabcd").await;
    assert_eq!(client.reply().await, "250 2.0.0 Ok: 6 bytes");
    assert_eq!(client.reply().await, "250 2.0.0 Ok: 4 bytes");
    client.script(&[("DATA", "503 5.5.1"), ("RCPT TO:<cyd@good.test>", "503 5.5.1")]).await;
    client.script(&[("BDAT 0 LAST", "250 2.0.0 Ok: queued as")]).await;
    client.script(&ENVELOPE).await;
    client.script(&[("BDAT 19 LAST\r\n12345678901234567", "250 2.0.0 Ok: queued as")]).await;
    client.script(&ENVELOPE).await;
    client.script(&[("BDAT 21 LAST\r\n1234567890123456789", "552 5.3.4"), ("BDAT x", "501 5.5.4")]).await;
    assert_eq!(sandbox.stats(NAME).unwrap().message_octets, 29);
}

#[tokio::test]
async fn data_over_the_size_limit() {
    let sandbox = start(HostConfig { size_limit: 10, ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client
        .script(&[("DATA", "354 "), ("more than ten octets\r\n.", "552 5.3.4"), ("MAIL FROM:<>", "250")])
        .await;
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let sandbox = start(HostConfig { lmtp: true, ..host() }).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    client.script(&[("EHLO client.test", "502"), ("LHLO client.test", "250-mx.good.test")]).await;
    client.script(&ENVELOPE).await;
    client.script(&[("DATA", "354 "), ("hello\r\n.", "250 2.0.0 Ok: queued")]).await;
    assert!(client.reply().await.starts_with("250 2.0.0 Ok: queued"));
    assert_eq!(client.ask("NOOP").await, "250 2.0.0 Ok");
}
