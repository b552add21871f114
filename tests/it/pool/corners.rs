//! Cases where two things happen together: a limit and a silence, a close and a connect, a server without a slot while
//! others have many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use smtp_pool::{
    client::{SessionError, Timeouts},
    pool::{CheckoutError, CheckoutStage, HealthManager, Key, OpenError, Pool},
    proto::Command,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{Site, builder, pass, until};

const SECOND: Duration = Duration::from_secs(1);

/// Sends a banner, and then accepts every command.
async fn agree(mut socket: TcpStream, banner: &str) -> std::io::Result<()> {
    socket.write_all(banner.as_bytes()).await?;
    let mut command = [0; 512];
    while socket.read(&mut command).await? > 0 {
        socket.write_all(b"250 ok\r\n").await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_no_connect() {
    // This port accepts connections, but stays silent.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let pool = builder().connection_timeout(30 * SECOND).build().unwrap();
    pool.get_timeout(&server, SECOND / 100).await.unwrap_err();
    assert_eq!(pool.status().connecting, 1);
    let began = Instant::now();
    assert!(pool.close(60 * SECOND).await);
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(pool.status().connecting, 0);
}

#[tokio::test]
async fn a_dropped_check_does_not_fail_waiting_users() {
    let site = Site::start("banner_delay = \"50ms\"").await;
    let pool = builder().max_connections(1).build().unwrap();
    let _ = pool.get(&site.server).await.unwrap().quit().await;
    until("gone", || pool.status().active == 0).await;
    let check = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.check_health().await })
    };
    until("connecting", || pool.status().connecting == 1).await;
    let waiting = {
        let (pool, server) = (pool.clone(), site.server.clone());
        tokio::spawn(async move { pool.get(&server).await.map(drop) })
    };
    until("in line", || pool.status().waiting == 1).await;
    check.abort();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_extra_connection_is_not_retried_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let connects = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connects);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // The server accepts one client.
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            tokio::spawn(agree(socket, if first { "220 mx\r\n" } else { "554 5.7.1 one is enough\r\n" }));
        }
    });
    let pool = builder().breaker_failures(0).max_connecting(1).build().unwrap();
    let lent = pool.get(&server).await.unwrap();
    pool.get_timeout(&server, 10 * SECOND).await.unwrap_err();
    let connects = connects.load(Ordering::SeqCst);
    // The maintenance checks each second whether a user waits.
    assert!((4..=12).contains(&connects), "{connects} connects in 10 s");
    // A waiting user still gets a connection that is returned.
    let (waiting, ()) = tokio::join!(pool.get(&server), async { drop(lent) });
    assert!(waiting.unwrap().is_reused());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_always_out_of_step_is_not_retried_without_pause() {
    for fault in ["extra_reply", "truncate"] {
        let site = Site::start(&format!("faults = [{{ at = \"ehlo\", does = \"{fault}\" }}]")).await;
        let pool = builder().breaker_failures(0).build().unwrap();
        pool.get(&site.server).await.unwrap_err();
        let connects = site.stats().connections;
        assert!((1..=12).contains(&connects), "{fault}: {connects} connects in 10 s");
    }
    // The server closes behind the greeting, which may be seen only at the next checkout.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let connects = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connects);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(b"220 mx\r\n").await;
            let _ = socket.read(&mut [0; 512]).await;
            let _ = socket.write_all(b"250 ok\r\n").await;
        }
    });
    let pool = builder().breaker_failures(0).max_connections(1).build().unwrap();
    let got = pool.get_timeout(&server, 10 * SECOND).await;
    let connects = connects.load(Ordering::SeqCst);
    assert!((1..=12).contains(&connects), "{connects} connects in 10 s, then {got:?}");
}

#[tokio::test]
async fn no_more_is_taken_from_other_servers_than_is_needed() {
    let [rich, poor] = [Site::start("").await, Site::start("").await];
    let pool = builder().max_connections(6).max_total_connections(6).build().unwrap();
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(pool.get(&rich.server).await.unwrap());
    }
    // Half of them are idle, and half are returned while the other server waits.
    drop(all.split_off(3));
    let (lent, ()) = tokio::join!(pool.get(&poor.server), async {
        tokio::task::yield_now().await;
        drop(all);
    });
    let lent = lent.unwrap();
    until("goodbye", || rich.stats().open == 5).await;
    drop(lent);
    until("settled", || pool.status().active == 0).await;
    assert_eq!(pool.status().idle, 6);
}

