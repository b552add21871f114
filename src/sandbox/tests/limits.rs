//! The limits of hosts, and what happens beyond them.

use super::*;

#[tokio::test]
async fn errors_slow_the_client_down_and_then_end_it() {
    let limits = ErrorLimits { soft: 2, hard: 4, delay: ms(150), junk: 100 };
    let sandbox = start(HostConfig { errors: Some(limits), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    let start = Instant::now();
    client
        .group(&[
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<x1@good.test>", "550"),
            ("RCPT TO:<x2@good.test>", "550"),
        ])
        .await;
    assert!(start.elapsed() < Duration::from_millis(150));
    client
        .group(&[
            ("RCPT TO:<ann@good.test>", "250"), // delayed, although it is not an error
            ("RCPT TO:<x3@good.test>", "550"),
            ("RCPT TO:<x4@good.test>", "550"),
        ])
        .await;
    assert!(start.elapsed() >= Duration::from_millis(450));
    assert_eq!(client.reply().await, "421 4.7.0 mx.good.test Error: too many errors");
    client.expect_end().await;
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.errors, stats.soft_limit_hits, stats.hard_limit_hits), (4, 3, 1));
}

#[tokio::test]
async fn junk_counts_and_a_message_resets() {
    let limits = ErrorLimits { soft: 50, hard: 3, delay: ms(0), junk: 2 };
    let sandbox = start(HostConfig { errors: Some(limits), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.group(&[("NOOP", "250"), ("RSET", "250"), ("NOOP", "250")]).await;
    assert_eq!(sandbox.stats(NAME).unwrap().junk_limit_hits, 2);
    client
        .script(&[
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<ann@good.test>", "250"),
            ("DATA", "354"),
            ("hello\r\n.", "250"),
            ("NOOP", "250"),
            ("NOOP", "250"),
            ("NOOP", "250"),
            ("NOOP", "250"),
            ("VRFY x", "252"),
        ])
        .await;
    assert!(client.reply().await.starts_with("421 4.7.0"));
}

#[tokio::test]
async fn one_recipient_per_transaction() {
    let limits = HostConfig {
        rcpts_per_transaction: Some(1),
        mails_per_connection: Some(2),
        announce_limits: true,
        ..host()
    };
    let sandbox = start(limits).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    assert!(client.ask("EHLO client.test").await.ends_with("250 LIMITS RCPTMAX=1 MAILMAX=2"));
    client
        .group(&[
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<ann@good.test>", "250"),
            ("RCPT TO:<bob@good.test>", "452 4.5.3 Error: too many recipients"),
            ("RSET", "250"),
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<bob@good.test>", "250"),
            ("RSET", "250"),
            ("MAIL FROM:<>", "421 4.7.0"),
        ])
        .await;
    client.expect_end().await;
    assert_eq!(sandbox.stats(NAME).unwrap().rcpt_limit_hits, 1);
}

#[tokio::test]
async fn a_greylist_lets_pass_at_its_age() {
    let sandbox = start(HostConfig { greylist: Some(ms(80)), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client
        .script(&[
            ("MAIL FROM:<me@client.test>", "250"),
            ("RCPT TO:<ann@good.test>", "450 4.2.0 <ann@good.test>: Recipient address rejected: Greylisted"),
            ("RCPT TO:<nobody@good.test>", "450 4.2.0"),
        ])
        .await;
    tokio::time::sleep(Duration::from_millis(90)).await;
    client
        .script(&[
            ("RCPT TO:<ann@good.test>", "250"),
            ("RCPT TO:<nobody@good.test>", "550 5.1.1"),
            ("RSET", "250"),
            ("MAIL FROM:<other@client.test>", "250"),
            ("RCPT TO:<ann@good.test>", "450 4.2.0"),
        ])
        .await;
    assert_eq!(sandbox.stats(NAME).unwrap().greylisted, 3);
}

#[tokio::test]
async fn a_blocked_client_is_refused_at_the_configured_stage() {
    let blocked = "Service unavailable; Client host [127.0.0.1] blocked using";
    let sandbox = start(HostConfig { blocked: Some(Blocked::default()), ..host() }).await;
    let mut client = Client::connect(&sandbox).await;
    assert!(client.reply().await.contains(&format!("554 5.7.1 {blocked}")));
    client.expect_end().await;

    let sandbox =
        start(HostConfig { blocked: Some(Blocked { at: FaultStage::Rcpt, after: 2, vague: 1 }), ..host() })
            .await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250")]).await;
    client
        .script(&[("RCPT TO:<nobody@good.test>", "550 5.1.1"), ("RCPT TO:<bob@good.test>", "550 5.1.1")])
        .await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "554 5.7.1")]).await;
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.blocked, stats.rcpts), (2, 4));
}

