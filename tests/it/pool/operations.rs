//! Verifying and sending.

use std::{
    io,
    sync::{Arc, Mutex},
};

use smtp_pool::{
    client::SessionError,
    pool::{Envelope, Key, OperationError, Route, RouteFuture},
    proto::{Command, Mailbox, ReversePath, Verb},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::{Site, builder, pool, until};

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

#[tokio::test]
async fn verifying_leaves_the_connection_as_it_was() {
    for host in ["", "without = [\"PIPELINING\"]", "helo_only = true"] {
        let site = Site::start(host).await;
        let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
        for (address, known) in
            [("ann@good.test", true), ("nobody@good.test", false), ("ann@good.test", true)]
        {
            let answer = pool.verify_email(address).await.unwrap();
            assert_eq!((answer.is_accepted(), answer.verb), (known, Verb::Rcpt), "{host}: {}", answer.reply);
        }
        assert_eq!((site.stats().connections, site.stats().messages), (1, 0), "{host}");
        assert_eq!(site.stats().improper_pipelining, 0, "{host}");
    }
}

#[tokio::test]
async fn a_refusal_of_mail_is_no_answer_about_the_mailbox() {
    let site = Site::start("faults = [{ at = \"mail\", does = { reply = \"550 5.7.1 go away\" } }]").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    let answer = pool.verify_email("ann@good.test").await.unwrap();
    assert_eq!((answer.is_accepted(), answer.verb, answer.reply.code()), (false, Verb::Mail, 550));
    assert_eq!(pool.status().idle, 1);
}

#[tokio::test]
async fn a_message_reaches_the_accepted_recipients() {
    let site = Site::start("").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    let envelope =
        Envelope::new(ReversePath::Mailbox(mailbox("me@client.example.org")), mailbox("nobody@good.test"))
            .with(mailbox("ann@good.test"));
    let message = b"Subject: dots\r\n\r\n.\r\n..two\r\n";
    for sent in 1..=3 {
        let delivery = pool.send(&envelope, message).await.unwrap();
        assert!(!delivery.is_complete());
        let codes: Vec<_> =
            delivery.recipients.iter().map(|(_, reply)| reply.as_ref().unwrap().code()).collect();
        assert_eq!(codes, [550, 250]);
        assert_eq!((site.stats().messages, site.stats().message_octets), (sent, sent * message.len() as u64));
    }
    // Without a recipient the connection stays open.
    let envelope = Envelope::new(ReversePath::Null, mailbox("nobody@good.test"));
    assert_eq!(pool.send(&envelope, message).await.unwrap().recipients[0].1.as_ref().unwrap().code(), 550);
    assert_eq!((site.stats().messages, site.stats().connections, pool.status().idle), (3, 1, 1));
    // All recipients of a server share a transaction.
    assert_eq!(site.stats().transactions, 4);
}

/// Sends a message to a server with these extensions, and returns the parameters of MAIL.
async fn told_in_mail(extensions: &str, from: &str, message: &[u8]) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let ehlo = format!("250-mx\r\n{extensions}250 HELP\r\n");
    let serving = tokio::spawn(async move {
        let mut socket = BufReader::new(listener.accept().await.unwrap().0);
        socket.write_all(b"220 mx\r\n").await.unwrap();
        let (mut mail, mut line) = (None, Vec::new());
        loop {
            line.clear();
            assert!(socket.read_until(b'\n', &mut line).await.unwrap() > 0, "gone before the message");
            let command = String::from_utf8_lossy(&line).trim_end().to_owned();
            let reply = match command.split(' ').next().unwrap() {
                "EHLO" => &ehlo,
                "DATA" => "354 go on\r\n",
                "." => break,
                "MAIL" => {
                    mail = Some(command);
                    "250 ok\r\n"
                }
                "RCPT" => "250 ok\r\n",
                _ => continue,
            };
            socket.write_all(reply.as_bytes()).await.unwrap();
        }
        socket.write_all(b"250 taken\r\n").await.unwrap();
        mail.unwrap()
    });
    let pool = builder().server(Key::parse(&server).unwrap()).build().unwrap();
    let envelope = Envelope::new(ReversePath::Mailbox(mailbox(from)), mailbox("ann@good.test"));
    let delivery = pool.send(&envelope, message).await.unwrap();
    assert!(delivery.is_complete(), "{delivery:?}");
    let mail = serving.await.unwrap();
    let mut params: Vec<String> = mail.split(' ').skip(2).map(str::to_owned).collect();
    params.sort();
    params
}