#[tokio::test(start_paused = true)]
async fn the_check_of_an_idle_connection_keeps_the_deadline_of_its_user() {
    let site = Site::start("idle_timeout = \"100h\"\nfaults = [{ at = \"noop\", does = \"silence\" }]").await;
    let pool = builder().noop_after(60 * SECOND).connection_timeout(30 * SECOND).build().unwrap();
    let lent = [pool.get(&site.server).await.unwrap(), pool.get(&site.server).await.unwrap()];
    drop(lent);
    tokio::time::sleep(120 * SECOND).await;
    let began = Instant::now();
    let error = pool.get_timeout(&site.server, 2 * SECOND).await.unwrap_err();
    assert!(matches!(error, CheckoutError::Timeout { stage: CheckoutStage::Ask, .. }), "{error:?}");
    assert!(error.to_string().contains("waiting for the reply to NOOP"), "{error}");
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_stale_connection_after_another_costs_the_user_nothing() {
    let site = Site::start("faults = [{ at = \"mail\", nth = 2, does = \"eof\" }]").await;
    let pool = builder().server(Key::parse(&site.server).unwrap()).build().unwrap();
    // Three connections have been used once each.
    let questions = || pool.verify_email("ann@good.test");
    let (one, two, three) = tokio::join!(questions(), questions(), questions());
    assert!([one, two, three].into_iter().all(|answer| answer.unwrap().is_accepted()));
    assert_eq!(pool.status().idle, 3);
    assert!(pool.verify_email("ann@good.test").await.unwrap().is_accepted());
    assert_eq!(site.stats().connections, 4);
}

#[tokio::test]
async fn a_timeout_may_be_infinite() {
    let site = Site::start("").await;
    let never = Duration::MAX;
    let pool = builder()
        .connection_timeout(never)
        .max_lifetime(never)
        .cleanup_interval(never)
        .idle_timeout(never)
        .acquire_timeout(never)
        .noop_after(never)
        .leak_after(never)
        .breaker_pause(never)
        .breaker_failures(1)
        .backoff(never)
        .server_ttl(never)
        .timeouts(Timeouts::all(never))
        .build()
        .unwrap();
    drop(pool.get(&site.server).await.unwrap());
    drop(pool.get_timeout(&site.server, never).await.unwrap());
    pass(SECOND).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let given_up = tokio::time::timeout(SECOND, pool.get(&nobody)).await;
    assert!(matches!(given_up, Ok(Err(_))), "{given_up:?}");
    assert!(pool.close(never).await);
}

#[tokio::test]
async fn any_number_of_connections_may_be_allowed() {
    let site = Site::start("").await;
    for most in [u32::MAX as usize, usize::MAX] {
        let pool = builder()
            .max_connections(most)
            .max_total_connections(most)
            .max_connecting(most)
            .max_retries(u32::MAX)
            .breaker_failures(u32::MAX)
            .build()
            .unwrap();
        drop(pool.get(&site.server).await.unwrap());
        pool.resize(most);
        drop(pool.get(&site.server).await.unwrap());
        let health = HealthManager::new(&pool, Duration::MAX).start();
        until("checked", || !health.results().is_empty()).await;
        health.stop().await;
        assert!(pool.close(SECOND).await);
    }
}

/// Checks that a pool can outlive the runtime of its connections, and keeps nothing of them.
#[test]
fn a_runtime_that_ends_leaves_nothing_behind() {
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let site = servers.block_on(Site::start(""));
    let pool: Pool = builder().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lent = runtime.block_on(async {
        let [one, two] = [pool.get(&site.server).await.unwrap(), pool.get(&site.server).await.unwrap()];
        drop(two);
        one
    });
    drop(runtime);
    // The other connection is found unusable, or found closed when it is used.
    servers.block_on(async {
        let connection = pool.get(&site.server).await.unwrap();
        drop(connection);
    });
    drop(pool);
    drop(lent);
    servers.block_on(until("closed", || site.stats().open == 0));
}

#[test]
fn a_connection_says_that_its_runtime_ended() {
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let site = servers.block_on(Site::start(""));
    let pool: Pool = builder().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut lent = runtime.block_on(pool.get(&site.server)).unwrap();
    drop(runtime);
    let error = servers.block_on(lent.command(&Command::Noop)).unwrap_err();
    assert!(matches!(error, SessionError::RuntimeEnded { .. }) && error.is_lost(), "{error:?}");
    assert!(error.to_string().contains("the tokio runtime ended"), "{error}");
    // The pool goes on in the other runtime.
    drop(lent);
    servers.block_on(async {
        assert!(pool.get(&site.server).await.unwrap().command(&Command::Noop).await.is_ok());
    });
}

/// The pool has a deadline of its own, far below that of a banner.
#[tokio::test]
async fn a_silent_server_may_expect_tls_and_the_pool_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let pool = builder().connection_timeout(Duration::from_millis(200)).max_retries(0).build().unwrap();
    let error = pool.get(&server).await.unwrap_err();
    let CheckoutError::Connect { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, OpenError::Timeout { is_silent: true, .. }), "{source:?}");
    assert!(source.to_string().contains("implicit"), "{source}");
}