#[tokio::test]
async fn too_many_connections() {
    let sandbox = start(HostConfig { max_connections: Some(1), ..host() }).await;
    let first = Client::greeted(&sandbox).await;
    let mut second = Client::connect(&sandbox).await;
    assert!(second.reply().await.starts_with("421 4.7.0 mx.good.test Error: too many connections"));
    second.expect_end().await;
    drop((first, second));
    while sandbox.stats(NAME).unwrap().open > 0 {
        tokio::task::yield_now().await;
    }
    Client::greeted(&sandbox).await;
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.connections, stats.max_open, stats.refused_connections), (3, 1, 1));
}

#[tokio::test]
async fn a_client_that_has_read_part_of_the_final_reply_may_reconnect() {
    // The rest of the final reply is slow, as on a busy thread.
    let tarpit = Some(Tarpit { octet: ms(20), from: FaultStage::Quit });
    let sandbox = start(HostConfig { max_connections: Some(1), tarpit, ..host() }).await;
    let mut first = Client::greeted(&sandbox).await;
    first.send("QUIT\r\n").await;
    first.stream.read_u8().await.unwrap();
    let mut second = Client::connect(&sandbox).await;
    assert!(second.reply().await.starts_with("220"));
    assert_eq!(sandbox.stats(NAME).unwrap().refused_connections, 0);
}

#[tokio::test]
async fn a_client_with_a_failed_handshake_may_reconnect() {
    for does in [Does::Eof, Does::Garbage] {
        let faults = vec![Fault::new(FaultStage::Tls, does.clone())];
        let sandbox = start(HostConfig { max_connections: Some(1), faults, ..host() }).await;
        let mut first = Client::greeted(&sandbox).await;
        first.script(&[("STARTTLS", "220")]).await;
        first.send("hello").await;
        let octets = first.stream.read(&mut [0; 64]).await.unwrap();
        assert_eq!(octets == 0, does == Does::Eof);
        let mut second = Client::connect(&sandbox).await;
        assert!(second.reply().await.starts_with("220"), "{does:?}");
    }
}

