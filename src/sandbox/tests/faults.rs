//! Faults: each at some point of the dialogue, as the world's description places it.

use super::*;

const ENVELOPE: [(&str, &str); 2] = [("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250")];

async fn with(fault: Fault) -> Sandbox {
    start(HostConfig { faults: vec![fault], ..host() }).await
}

#[tokio::test]
async fn garbage_is_no_reply() {
    let sandbox = with(Fault::new(Stage::Mail, Does::Garbage)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("MAIL FROM:<>\r\nNOOP\r\n").await;
    let mut line = Vec::new();
    client.stream.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line.len(), 66);
    assert!(!line[0].is_ascii());
    assert_eq!(client.reply().await, "250 2.0.0 Ok");
}

#[tokio::test]
async fn silence_is_never_broken() {
    let sandbox = with(Fault::new(Stage::Rcpt, Does::Silence).nth(2)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.send("RCPT TO:<bob@good.test>\r\nNOOP\r\n").await;
    assert!(client.is_left_waiting().await);
}

#[tokio::test]
async fn a_skipped_reply_leaves_the_dialogue_out_of_step() {
    let sandbox = with(Fault::new(Stage::Rcpt, Does::Skip).nth(2)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.send("RCPT TO:<bob@good.test>\r\nNOOP\r\n").await;
    assert_eq!(client.reply().await, "250 2.0.0 Ok");
    assert!(client.is_left_waiting().await);
}

#[tokio::test]
async fn end_of_file_at_every_point() {
    let dialogue = [
        (Stage::Connect, ""),
        (Stage::Ehlo, "EHLO client.test"),
        (Stage::Mail, "MAIL FROM:<>"),
        (Stage::Rcpt, "RCPT TO:<ann@good.test>"),
        (Stage::Rset, "RSET"),
        (Stage::Noop, "NOOP"),
        (Stage::Vrfy, "VRFY x"),
        (Stage::StartTls, "STARTTLS"),
        (Stage::Quit, "QUIT"),
    ];
    for does in [Does::Eof, Does::Truncate] {
        for (n, (stage, last)) in dialogue.iter().enumerate() {
            let sandbox = with(Fault::new(*stage, does.clone())).await;
            let mut client = Client::connect(&sandbox).await;
            for (_, command) in &dialogue[..n] {
                if *command == "STARTTLS" {
                    continue;
                }
                let reply = if command.is_empty() { client.reply().await } else { client.ask(command).await };
                assert!(reply.starts_with('2'), "{command}: {reply}");
            }
            if !last.is_empty() {
                client.send(format!("{last}\r\n")).await;
            }
            let rest = client.rest().await;
            assert_eq!(rest.is_empty(), does == Does::Eof, "{stage:?}");
            assert!(!rest.ends_with(b"\n"), "{stage:?}");
        }
    }
}

#[tokio::test]
async fn end_of_file_around_a_message() {
    for stage in [Stage::Data, Stage::Message] {
        let sandbox = with(Fault::new(stage, Does::Eof)).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&ENVELOPE).await;
        client.send("DATA\r\n").await;
        if stage == Stage::Message {
            assert!(client.reply().await.starts_with("354"));
            client.send("hello\r\n.\r\n").await;
        }
        client.expect_end().await;
    }
    let sandbox = with(Fault::new(Stage::Bdat, Does::Eof).nth(2)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.script(&[("BDAT 3\r\na", "250")]).await;
    client.send("BDAT 0 LAST\r\n").await;
    client.expect_end().await;
}

#[tokio::test]
async fn replies_without_end_and_without_measure() {
    let sandbox = with(Fault::new(Stage::Ehlo, Does::EndlessContinuation)).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    client.send("EHLO client.test\r\n").await;
    for _ in 0..10_000 {
        assert_eq!(client.line().await, "250-and one more thing");
    }

    let sandbox = with(Fault::new(Stage::Noop, Does::LongLine)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("NOOP\r\nQUIT\r\n").await;
    assert_eq!(client.line().await.len(), 10_000_000 - 2);
    assert_eq!(client.line().await, "221 2.0.0 Bye");
}

#[tokio::test]
async fn tls_that_cannot_be_had() {
    for does in [Does::Garbage, Does::Eof] {
        let sandbox = with(Fault::new(Stage::Tls, does)).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&[("STARTTLS", "220")]).await;
        assert!(client.secure(&sandbox).await.is_err());
        assert_eq!(sandbox.stats(NAME).unwrap().handshakes, 0);
    }
    let sandbox = with(Fault::new(Stage::Tls, Does::Silence)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "220")]).await;
    assert!(timeout(Duration::from_millis(100), client.secure(&sandbox)).await.is_err());
    let refusal = Does::Reply("454 4.7.0 TLS not available due to local reason".into());
    let sandbox = with(Fault::new(Stage::StartTls, refusal)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "454 4.7.0 TLS not"), ("MAIL FROM:<>", "250")]).await;
}

#[tokio::test]
async fn plaintext_injected_behind_starttls() {
    let sandbox = with(Fault::new(Stage::StartTls, Does::ExtraReply)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "220 2.0.0 Ready")]).await;
    // The handshake would succeed: it is for the client to notice.
    assert_eq!(client.line().await, "250 2.0.0 Ok");
    client.secure(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_scripted_reply_takes_effect_if_it_says_so() {
    let reply = |text: &str| Does::Reply(text.into());
    let faults = vec![
        Fault::new(Stage::Connect, reply("220 ****2***")),
        Fault::new(Stage::Mail, reply("250 sender ok")).nth(1),
        Fault::new(Stage::Mail, reply("451 4.3.0 later")),
        Fault::new(Stage::Rcpt, reply("550-no\r\n550 such user")),
        Fault::new(Stage::Data, reply("354 go on")),
    ];
    let sandbox = start(HostConfig { faults, ..host() }).await;
    let mut client = Client::connect(&sandbox).await;
    assert_eq!(client.reply().await, "220 ****2***");
    client
        .script(&[
            ("EHLO client.test", "250"),
            ("MAIL FROM:<>", "250 sender ok"),
            ("RCPT TO:<ann@good.test>", "550-no\n550 such user"),
            ("DATA", "354 go on"), // though no recipient was accepted
            (".", "554 5.5.1 Error: no valid recipients"),
            ("MAIL FROM:<>", "451 4.3.0 later"),
            ("RCPT TO:<ann@good.test>", "550-no"),
            ("NOOP", "250 2.0.0 Ok"),
        ])
        .await;
    let stats = sandbox.stats(NAME).unwrap();
    assert_eq!((stats.errors, stats.rcpts, stats.transactions), (4, 2, 1));

    let sandbox = with(Fault::new(Stage::Connect, reply("554 5.7.1 No"))).await;
    let mut client = Client::connect(&sandbox).await;
    assert_eq!(client.reply().await, "554 5.7.1 No");
    client.expect_end().await;
}