#[tokio::test]
async fn mail_has_the_parameters_that_the_server_offers() {
    let all = "250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n";
    let (ascii, latin) = (&b"Subject: a\r\n\r\n"[..], "Subject: \u{e4}\r\n\r\n".as_bytes());
    let none: [&str; 0] = [];
    assert_eq!(told_in_mail("", "me@good.test", ascii).await, none);
    assert_eq!(told_in_mail(all, "me@good.test", ascii).await, ["SIZE=14"]);
    assert_eq!(told_in_mail(all, "me@good.test", latin).await, ["BODY=8BITMIME", "SIZE=15", "SMTPUTF8"]);
    let body = "Subject: a\r\n\r\n\u{e4}".as_bytes();
    assert_eq!(told_in_mail(all, "me@good.test", body).await, ["BODY=8BITMIME", "SIZE=16"]);
    assert_eq!(told_in_mail(all, "j\u{fc}rgen@good.test", ascii).await, ["SIZE=14", "SMTPUTF8"]);
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_not_sent_twice() {
    let site = Site::start("faults = [{ at = \"message\", nth = 2, does = \"eof\" }]").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    let envelope = Envelope::new(ReversePath::Null, mailbox("ann@good.test"));
    assert!(pool.send(&envelope, b"Subject: one\r\n\r\n").await.unwrap().is_complete());
    let error = pool.send(&envelope, b"Subject: two\r\n\r\n").await.unwrap_err();
    let (_, lost) = &error.recipients[0];
    let closed = SessionError::Closed { verb: Verb::Message };
    assert!(
        matches!(&**lost, OperationError::Session { source, .. } if source.to_string() == closed.to_string())
    );
    assert_eq!(site.stats().connections, 1);
}

/// Knows the server of each domain in the table, and no other.
struct Table([(&'static str, Key); 2]);

impl Route for Table {
    fn route<'a>(&'a self, mailbox: &'a Mailbox) -> RouteFuture<'a> {
        let domain = mailbox.domain().to_string();
        let found = self.0.iter().find(|(known, _)| *known == domain);
        let servers = found.map(|(_, server)| vec![server.clone()]);
        Box::pin(async { servers.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

#[tokio::test]
async fn a_route_leads_each_recipient_to_a_server() {
    let [one, two] = [Site::start("").await, Site::start("").await];
    let [first, second] = [&one, &two].map(|site| Key::parse(&site.server).unwrap());
    let pool =
        builder().route(Table([("good.test", first), ("other.test", second.clone())])).build().unwrap();
    assert!(pool.verify_email("ann@good.test").await.unwrap().is_accepted());
    assert!(!pool.verify_email("ann@other.test").await.unwrap().is_accepted(), "the other knows none");
    assert_eq!((one.stats().transactions, two.stats().transactions), (1, 1));
    let to = ["ann@good.test", "ann@other.test", "ann@nowhere.test"].map(mailbox).to_vec();
    let envelope = Envelope::to_all(ReversePath::Null, to).unwrap();
    let delivery = pool.send(&envelope, b"Subject: one\r\n\r\n").await.unwrap();
    let [taken, refused, lost] = &delivery.recipients[..] else { panic!("{delivery:?}") };
    assert_eq!(taken.1.as_ref().unwrap().code(), 250);
    assert!(refused.1.as_ref().unwrap().code() >= 500);
    assert!(matches!(**lost.1.as_ref().unwrap_err(), OperationError::Route { .. }), "{lost:?}");
    assert_eq!((one.stats().messages, two.stats().messages), (1, 0));
    // A route set by name has precedence.
    let pool = builder().route(Table([("good.test", second.clone()), ("other.test", second)]));
    let pool = pool.server(Key::parse(&one.server).unwrap()).build().unwrap();
    assert!(pool.verify_email("ann@good.test").await.unwrap().is_accepted());
}

#[tokio::test]
async fn meeting_only_stale_connections_is_an_error_in_the_end() {
    // A connection lasts for one command, which another user always sends first.
    let site = Site::start("faults = [{ at = \"mail\", does = \"eof\" }]").await;
    let pool = builder().max_connections(1).server(Key::parse(&site.server).unwrap()).build().unwrap();
    let quicker = || {
        let (pool, server) = (pool.clone(), site.server.clone());
        async move {
            loop {
                let mut connection = pool.get(&server).await.unwrap();
                connection.command(&Command::Noop).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = quicker() => {}
        () = quicker() => {}
        asked = async {
            until("in use", || pool.status().waiting > 0).await;
            pool.verify_email("ann@good.test").await
        } => assert!(matches!(asked.unwrap_err(), OperationError::Session { .. })),
    }
    // It is tried once for each connection of the limit, and not more.
    assert_eq!(pool.metrics().snapshot().server(&site.server).unwrap().retries, 1);
}

#[tokio::test]
async fn without_a_server_there_has_to_be_a_route() {
    let pool = pool(1);
    let error = pool.verify_email("ann@good.test").await.unwrap_err();
    assert!(matches!(&error, OperationError::NoRoute { domain } if **domain == *"good.test"), "{error}");
    assert!(matches!(pool.verify_email("ann").await.unwrap_err(), OperationError::Address(_)));
}

/// A reply whose lines have different codes.
const MIXED: &str = "does = { reply = \"250-yes\\r\\n550 no\" }";

fn is_ambiguous(error: &OperationError) -> bool {
    matches!(error, OperationError::Session { source: SessionError::Ambiguous { .. }, .. })
}

#[tokio::test]
async fn a_reply_of_two_codes_is_no_verdict_on_a_mailbox() {
    for host in ["", "without = [\"PIPELINING\"]"] {
        for at in ["at = \"rcpt\", to = \"ann\"", "at = \"mail\", nth = 1"] {
            let site = Site::start(&format!("{host}\nfaults = [{{ {at}, {MIXED} }}]")).await;
            let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
            let error = pool.verify_email("ann@good.test").await.unwrap_err();
            assert!(is_ambiguous(&error), "{host} {at}: {error:?}");
            assert!(pool.verify_email("postmaster@good.test").await.unwrap().is_accepted(), "{host} {at}");
        }
    }
}

#[tokio::test]
async fn a_reply_of_two_codes_is_no_delivery_and_no_refusal() {
    let envelope =
        Envelope::new(ReversePath::Null, mailbox("ann@good.test")).with(mailbox("postmaster@good.test"));
    for (at, outcomes, messages) in [
        // The other recipients still get the message.
        ("at = \"rcpt\", to = \"ann\"", [None, Some(250)], 1),
        ("at = \"rcpt\", to = \"postmaster\"", [Some(250), None], 1),
        ("at = \"rcpt\"", [None, None], 0),
        ("at = \"mail\"", [None, None], 0),
        ("at = \"data\"", [None, None], 0),
        ("at = \"message\"", [None, None], 1),
    ] {
        for host in ["", "without = [\"PIPELINING\"]"] {
            let site = Site::start(&format!("{host}\nfaults = [{{ {at}, {MIXED} }}]")).await;
            let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
            let sent = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await;
            let sent: Vec<_> = match sent {
                Ok(delivery) => {
                    assert!(!delivery.is_complete(), "{at}");
                    delivery.recipients
                }
                Err(error) => error.recipients.into_iter().map(|(to, error)| (to, Err(error))).collect(),
            };
            assert_eq!(sent.len(), 2);
            for ((_, outcome), wanted) in sent.iter().zip(outcomes) {
                match (outcome, wanted) {
                    (Ok(reply), Some(code)) => assert_eq!(reply.code(), code, "{at}"),
                    (Err(error), None) => assert!(is_ambiguous(error), "{at}: {error:?}"),
                    _ => panic!("{host} {at}: {outcome:?}, wanted {wanted:?}"),
                }
            }
            assert_eq!(site.stats().messages, messages, "{host} {at}");
        }
    }
}

#[tokio::test]
async fn a_refused_rset_keeps_the_answers_and_closes_the_connection() {
    for code in ["500 5.5.1 unknown", "502 5.5.1 not implemented", "503 5.5.1 no", "504 5.5.1 no"] {
        for host in ["", "without = [\"PIPELINING\"]"] {
            let fault = format!("faults = [{{ at = \"rset\", does = {{ reply = \"{code}\" }} }}]");
            let site = Site::start(&format!("{host}\n{fault}")).await;
            let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
            for (address, known) in [("ann@good.test", true), ("nobody@good.test", false)] {
                let answer = pool.verify_email(address).await.unwrap();
                assert_eq!(
                    (answer.is_accepted(), answer.verb),
                    (known, Verb::Rcpt),
                    "{code}: {}",
                    answer.reply
                );
            }
            let envelope = Envelope::new(ReversePath::Null, mailbox("nobody@good.test"));
            for _ in 0..2 {
                let delivery = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap();
                assert_eq!(delivery.recipients[0].1.as_ref().unwrap().code(), 550, "{code}");
            }
            assert_eq!((site.stats().connections, pool.status().idle), (4, 0), "{code}");
        }
    }
}

#[tokio::test]
async fn a_message_that_no_server_answered_for_is_an_error() {
    let pool = builder().build().unwrap();
    let envelope = Envelope::new(ReversePath::Null, mailbox("ann@good.test"));
    let error = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap_err();
    assert!(matches!(*error.recipients[0].1, OperationError::NoRoute { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("no server is set"));
    Envelope::to_all(ReversePath::Null, Vec::new()).unwrap_err();
}

fn is_not_offered(error: &OperationError, wanted: &str) -> bool {
    matches!(error, OperationError::Session { source: SessionError::NotOffered { extension, .. }, .. }
        if *extension == wanted)
}

#[tokio::test]
async fn utf8_goes_to_no_server_that_cannot_take_it() {
    for host in
        ["without = [\"SMTPUTF8\", \"8BITMIME\"]", "without = [\"PIPELINING\", \"SMTPUTF8\", \"8BITMIME\"]"]
    {
        let site = Site::start(host).await;
        let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
        let umlaut = mailbox("j\u{fc}rgen@good.test");
        let error = pool.verify_email(umlaut.as_ref()).await.unwrap_err();
        assert!(is_not_offered(&error, "SMTPUTF8"), "{host}: {error:?}");

        let (sender, ann) = (ReversePath::Null, mailbox("ann@good.test"));
        let (plain, body) = (&b"Subject: x\r\n\r\nx\r\n"[..], "Subject: x\r\n\r\n\u{e4}\r\n".as_bytes());
        let header = "Subject: \u{e4}\r\n\r\nx\r\n".as_bytes();
        for (envelope, message, extension) in [
            (Envelope::new(sender.clone(), umlaut.clone()), plain, "SMTPUTF8"),
            (Envelope::new(ReversePath::Mailbox(umlaut.clone()), ann.clone()), plain, "SMTPUTF8"),
            (Envelope::new(sender.clone(), ann.clone()), header, "SMTPUTF8"),
            (Envelope::new(sender.clone(), ann.clone()), body, "8BITMIME"),
        ] {
            let error = pool.send(&envelope, message).await.unwrap_err();
            assert!(is_not_offered(&error.recipients[0].1, extension), "{host}: {error:?}");
        }
        assert_eq!((site.stats().transactions, site.stats().messages), (0, 0), "{host}: nothing was said");

        let mut connection = pool.get(&site.server).await.unwrap();
        let error = connection.verify_email(&sender, &umlaut).await.unwrap_err();
        assert!(matches!(error, SessionError::NotOffered { verb: Verb::Mail, extension: "SMTPUTF8" }));
        assert!(connection.is_idle(), "{host}");
        let from = ReversePath::Mailbox(umlaut.clone());
        let error = connection.verify_email(&from, &ann).await.unwrap_err();
        assert!(matches!(error, SessionError::NotOffered { .. }), "{host}: {error:?}");
        let rcpts = [umlaut.clone()];
        let error = connection.envelope(&sender, &Default::default(), &rcpts).await.unwrap_err();
        assert!(matches!(error, SessionError::NotOffered { .. }), "{host}: {error:?}");
        let _ = connection.envelope(&sender, &Default::default(), std::slice::from_ref(&ann)).await.unwrap();
        let error = connection.data(body).await.unwrap_err();
        assert!(matches!(error, SessionError::NotOffered { verb: Verb::Data, extension: "8BITMIME" }));
        connection.command(&Command::Rset).await.unwrap();
        drop(connection);

        // Ann still gets the message.
        let envelope = Envelope::new(sender, umlaut).with(ann);
        let delivery = pool.send(&envelope, plain).await.unwrap();
        let [(_, refused), (_, taken)] = &delivery.recipients[..] else { panic!("{delivery:?}") };
        assert!(is_not_offered(refused.as_ref().unwrap_err(), "SMTPUTF8"), "{host}: {refused:?}");
        assert_eq!((taken.as_ref().unwrap().code(), site.stats().messages), (250, 1), "{host}");
    }
}

/// Knows two exchangers for every domain.
struct Exchangers([Key; 2]);

impl Route for Exchangers {
    fn route<'a>(&'a self, _: &'a Mailbox) -> RouteFuture<'a> {
        Box::pin(async { Ok(self.0.to_vec()) })
    }
}

#[tokio::test]
async fn a_connection_lost_before_the_message_leads_to_the_next_exchanger() {
    for does in ["\"eof\"", "\"reset\"", "{ reply = \"421 4.3.2 closing\" }"] {
        for at in ["mail", "rcpt"] {
            for more in ["", "without = [\"PIPELINING\"]"] {
                let case = format!("{does} at {at}, {more}");
                let broken =
                    Site::start(&format!("{more}\nfaults = [{{ at = \"{at}\", does = {does} }}]")).await;
                let good = Site::start("").await;
                let servers = [&broken, &good].map(|site| Key::parse(&site.server).unwrap());
                let pool = builder().route(Exchangers(servers)).build().unwrap();
                let envelope = Envelope::new(ReversePath::Null, mailbox("ann@good.test"));
                let delivery = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap();
                assert!(delivery.is_complete(), "{case}: {delivery:?}");
                assert_eq!((broken.stats().messages, good.stats().messages), (0, 1), "{case}");
                let answer = pool.verify_email("ann@good.test").await.unwrap();
                assert!(answer.is_accepted(), "{case}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_accepted_recipient_of_a_transaction_that_421_ends_has_not_got_the_message() {
    let fault = "{ at = \"rcpt\", to = \"postmaster\", does = { reply = \"421 4.3.2 closing\" } }";
    let site = Site::start(&format!("faults = [{fault}]")).await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    let envelope =
        Envelope::new(ReversePath::Null, mailbox("ann@good.test")).with(mailbox("postmaster@good.test"));
    let error = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap_err();
    assert_eq!((error.recipients.len(), site.stats().messages), (2, 0));
}

/// A server with these extensions, which accepts so many recipients in a transaction; and how many RCPT came in each.
async fn recipients_by_transaction(extensions: &'static str, max: usize, count: usize) -> Vec<usize> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let mut socket = BufReader::new(listener.accept().await.unwrap().0);
        socket.write_all(b"220 mx\r\n").await.unwrap();
        let (mut transactions, mut line, mut message) = (Vec::new(), String::new(), false);
        loop {
            line.clear();
            if socket.read_line(&mut line).await.unwrap() == 0 {
                return transactions;
            }
            let reply = match line.split([' ', '\r']).next().unwrap() {
                "." => {
                    message = false;
                    "250 taken\r\n".to_owned()
                }
                _ if message => continue,
                "EHLO" => format!("250-mx\r\n{extensions}250 PIPELINING\r\n"),
                "MAIL" => {
                    transactions.push(0);
                    "250 ok\r\n".to_owned()
                }
                "RCPT" => {
                    let count = transactions.last_mut().unwrap();
                    *count += 1;
                    if *count > max { "452 4.5.3 too many\r\n" } else { "250 ok\r\n" }.to_owned()
                }
                "DATA" => {
                    message = true;
                    "354 go on\r\n".to_owned()
                }
                _ => "250 ok\r\n".to_owned(),
            };
            socket.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    let pool = builder().max_connections(1).server(Key::parse(&server).unwrap()).build().unwrap();
    let to = (0..count).map(|n| mailbox(&format!("user{n}@good.test"))).collect();
    let envelope = Envelope::to_all(ReversePath::Null, to).unwrap();
    let delivery = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap();
    assert!(delivery.is_complete(), "{delivery:?}");
    assert!(delivery.recipients.iter().map(|(to, _)| to).eq(envelope.recipients()), "in their order");
    assert!(pool.close(std::time::Duration::from_secs(5)).await);
    drop(pool);
    serving.await.unwrap()
}

#[tokio::test]
async fn a_transaction_has_no_more_recipients_than_the_server_takes() {
    let none = usize::MAX;
    assert_eq!(recipients_by_transaction("250-LIMITS RCPTMAX=3\r\n", none, 7).await, [3, 3, 1]);
    assert_eq!(recipients_by_transaction("250-LIMITS RCPTMAX=1000\r\n", none, 150).await, [100, 50]);
    assert_eq!(recipients_by_transaction("", none, 101).await, [100, 1]);
    // It does not say so before.
    assert_eq!(recipients_by_transaction("", 4, 10).await, [10, 6, 2]);
}

/// Sends a message to each list of domains, one character a domain, over one connection at a time to a
/// server with these limits. Returns for each connection the domains of its recipients by transaction, and whether QUIT
/// ended it.
async fn domains_by_connection(limits: &str, messages: &[&str]) -> Vec<(Vec<String>, bool)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let ehlo = format!("250-mx\r\n250-LIMITS {limits}\r\n250 PIPELINING\r\n");
    let connections = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&connections);
    let serving = tokio::spawn(async move {
        for at in 0.. {
            let mut socket = BufReader::new(listener.accept().await.unwrap().0);
            seen.lock().unwrap().push((Vec::new(), false));
            socket.write_all(b"220 mx\r\n").await.unwrap();
            let (mut line, mut message) = (String::new(), false);
            while socket.read_line(&mut line).await.unwrap() > 0 {
                let command = std::mem::take(&mut line);
                let verb = command.split([' ', '\r']).next().unwrap();
                if message && verb != "." {
                    continue;
                }
                message = verb == "DATA";
                {
                    let (transactions, has_quit) = &mut seen.lock().unwrap()[at];
                    match verb {
                        "MAIL" => transactions.push(String::new()),
                        "RCPT" => {
                            let domain = command.split(['@', '.']).nth(1).unwrap();
                            transactions.last_mut().unwrap().push_str(domain);
                        }
                        "QUIT" => *has_quit = true,
                        _ => {}
                    }
                }
                let reply = match verb {
                    "EHLO" => &ehlo,
                    "DATA" => "354 go on\r\n",
                    "QUIT" => "221 bye\r\n",
                    _ => "250 ok\r\n",
                };
                socket.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    let pool = builder().max_connections(1).server(Key::parse(&server).unwrap()).build().unwrap();
    for domains in messages {
        let to = domains.chars().map(|domain| mailbox(&format!("ann@{domain}.test"))).collect();
        let envelope = Envelope::to_all(ReversePath::Null, to).unwrap();
        let delivery = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap();
        assert!(delivery.is_complete(), "{delivery:?}");
    }
    assert!(pool.verify_email("ann@a.test").await.unwrap().is_accepted());
    serving.abort();
    std::mem::take(&mut *connections.lock().unwrap())
}

#[tokio::test]
async fn a_connection_has_no_more_transactions_than_the_server_takes() {
    let seen = domains_by_connection("MAILMAX=2", &["a", "b", "c", "d"]).await;
    let transactions: Vec<_> = seen.iter().map(|(transactions, _)| transactions.len()).collect();
    assert_eq!((transactions, seen[0].1, seen[1].1), (vec![2, 2, 1], true, true), "{seen:?}");
}

#[tokio::test]
async fn a_connection_has_no_more_domains_than_the_server_takes() {
    let seen = domains_by_connection("RCPTDOMAINMAX=1", &["a", "aab", "bb"]).await;
    let expected =
        [(vec!["a".to_owned(), "aa".to_owned()], true), (vec!["b".to_owned(), "bb".to_owned()], true)];
    assert_eq!(seen[..2], expected);
    assert_eq!((seen[2].0.len(), seen.len()), (1, 3));
    let seen = domains_by_connection("RCPTDOMAINMAX=2", &["abc", "ab"]).await;
    let transactions: Vec<_> = seen.iter().map(|(transactions, _)| transactions.concat()).collect();
    assert_eq!(transactions, ["ab", "ca", "ba"], "{seen:?}");
}

#[tokio::test]
async fn a_slow_exchanger_does_not_hold_up_the_others() {
    let slow = Site::start("faults = [{ at = \"mail\", does = \"silence\" }]").await;
    let quick = Site::start("").await;
    let [first, second] = [&slow, &quick].map(|site| Key::parse(&site.server).unwrap());
    let pool = builder().route(Table([("slow.test", first), ("good.test", second)])).build().unwrap();
    let envelope = Envelope::new(ReversePath::Null, mailbox("ann@slow.test")).with(mailbox("ann@good.test"));
    tokio::select! {
        sent = pool.send(&envelope, b"Subject: x\r\n\r\nx\r\n") => panic!("{sent:?}"),
        () = until("the quick one has the message", || quick.stats().messages == 1) => {}
    }
}
