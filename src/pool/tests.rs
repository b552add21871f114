//! Tests that need private parts: that a checkout takes no lock, and what happens between two steps.

#![cfg(feature = "sandbox")]

use std::{
    panic::Location,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

use super::{Builder, Pool, connect::ReservedSlot, server::Server};
use crate::{
    net::TlsPolicy,
    sandbox::{Sandbox, World},
};

#[tokio::test]
async fn a_million_uncontended_cycles_take_no_lock() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    let address = sandbox.addr("mx.good.test").unwrap().to_string();
    let pool = Pool::builder().tls(TlsPolicy::Off).build().unwrap();
    drop(pool.get(&address).await.unwrap());
    let server = pool.registry.server(&address).unwrap();
    let before = server.slots.locked();
    for _ in 0..1_000_000 {
        drop(pool.get(&address).await.unwrap());
    }
    assert_eq!(server.slots.locked(), before);
    // The counter counts: if none is idle, a caller joins the queue.
    let held = server.take(true, Location::caller()).unwrap();
    assert!(pool.get(&address).await.is_ok());
    assert!(server.slots.locked() > before);
    drop(held);
}

/// Opens a connection without a caller.
async fn open(server: &Arc<Server>) {
    assert!(server.slots.reserve_spare());
    ReservedSlot::new(server).fill(server.open().await.unwrap());
}

fn builder() -> Builder {
    Pool::builder().tls(TlsPolicy::Off)
}

/// Starts a server that greets, and that closes its connections when it is notified.
async fn server() -> (String, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, close) = (listener.local_addr().unwrap().to_string(), Arc::new(Notify::new()));
    let told = Arc::clone(&close);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            tokio::select! {
                () = told.notified() => open.clear(),
                Ok((mut socket, _)) = listener.accept() => {
                    socket.write_all(b"220 mx\r\n").await.unwrap();
                    assert!(socket.read(&mut [0; 512]).await.unwrap() > 0);
                    socket.write_all(b"250 mx\r\n").await.unwrap();
                    open.push(socket);
                }
            }
        }
    });
    (address, close)
}

/// Has the server close its connections. The pause lets the runtime notice it.
async fn have_closed(close: &Notify) {
    close.notify_one();
    tokio::time::sleep(Duration::from_millis(40)).await;
}

#[tokio::test]
async fn pauses_grow_where_a_server_closes_what_it_has_just_opened() {
    let (address, close) = server().await;
    let base = Duration::from_millis(40);
    let pool = builder().backoff(base).build().unwrap();
    let server = pool.registry.server(&address).unwrap();
    for _ in 0..3 {
        open(&server).await;
    }
    have_closed(&close).await;
    let began = Instant::now();
    let lent = Arc::clone(&server).get(Duration::from_secs(10), Location::caller()).await.unwrap();
    assert!(!lent.is_reused());
    // Half of 1, 2 and 4 times the base are certain, the other half is random.
    let took = began.elapsed();
    assert!(took >= base * 7 / 2 && took < 100 * base, "{took:?}");
}

#[tokio::test]
async fn where_a_connection_in_use_was_closed_there_is_no_pause() {
    let (address, close) = server().await;
    let pool = builder().backoff(Duration::from_secs(600)).build().unwrap();
    drop(pool.get(&address).await.unwrap());
    have_closed(&close).await;
    let server = pool.registry.server(&address).unwrap();
    let lent = server.get(Duration::from_secs(10), Location::caller()).await.unwrap();
    assert!(!lent.is_reused());
}

#[tokio::test]
async fn a_server_that_is_in_use_is_not_forgotten() {
    let (address, _) = server().await;
    let pool = builder().build().unwrap();
    let server = pool.registry.server(&address).unwrap();
    let turn = server.slots.join().unwrap();
    server.forget(&pool.registry.servers);
    assert_eq!(pool.status().servers.len(), 1, "somebody waits");
    drop(turn);
    open(&server).await;
    server.forget(&pool.registry.servers);
    assert_eq!(pool.status().servers.len(), 1, "there is a connection");
    drop(server.slots.take());
    server.forget(&pool.registry.servers);
    assert_eq!(pool.status().servers.len(), 0);
    // A caller that found it before is sent back to the registry.
    assert!(server.slots.join().is_none());
    assert!(pool.get(&address).await.is_ok());
}

#[tokio::test]
async fn who_gets_in_line_while_some_are_idle_gets_one_of_them() {
    let (address, _) = server().await;
    let pool = builder().build().unwrap();
    let server = pool.registry.server(&address).unwrap();
    open(&server).await;
    open(&server).await;
    let turn = server.slots.join().unwrap();
    assert_eq!((server.slots.idle(), server.slots.waiting()), (1, 0));
    assert!(turn.await.is_ok());
    assert_eq!(server.slots.idle(), 1);
}
