//! Faults at every stage of the dialogue.

use super::*;

const ENVELOPE: [(&str, &str); 2] = [("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250")];

async fn with(fault: Fault) -> Sandbox {
    start(HostConfig { faults: vec![fault], ..host() }).await
}

#[tokio::test]
async fn garbage_is_no_reply() {
    let sandbox = with(Fault::new(FaultStage::Mail, Does::Garbage)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("MAIL FROM:<>\r\nNOOP\r\n").await;
    let mut line = Vec::new();
    client.stream.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line.len(), 66);
    assert!(!line[0].is_ascii());
    assert_eq!(client.reply().await, "250 2.0.0 Ok");
}

#[tokio::test]
async fn silence_does_not_end() {
    let sandbox = with(Fault::new(FaultStage::Rcpt, Does::Silence).nth(2)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.send("RCPT TO:<bob@good.test>\r\nNOOP\r\n").await;
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn a_skipped_reply_leaves_the_dialogue_out_of_step() {
    let sandbox = with(Fault::new(FaultStage::Rcpt, Does::Skip).nth(2)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.send("RCPT TO:<bob@good.test>\r\nNOOP\r\n").await;
    assert_eq!(client.reply().await, "250 2.0.0 Ok");
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn end_of_file_at_every_point() {
    let dialogue = [
        (FaultStage::Connect, ""),
        (FaultStage::Ehlo, "EHLO client.test"),
        (FaultStage::Mail, "MAIL FROM:<>"),
        (FaultStage::Rcpt, "RCPT TO:<ann@good.test>"),
        (FaultStage::Rset, "RSET"),
        (FaultStage::Noop, "NOOP"),
        (FaultStage::Vrfy, "VRFY x"),
        (FaultStage::StartTls, "STARTTLS"),
        (FaultStage::Quit, "QUIT"),
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
    for stage in [FaultStage::Data, FaultStage::Message] {
        let sandbox = with(Fault::new(stage, Does::Eof)).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&ENVELOPE).await;
        client.send("DATA\r\n").await;
        if stage == FaultStage::Message {
            assert!(client.reply().await.starts_with("354"));
            client.send("hello\r\n.\r\n").await;
        }
        client.expect_end().await;
    }
    let sandbox = with(Fault::new(FaultStage::Bdat, Does::Eof).nth(2)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&ENVELOPE).await;
    client.script(&[("BDAT 3\r\na", "250")]).await;
    client.send("BDAT 0 LAST\r\n").await;
    client.expect_end().await;
}

#[tokio::test]
async fn endless_replies_and_endless_lines() {
    let sandbox = with(Fault::new(FaultStage::Ehlo, Does::EndlessContinuation)).await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    client.send("EHLO client.test\r\n").await;
    for _ in 0..10_000 {
        assert_eq!(client.line().await, "250-and one more thing");
    }

    let sandbox = with(Fault::new(FaultStage::Noop, Does::LongLine)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("NOOP\r\nQUIT\r\n").await;
    assert_eq!(client.line().await.len(), 10_000_000 - 2);
    assert_eq!(client.line().await, "221 2.0.0 Bye");
}

#[tokio::test]
async fn tls_faults() {
    for does in [Does::Garbage, Does::Eof] {
        let sandbox = with(Fault::new(FaultStage::Tls, does)).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&[("STARTTLS", "220")]).await;
        assert!(client.secure(&sandbox).await.is_err());
        assert_eq!(sandbox.stats(NAME).unwrap().handshakes, 0);
    }
    let sandbox = with(Fault::new(FaultStage::Tls, Does::Silence)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "220")]).await;
    assert!(timeout(Duration::from_millis(100), client.secure(&sandbox)).await.is_err());
    let refusal = Does::Reply("454 4.7.0 TLS not available due to local reason".into());
    let sandbox = with(Fault::new(FaultStage::StartTls, refusal)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "454 4.7.0 TLS not"), ("MAIL FROM:<>", "250")]).await;
}

