//! Which user gets which connection, and which error there is without one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    metrics::{BreakerState, Metrics},
    net::TlsPolicy,
    pool::{CheckoutError, CheckoutStage, Config, ConnectionLimit, Key, Pool},
    proto::{Command, MailParams, Mailbox, ReversePath},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
    task::JoinSet,
};

use super::{Site, builder, pool, until};

#[tokio::test]
async fn a_connection_given_back_is_lent_again() {
    let site = Site::start("").await;
    let pool = pool(2);
    let connection = pool.get(&site.server).await.unwrap();
    assert!(!connection.is_reused());
    drop(connection);
    assert_eq!(pool.status().to_string(), "active=0 idle=1 connecting=0 waiting=0 servers=1");
    let connection = pool.get(&site.server).await.unwrap();
    assert!(connection.is_reused());
    assert_eq!((pool.status().idle, pool.status().active), (0, 1));
    assert!(pool.try_get(&site.server).is_none());
    drop(connection);
    assert!(pool.try_get(&site.server).is_some_and(|connection| connection.is_reused()));
    assert_eq!(site.stats().connections, 1);
}

#[tokio::test]
async fn a_connection_out_of_step_is_not_lent_again() {
    let site = Site::start("").await;
    let pool = pool(2);
    let rcpts = [Mailbox::parse("ann@good.test").unwrap()];

    // The connection is in the middle of a transaction.
    let mut connection = pool.get(&site.server).await.unwrap();
    let _ = connection.envelope(&ReversePath::Null, &MailParams::default(), &rcpts).await.unwrap();
    drop(connection);
    assert_eq!(pool.status().idle, 0);

    // A reply is missing.
    let mut connection = pool.get(&site.server).await.unwrap();
    connection.queue(&Command::Noop).unwrap();
    connection.flush().await.unwrap();
    drop(connection);
    assert_eq!(pool.status().idle, 0);

    // A command was not sent.
    let mut connection = pool.get(&site.server).await.unwrap();
    connection.queue(&Command::Noop).unwrap();
    drop(connection);
    assert_eq!(pool.status().idle, 0);

    // QUIT was sent.
    let mut connection = pool.get(&site.server).await.unwrap();
    connection.quit().await.unwrap();
    drop(connection);
    assert_eq!(pool.status().idle, 0);

    // After a reset it can be lent.
    let mut connection = pool.get(&site.server).await.unwrap();
    let _ = connection.envelope(&ReversePath::Null, &MailParams::default(), &rcpts).await.unwrap();
    connection.command(&Command::Rset).await.unwrap();
    drop(connection);
    assert_eq!((pool.status().idle, site.stats().connections), (1, 5));
}

#[tokio::test]
async fn an_unsolicited_reply_retires_the_connection() {
    let site = Site::start("faults = [{ at = \"noop\", does = \"extra_reply\" }]").await;
    let pool = pool(1);
    let mut connection = pool.get(&site.server).await.unwrap();
    connection.command(&Command::Noop).await.unwrap();
    drop(connection);
    assert!(!pool.get(&site.server).await.unwrap().is_reused());
}

#[tokio::test]
async fn the_limit_of_connections_is_kept() {
    let site = Site::start("latency = \"1ms\"").await;
    let pool = pool(3);
    let mut users = JoinSet::new();
    for _ in 0..40 {
        let (pool, server) = (pool.clone(), site.server.clone());
        users.spawn(async move {
            let mut connection = pool.get(&server).await.unwrap();
            connection.command(&Command::Noop).await.unwrap();
        });
    }
    while let Some(user) = users.join_next().await {
        user.unwrap();
    }
    assert_eq!(site.stats().max_open, 3);
    assert_eq!(pool.status().idle, 3);
}