#[tokio::test]
async fn shutdown_at_the_nth_command_drops_the_rest_of_the_group() {
    let sandbox = start(HostConfig { shutdown_at: Some(3), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("MAIL FROM:<>\r\nRCPT TO:<ann@good.test>\r\nRCPT TO:<bob@good.test>\r\n").await;
    assert_eq!(client.reply().await, "250 2.1.0 Ok");
    assert_eq!(client.reply().await, "421 4.3.2 mx.good.test Service shutting down");
    client.expect_end().await;
}

#[tokio::test]
async fn some_hosts_close_after_a_refusal() {
    let sandbox = start(HostConfig { close_after_refusal: true, ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<full@good.test>", "452")]).await;
    client.script(&[("RCPT TO:<nobody@good.test>\r\nRCPT TO:<ann@good.test>", "550 5.1.1")]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn silence_of_the_client_ends_the_connection() {
    let sandbox = start(HostConfig { idle_timeout: ms(50), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    assert_eq!(client.reply().await, "421 4.4.2 mx.good.test Error: timeout exceeded");
    client.expect_end().await;
}

#[tokio::test]
async fn postscreen_waits_and_refuses_early_talkers() {
    let sandbox = start(HostConfig { banner_delay: ms(150), ..host() }).await;
    let start = Instant::now();
    let mut client = Client::connect(&sandbox).await;
    assert_eq!(client.line().await, "220-mx.good.test ESMTP");
    assert!(start.elapsed() < Duration::from_millis(150));
    assert!(client.line().await.starts_with("220 mx.good.test ESMTP"));
    assert!(start.elapsed() >= Duration::from_millis(150));
    client.script(&[("EHLO client.test", "250")]).await;

    let mut client = Client::connect(&sandbox).await;
    client.send("EHLO client.test\r\n").await;
    client.line().await;
    assert_eq!(client.line().await, "521 5.5.1 Protocol error");
    client.expect_end().await;
    assert_eq!(sandbox.stats(NAME).unwrap().early_talkers, 1);
}

#[tokio::test]
async fn groups_overlap_over_a_high_latency() {
    let sandbox = start(HostConfig { latency: ms(80), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    let start = Instant::now();
    for _ in 0..5 {
        client.send("NOOP\r\n").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..5 {
        assert_eq!(client.reply().await, "250 2.0.0 Ok");
    }
    let took = start.elapsed();
    assert!((80..350).contains(&took.as_millis()), "one round trip, not five: {took:?}");
    client.script(&[("QUIT", "221")]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_tarpit_sends_octet_by_octet() {
    let tarpit = Some(Tarpit { octet: ms(2), from: FaultStage::Mail });
    let sandbox = start(HostConfig { tarpit, ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    let start = Instant::now();
    client.group(&[("MAIL FROM:<>", "250 2.1.0 Ok"), ("RCPT TO:<ann@good.test>", "250 2.1.5 Ok")]).await;
    assert!(start.elapsed() >= Duration::from_millis(2 * 28));
}

#[tokio::test]
async fn commands_that_are_not_mail_are_counted_as_exim_does() {
    let sandbox = start(HostConfig { max_nonmail: Some(2), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    let envelope = [("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250")];
    client.script(&envelope).await;
    // One RSET for each message is not counted.
    client.script(&[("RSET", "250"), ("EHLO client.test", "250"), ("RSET", "250")]).await;
    client.script(&envelope).await;
    client
        .script(&[("DATA", "354"), ("hello\r\n.", "250"), ("RSET", "250"), ("EHLO client.test", "250")])
        .await;
    client.script(&envelope).await;
    client.script(&[("NOOP", "554 Too many nonmail commands")]).await;
    client.expect_end().await;
    assert_eq!(sandbox.stats(NAME).unwrap().nonmail_limit_hits, 1);

    // The greeting after STARTTLS is not counted.
    let sandbox = start(HostConfig { max_nonmail: Some(0), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "220")]).await;
    let mut client = client.secure(&sandbox).await.unwrap();
    client.script(&[("EHLO client.test", "250"), ("EHLO client.test", "554")]).await;
}

#[tokio::test]
async fn a_harvest_defence_refuses_every_recipient_after_too_many_unknown_ones() {
    let unknown = "550 5.1.1 <ann@good.test>: Recipient address rejected: User unknown";
    let dialogue = [
        ("MAIL FROM:<>", "250"),
        ("RCPT TO:<ann@good.test>", "250"),
        ("RCPT TO:<x1@good.test>", "550 5.1.1"),
        ("RCPT TO:<disabled@good.test>", "550 5.2.1"), // not an unknown one
        ("RCPT TO:<ann@good.test>", "250"),
        ("RCPT TO:<x2@good.test>", "550 5.1.1"),
        ("RCPT TO:<ann@good.test>", unknown),
    ];
    for per_connection in [false, true] {
        let defence = HarvestDefence { after: 2, per_connection, lasts: None };
        let sandbox = start(HostConfig { harvest_defence: Some(defence), ..host() }).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&dialogue).await;
        let mut other = Client::greeted(&sandbox).await;
        let wanted = if per_connection { "250" } else { unknown };
        other.script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", wanted)]).await;
        let stats = sandbox.stats(NAME).unwrap();
        assert_eq!((stats.harvest_defences, stats.harvest_refusals), (1, 2 - u64::from(per_connection)));
    }

    let defence = HarvestDefence { after: 2, per_connection: false, lasts: Some(ms(100)) };
    let sandbox = start(HostConfig { harvest_defence: Some(defence), ..host() }).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&dialogue).await;
    tokio::time::sleep(Duration::from_millis(110)).await;
    client.script(&[("RSET", "250")]).await;
    client.script(&dialogue).await;
    assert_eq!(sandbox.stats(NAME).unwrap().harvest_defences, 2);
}