#[tokio::test]
async fn plaintext_injected_after_starttls() {
    let sandbox = with(Fault::new(FaultStage::StartTls, Does::ExtraReply)).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "220 2.0.0 Ready")]).await;
    // The handshake would succeed, so the client must check for it.
    assert_eq!(client.line().await, "250 2.0.0 Ok");
    client.secure(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_scripted_reply_takes_effect_by_its_code() {
    let reply = |text: &str| Does::Reply(text.into());
    let faults = vec![
        Fault::new(FaultStage::Connect, reply("220 ****2***")),
        Fault::new(FaultStage::Mail, reply("250 sender ok")).nth(1),
        Fault::new(FaultStage::Mail, reply("451 4.3.0 later")),
        Fault::new(FaultStage::Rcpt, reply("550-no\r\n550 such user")),
        Fault::new(FaultStage::Data, reply("354 go on")),
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

    let sandbox = with(Fault::new(FaultStage::Connect, reply("554 5.7.1 No"))).await;
    let mut client = Client::connect(&sandbox).await;
    assert_eq!(client.reply().await, "554 5.7.1 No");
    client.expect_end().await;
}

const GROUP: &str = "MAIL FROM:<>\r\nRCPT TO:<ann@good.test>\r\nRCPT TO:<x@good.test>\r\nRSET\r\n";
const REPLIES: [&str; 4] = ["250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.0.0"];

/// Starts a host from its fields in TOML.
async fn described(fields: &str) -> Sandbox {
    let world = format!(
        "[[host]]\nname = '{NAME}'\n{fields}\n[[domain]]\nname = 'good.test'\nusers = ['ann', 'bob']"
    );
    Sandbox::start(World::from_toml(&world).unwrap()).await.unwrap()
}

/// Returns the first nine octets of every reply, until the server is silent.
async fn until_silent(client: &mut Client<TcpStream>) -> Vec<String> {
    let mut replies = Vec::new();
    while !client.is_silent().await {
        replies.push(client.reply().await.chars().take(9).collect());
    }
    replies
}

#[tokio::test]
async fn a_surplus_reply_comes_in_the_same_packet_or_late() {
    for (stage, at) in [("mail", 0), ("rcpt", 1), ("rset", 3)] {
        let sandbox =
            described(&format!("faults = [{{ at = '{stage}', nth = 1, does = {{ surplus = {{}} }} }}]"))
                .await;
        let mut client = Client::greeted(&sandbox).await;
        client.send(GROUP).await;
        let mut wanted = REPLIES.to_vec();
        wanted.insert(at, wanted[at]);
        assert_eq!(until_silent(&mut client).await, wanted, "{stage}");
    }

    let surplus =
        "faults = [{ at = 'rcpt', nth = 1, does = { surplus = { text = '251 other', after = '20ms' } } }]";
    let sandbox = described(surplus).await;
    let mut client = Client::greeted(&sandbox).await;
    let start = Instant::now();
    client.send(GROUP).await;
    for wanted in REPLIES {
        assert!(client.reply().await.starts_with(wanted), "the others do not wait");
    }
    assert_eq!(client.reply().await, "251 other");
    assert!(start.elapsed() >= Duration::from_millis(20));

    // The dialogue continues meanwhile.
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250"), ("NOOP", "250")]).await;
    assert_eq!(client.reply().await, "251 other");
}

#[tokio::test]
async fn a_surplus_reply_comes_before_the_end_of_the_connection() {
    for after in ["0s", "20ms"] {
        let sandbox = described(&format!(
            "faults = [{{ at = 'quit', does = {{ surplus = {{ after = '{after}' }} }} }}]"
        ))
        .await;
        let mut client = Client::greeted(&sandbox).await;
        client.send("QUIT\r\n").await;
        assert_eq!(String::from_utf8(client.rest().await).unwrap(), "221 2.0.0 Bye\r\n".repeat(2), "{after}");
    }
}

#[tokio::test]
async fn a_late_reply_does_not_break_another_one() {
    let faults = "faults = [{ at = 'mail', does = { surplus = { text = '250 surplus', after = '10ms' } } },\n\
                  { at = 'rcpt', does = { split = '20ms' } }]";
    let sandbox = described(faults).await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("MAIL FROM:<>\r\nRCPT TO:<ann@good.test>\r\nNOOP\r\n").await;
    assert_eq!(until_silent(&mut client).await, ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 surpl"]);
}

#[tokio::test]
async fn replies_are_swapped() {
    let sandbox = described("faults = [{ at = 'rcpt', nth = 1, does = 'swap' }]").await;
    let mut client = Client::greeted(&sandbox).await;
    client.send(GROUP).await;
    assert_eq!(until_silent(&mut client).await, ["250 2.1.0", "550 5.1.1", "250 2.1.5", "250 2.0.0"]);
    // A client that awaits each reply gets this one 50 ms late.
    let mut client = Client::greeted(&sandbox).await;
    let start = Instant::now();
    client
        .script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250 2.1.5"), ("NOOP", "250 2.0.0")])
        .await;
    assert!(start.elapsed() >= Duration::from_millis(50));

    // Two swaps in a row are one. The last reply of a connection arrives before its end.
    let sandbox = described("faults = [{ at = 'any', nth = 3, every = 1, does = 'swap' }]").await;
    let mut client = Client::greeted(&sandbox).await;
    client.send("MAIL FROM:<>\r\nRCPT TO:<x@good.test>\r\nQUIT\r\n").await;
    let replies = String::from_utf8(client.rest().await).unwrap();
    let codes: Vec<_> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["550", "250", "221"]);
}

#[tokio::test]
async fn a_split_reply_comes_in_pieces_and_in_order() {
    let sandbox = described("faults = [{ at = 'ehlo', does = { split = '25ms' } }]").await;
    let mut client = Client::connect(&sandbox).await;
    client.reply().await;
    let start = Instant::now();
    client.send("EHLO client.test\r\nNOOP\r\n").await;
    let (mut octets, mut ends) = (Vec::new(), Vec::new());
    while !octets.ends_with(b"250 2.0.0 Ok\r\n") {
        assert_ne!(client.stream.get_mut().read_buf(&mut octets).await.unwrap(), 0);
        ends.push(octets.len());
    }
    let lines = octets.iter().filter(|&&octet| octet == b'\n').count() - 1;
    assert!(start.elapsed() >= Duration::from_millis(25) * (3 * lines as u32 - 1));
    let first = octets.iter().position(|&octet| octet == b'\n').unwrap();
    for cut in [first.div_ceil(2), first, first + 1] {
        assert!(ends.contains(&cut), "a packet ends at {cut}: {ends:?}");
    }
    assert!(octets.starts_with(b"250-mx.good.test\r\n250-PIPELINING\r\n"));
}

#[tokio::test]
async fn every_nth_reply_of_a_connection_or_of_a_stage() {
    // Banner, EHLO, MAIL, RCPT, RCPT, RSET.
    for (when, doubled) in [
        ("at = 'any', every = 3", &[0, 3][..]),
        ("at = 'any', nth = 3", &[0]),
        ("at = 'rcpt', every = 2", &[2]),
        ("at = 'rcpt', nth = 1, every = 1", &[1, 2]),
        ("at = 'any', nth = 4, every = 2", &[1, 3]),
        ("at = 'any', to = 'ann'", &[1]),
    ] {
        let sandbox = described(&format!("faults = [{{ {when}, does = {{ surplus = {{}} }} }}]")).await;
        let mut client = Client::greeted(&sandbox).await;
        client.send(GROUP).await;
        let wanted: Vec<_> =
            (0..4).flat_map(|n| [REPLIES[n]].repeat(1 + usize::from(doubled.contains(&n)))).collect();
        assert_eq!(until_silent(&mut client).await, wanted, "{when}");
    }
}

#[tokio::test]
async fn a_fault_tied_to_one_recipient() {
    for (to, is_meant) in [
        ("bob", true),
        ("BOB@Good.Test", true),
        ("'bob'", false),
        ("\"bob\"", true),
        ("bob@other.test", false),
    ] {
        let fault = Fault::new(FaultStage::Rcpt, Does::Reply("000 no code at all".into())).to(to);
        let sandbox = with(fault).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&ENVELOPE).await;
        let reply = client.ask("RCPT TO:<bob@good.test>").await;
        assert_eq!(reply == "000 no code at all", is_meant, "{to}: {reply}");
        client.script(&[("RCPT TO:<cyd@good.test>", "250")]).await;
    }
    for does in ["eof", "reset", "silence", "long_line", "garbage"] {
        let sandbox = described(&format!("faults = [{{ at = 'rcpt', to = 'bob', does = '{does}' }}]")).await;
        let mut client = Client::greeted(&sandbox).await;
        client.script(&ENVELOPE).await;
        client.send("RCPT TO:<bob@good.test>\r\nRCPT TO:<ann@good.test>\r\n").await;
        match does {
            "eof" => client.expect_end().await,
            "reset" => {
                let error = client.stream.fill_buf().await.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
            "silence" => assert!(client.is_silent().await),
            _ => {
                let mut line = Vec::new();
                client.stream.read_until(b'\n', &mut line).await.unwrap();
                assert!(!line.starts_with(b"250 2.1.5"));
                assert_eq!(client.reply().await, "250 2.1.5 Ok");
            }
        }
    }
}

#[tokio::test]
async fn replies_before_a_reset_arrive_and_tls_is_reset_too() {
    let sandbox = described("faults = [{ at = 'rcpt', nth = 2, does = 'reset' }]").await;
    let mut client = Client::greeted(&sandbox).await;
    client.send(GROUP).await;
    assert!(client.reply().await.starts_with(REPLIES[0]));
    assert!(client.reply().await.starts_with(REPLIES[1]));
    let error = client.stream.fill_buf().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("STARTTLS", "220")]).await;
    let mut client = client.secure(&sandbox).await.unwrap();
    client
        .script(&[("EHLO client.test", "250"), ("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250")])
        .await;
    client.send("RCPT TO:<bob@good.test>\r\n").await;
    assert!(client.stream.fill_buf().await.is_err());
}