#[tokio::test]
async fn first_come_first_served() {
    let site = Site::start("").await;
    let pool = pool(1);
    let lent = pool.get(&site.server).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut users = JoinSet::new();
    for number in 0..20 {
        let (user, server, order) = (pool.clone(), site.server.clone(), Arc::clone(&order));
        users.spawn(async move {
            let _connection = user.get(&server).await.unwrap();
            order.lock().await.push(number);
            tokio::task::yield_now().await;
        });
        until("in line", || pool.status().waiting == number + 1).await;
    }
    drop(lent);
    users.join_all().await;
    assert_eq!(*order.lock().await, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_user_that_gives_up_leaves_everything_to_the_others() {
    let site = Site::start("banner_delay = \"50ms\"").await;
    let pool = pool(1);
    // The next user gets the connection that was opened for it.
    let impatient = pool.get_timeout(&site.server, Duration::from_millis(5)).await.unwrap_err();
    assert!(
        matches!(impatient, CheckoutError::Timeout { stage: CheckoutStage::Connect, source: None, .. }),
        "{impatient:?}"
    );
    assert_eq!(pool.status().connecting, 1);
    assert!(pool.get(&site.server).await.is_ok());
    assert_eq!(site.stats().connections, 1);
}

#[tokio::test]
async fn exhaustion_names_the_holders() {
    let site = Site::start("").await;
    let pool = builder().max_connections(1).leak_after(Duration::from_secs(60)).build().unwrap();
    let lent = pool.get(&site.server).await.unwrap();
    let line = line!() - 1;
    let error = pool.get_timeout(&site.server, Duration::from_millis(20)).await.unwrap_err();
    let CheckoutError::Exhausted(exhausted) = &error else { panic!("{error:?}") };
    assert_eq!((exhausted.max, exhausted.active, exhausted.waiting), (1, 1, 0));
    assert_eq!(exhausted.limit, ConnectionLimit::Server);
    assert!(exhausted.waited >= Duration::from_millis(20));
    let [holder] = exhausted.held[..] else { panic!("{exhausted:?}") };
    assert_eq!((holder.taken_at.file(), holder.taken_at.line()), (file!(), line));
    assert!(
        error.to_string().contains(&site.server)
            && error.to_string().contains("max_connections allows 1, 1 to this server are lent"),
        "{error}"
    );
    let since = format!("others waiting; the longest, for {:?}, since {}", holder.held, holder.taken_at);
    assert!(error.to_string().contains(&since), "{error}");
    pool.resize(2);
    let two = [lent, pool.get(&site.server).await.unwrap()];
    let error = pool.get_timeout(&site.server, Duration::from_millis(20)).await.unwrap_err();
    let CheckoutError::Exhausted(exhausted) = &error else { panic!("{error:?}") };
    assert_eq!(exhausted.held.len(), 2);
    drop(two);
    assert!(pool.get(&site.server).await.is_ok());
}

#[tokio::test]
async fn a_timeout_names_the_step_that_took_too_long() {
    // The server greets one client, and the others wait for the banner.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut sockets = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            if sockets.is_empty() {
                socket.write_all(b"220 mx\r\n").await.unwrap();
                assert!(socket.read(&mut [0; 512]).await.unwrap() > 0);
                socket.write_all(b"250 mx\r\n").await.unwrap();
            }
            sockets.push(socket);
        }
    });
    let moment = Duration::from_millis(20);
    let pool = builder().max_connections(3).build().unwrap();
    let _lent = pool.get(&server).await.unwrap();
    let error = pool.get_timeout(&server, moment).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Timeout { stage: CheckoutStage::Connect, .. }), "{error:?}");
    // One is lent and one is being opened, which is the maximum.
    pool.resize(2);
    let error = pool.get_timeout(&server, moment).await.unwrap_err();
    let CheckoutError::Exhausted(exhausted) = &error else { panic!("{error:?}") };
    assert_eq!((exhausted.active, exhausted.connecting), (1, 1));
    // The one that is being opened is the maximum, and none is lent.
    let small = builder().max_connections(1).build().unwrap();
    let error = small.get_timeout(&server, moment).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Timeout { stage: CheckoutStage::Connect, .. }), "{error:?}");
    // None is lent or being opened: another server has the maximum.
    let [has, wants] = [Site::start("").await, Site::start("").await];
    let pool = builder().max_total_connections(1).build().unwrap();
    let _lent = pool.get(&has.server).await.unwrap();
    let error = pool.get_timeout(&wants.server, moment).await.unwrap_err();
    let CheckoutError::Exhausted(exhausted) = &error else { panic!("{error:?}") };
    assert_eq!((exhausted.limit, exhausted.max, exhausted.active), (ConnectionLimit::Total, 1, 0));
    assert!(error.to_string().contains("max_total_connections allows 1"), "{error}");
}

#[tokio::test]
async fn a_free_slot_is_filled_at_once() {
    let [site, other, third] = [Site::start("").await, Site::start("").await, Site::start("").await];
    let pool = builder().max_connections(1).max_total_connections(1).build().unwrap();
    let began = Instant::now();
    for _ in 0..10 {
        let mut lent = pool.get(&site.server).await.unwrap();
        let (next, ()) = tokio::join!(pool.get(&site.server), async {
            until("in line", || pool.status().waiting == 1).await;
            lent.quit().await.unwrap();
            drop(lent);
        });
        // Users that wait for other servers get slots one after the other.
        let wait_for = async |site: &Site| drop(pool.get(&site.server).await.unwrap());
        tokio::join!(wait_for(&other), wait_for(&third), async {
            until("in line", || pool.status().waiting == 2).await;
            drop(next);
        });
    }
    // Waiting for the maintenance would take a second each.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn connections_are_not_shared_across_keys() {
    let site = Site::start("accounts = { tim = \"secret\" }").await;
    let pool = pool(5);
    let plain = Key::parse(&site.server).unwrap();
    let other = plain.clone().helo("other.example.org".parse().unwrap());
    drop(pool.get(&plain).await.unwrap());
    assert!(!pool.get(&other).await.unwrap().is_reused());
    assert!(!pool.get(plain.clone().server_name("mx.good.test")).await.unwrap().is_reused());
    assert!(!pool.get(plain.clone().tls(TlsPolicy::Opportunistic)).await.unwrap().is_reused());
    assert!(!pool.get(plain.clone().bind([127, 0, 0, 1].into())).await.unwrap().is_reused());
    // As text or as a key, it is the same server.
    assert!(pool.get(&site.server).await.unwrap().is_reused());
    assert!(pool.get(site.server.as_str()).await.unwrap().is_reused());
    assert_eq!(pool.status().servers.len(), 5);
    assert!(pool.try_get(&plain).is_some() && pool.try_get(&site.server).is_some());
    // With another text it is another server.
    let elsewhere = Site::start("").await;
    assert!(!pool.get(elsewhere.server.as_str()).await.unwrap().is_reused());
    assert_eq!((elsewhere.stats().connections, site.stats().connections), (1, 5));
}

#[tokio::test]
async fn the_limit_over_all_servers_takes_idle_ones_from_others() {
    let [one, two] = [Site::start("").await, Site::start("").await];
    let pool = builder().max_connections(2).max_total_connections(2).build().unwrap();
    let pair = [pool.get(&one.server).await.unwrap(), pool.get(&one.server).await.unwrap()];
    // All are lent, so the next user waits for one of them.
    let waiting = {
        let (pool, server) = (pool.clone(), two.server.clone());
        tokio::spawn(async move { pool.get(&server).await.map(|connection| connection.is_reused()) })
    };
    until("in line", || pool.status().waiting == 1).await;
    drop(pair);
    assert!(!waiting.await.unwrap().unwrap());
    // Idle connections are closed at once.
    assert!(pool.get(&two.server).await.is_ok());
    until("goodbye", || one.stats().open <= 1).await;
    let three = Site::start("").await;
    let lent = [pool.get(&three.server).await.unwrap(), pool.get(&three.server).await.unwrap()];
    assert_eq!(lent.len() + pool.status().idle, 2);
}

#[tokio::test]
async fn failures_to_connect_name_their_cause() {
    // No process listens on this port.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    drop(listener);
    let pool =
        builder().backoff(Duration::from_millis(1)).breaker_pause(Duration::from_secs(60)).build().unwrap();
    let error = pool.get(&server).await.unwrap_err();
    let CheckoutError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!((error.kind(), source.kind(), source.is_transient()), ("refused", "refused", true));
    assert!(!source.was_reached());
    // Four attempts were made so far. After five the breaker opens.
    let error = pool.get(&server).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Connect { .. } | CheckoutError::CircuitOpen { .. }), "{error:?}");
    let error = pool.get(&server).await.unwrap_err();
    let CheckoutError::CircuitOpen { retry_after, source, .. } = &error else { panic!("{error:?}") };
    assert!(*retry_after > Duration::from_secs(50) && source.kind() == "refused");
    assert!(!pool.health().ready);
    let snapshot = pool.metrics().snapshot();
    let changes = BreakerState::ALL.map(|state| snapshot.server(&server).unwrap().breaker_changes(state));
    assert_eq!(changes.iter().sum::<u64>(), 1, "{changes:?}");
    // Each failure counts once: four, and the one that opened the breaker.
    assert_eq!(snapshot.connections_failed()["refused"], 5);

    let error = pool.get("not a server").await.unwrap_err();
    assert!(
        matches!(error, CheckoutError::Server(_)) && error.to_string().contains("\"not a server\""),
        "{error}"
    );
}

#[tokio::test]
async fn settings_and_the_metrics_of_the_caller_are_used() {
    let site = Site::start("").await;
    let metrics = Arc::new(Metrics::new());
    let mut config = Config::default();
    (config.max_connections, config.tls) = (1, TlsPolicy::Off);
    let pool = Pool::builder().config(config).metrics(Arc::clone(&metrics)).build().unwrap();
    let lent = pool.get(&site.server).await.unwrap();
    let error = pool.get_timeout(&site.server, Duration::from_millis(20)).await.unwrap_err();
    let CheckoutError::Exhausted(exhausted) = &error else { panic!("{error:?}") };
    assert_eq!(exhausted.max, 1);
    assert!(!error.to_string().contains("the longest"), "the holder is not recorded: {error}");
    assert_eq!(metrics.snapshot().connections_opened(), 1);
    // A program prints this while its author looks for a fault.
    assert!(format!("{pool:?}").contains("status: PoolStatus"), "{pool:?}");
    assert!(format!("{lent:?}").starts_with("PooledConnection(Connection"), "{lent:?}");
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_of_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let pool = builder().connection_timeout(Duration::from_millis(20)).max_retries(0).build().unwrap();
    let error = pool.get(&server).await.unwrap_err();
    let CheckoutError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), "timed_out");
}