#[tokio::test]
async fn a_refused_rset_and_a_refused_greeting_keep_the_transaction() {
    let faults = "without = ['STARTTLS']\n\
        faults = [{ at = 'rset', does = { reply = '502 5.5.1 Command not implemented' } },\n\
        { at = 'ehlo', nth = 2, every = 1, does = { reply = '503 5.5.1 Duplicate HELO/EHLO' } }]";
    let sandbox = described(faults).await;
    let mut client = Client::greeted(&sandbox).await;
    client.script(&[("MAIL FROM:<>", "250"), ("RSET", "502"), ("EHLO client.test", "503")]).await;
    client
        .script(&[("MAIL FROM:<>", "503"), ("RCPT TO:<ann@good.test>", "250"), ("EHLO client.test", "503")])
        .await;
    client.script(&[("RCPT TO:<bob@good.test>", "250")]).await;
}

#[tokio::test]
async fn a_reply_whose_lines_carry_different_codes() {
    let sandbox = described("faults = [{ at = 'rcpt', does = { reply = \"250-yes\\r\\n550 no\" } }]").await;
    let mut client = Client::greeted(&sandbox).await;
    client
        .script(&[("MAIL FROM:<>", "250"), ("RCPT TO:<ann@good.test>", "250-yes\n550 no"), ("DATA", "354")])
        .await;
}

#[test]
fn a_fault_that_can_never_happen_is_refused() {
    for fault in ["at = 'mail', to = 'ann'", "to = 'ann'", "at = 'rcpt', nth = 0", "at = 'any', every = 0"] {
        let world = format!("[[host]]\nname = 'mx.test'\nfaults = [{{ {fault}, does = 'eof' }}]");
        assert!(matches!(World::from_toml(&world), Err(WorldError::Fault { .. })), "{fault}");
    }
}