#[tokio::test]
async fn a_permanent_refusal_is_not_retried() {
    let site = Site::start("faults = [{ at = \"connect\", does = { reply = \"554 5.7.1 no\" } }]").await;
    let pool = pool(2);
    let error = pool.get(&site.server).await.unwrap_err();
    assert_eq!(error.kind(), "refused_by_server");
    assert!(matches!(&error, CheckoutError::Connect { source, .. } if source.was_reached()), "{error:?}");
    assert_eq!(site.stats().connections, 1);
}

#[tokio::test]
async fn a_closed_pool_is_an_error_and_sends_quit() {
    let site = Site::start("").await;
    let pool = pool(2);
    let lent = pool.get(&site.server).await.unwrap();
    drop(pool.get(&site.server).await.unwrap());
    let waiting = {
        let (pool, server) = (pool.clone(), site.server.clone());
        let all: Vec<_> = [pool.get(&server).await.unwrap()].into();
        tokio::spawn(async move {
            let error = pool.get(&server).await.unwrap_err();
            drop(all);
            error
        })
    };
    until("in line", || pool.status().waiting == 1).await;
    let closing = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.close(Duration::from_secs(10)).await })
    };
    assert!(matches!(waiting.await.unwrap(), CheckoutError::Closed));
    assert!(pool.is_closed() && !pool.health().ready);
    assert!(matches!(pool.get(&site.server).await.unwrap_err(), CheckoutError::Closed));
    assert!(!closing.is_finished());
    drop(lent);
    assert!(closing.await.unwrap(), "everything was given back in time");
    until("goodbye", || site.stats().open == 0).await;
    assert_eq!(site.stats().commands, 4, "EHLO and QUIT on each");
    assert_eq!(pool.status().active + pool.status().idle, 0);
}

#[tokio::test]
async fn closing_has_a_deadline_and_a_dropped_pool_closes_idle_connections() {
    let site = Site::start("").await;
    let pool = pool(2);
    let lent = pool.get(&site.server).await.unwrap();
    drop(pool.get(&site.server).await.unwrap());
    assert!(!pool.close(Duration::from_millis(10)).await);
    drop(lent);
    until("closed", || site.stats().open == 0).await;

    let pool = super::pool(2);
    let lent = pool.get(&site.server).await.unwrap();
    drop(pool.get(&site.server).await.unwrap());
    drop(pool);
    until("closed", || site.stats().open == 1).await;
    drop(lent);
    until("closed", || site.stats().open == 0).await;
}

#[tokio::test]
async fn resizing_raises_and_lowers_the_limit() {
    let site = Site::start("").await;
    let pool = pool(1);
    let first = pool.get(&site.server).await.unwrap();
    let waiting = {
        let (pool, server) = (pool.clone(), site.server.clone());
        tokio::spawn(async move { pool.get(&server).await.unwrap() })
    };
    until("in line", || pool.status().waiting == 1).await;
    pool.resize(3);
    let second = waiting.await.unwrap();
    let third = pool.get(&site.server).await.unwrap();
    pool.resize(1);
    drop((first, second, third));
    let gone =
        || pool.metrics().snapshot().server(&site.server).unwrap().connections_closed.get("surplus").copied();
    until("closed", || gone() == Some(2)).await;
    assert_eq!((pool.status().idle, pool.status().active, site.stats().open), (1, 0, 1));
    // The closed connections were counted once, and one may still be open.
    let lent = pool.get(&site.server).await.unwrap();
    pool.get_timeout(&site.server, Duration::from_millis(20)).await.unwrap_err();
    assert!(lent.is_reused() && site.stats().open == 1);
}

#[test]
fn connections_and_waiting_users_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: T) {}
    let pool: Pool = pool(1);
    is_send(pool.get("smtp.example.com"));
    is_send(pool.get(Key::parse("smtp.example.com").unwrap()));
    is_send(pool.verify_email("ann@example.com"));
    is_send(pool.close(Duration::ZERO));
    is_send(pool.check_health());
    let envelope =
        smtp_pool::pool::Envelope::new(ReversePath::Null, Mailbox::parse("ann@example.com").unwrap());
    is_send(pool.send(&envelope, b""));
}
