//! Measures how the pools of the peers check out an idle connection and take it back, beside our results of
//! `benches/pool.rs`.
//!
//! Each pool holds the same kind of connection, boxed like ours. At checkout it makes the same check as our pool
//! ([`is_quiet`]), without a round trip or a system call.
//!
//! `mutex and semaphore` is a pool that one would write by hand: a `Mutex<VecDeque>`, and the semaphore of tokio to
//! wait on.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{
    collections::VecDeque,
    hint::black_box,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use criterion::Criterion;
use ours::{
    CONNECTIONS, Connection,
    wire::{self, Server},
};
use tokio::{io::Interest, sync::Semaphore};

#[expect(dead_code, reason = "its main is unused here")]
#[path = "../../pool.rs"]
mod ours;

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let server = Server::start(Duration::ZERO);
    ours::ours(&mut criterion, &server);

    let runtime = ours::runtime();
    let sessions = VecDeque::from(ours::sessions(&runtime, &server));
    let by_hand = Arc::new((Mutex::new(sessions), Semaphore::new(CONNECTIONS)));
    ours::bench(&mut criterion, "mutex and semaphore", &runtime, move || {
        let pool = Arc::clone(&by_hand);
        async move {
            let permit = pool.1.acquire().await.unwrap();
            let session = pool.0.lock().unwrap().pop_front().unwrap();
            assert!(is_quiet(&session));
            pool.0.lock().unwrap().push_back(black_box(session));
            drop(permit);
        }
    });

    let size = u32::try_from(CONNECTIONS).unwrap();
    let builder = bb8::Pool::builder().max_size(size).min_idle(size);
    let bb8 = runtime.block_on(builder.build(Manager(server.addr))).unwrap();
    ours::bench(&mut criterion, "bb8", &runtime, move || {
        let pool = bb8.clone();
        async move { drop(black_box(pool.get().await.unwrap())) }
    });

    let deadpool: deadpool::managed::Pool<Manager> =
        deadpool::managed::Pool::builder(Manager(server.addr)).max_size(CONNECTIONS).build().unwrap();
    ours::bench(&mut criterion, "deadpool", &runtime, move || {
        let pool = deadpool.clone();
        async move { drop(black_box(pool.get().await.unwrap())) }
    });

    let size = u64::try_from(CONNECTIONS).unwrap();
    let mobc = mobc::Pool::builder().max_open(size).max_idle(size).build(Manager(server.addr));
    ours::bench(&mut criterion, "mobc", &runtime, move || {
        let pool = mobc.clone();
        async move { drop(black_box(pool.get().await.unwrap())) }
    });
    queue(&mut criterion, &server);
    criterion.final_summary();
}

/// Measures a long queue for few connections.
fn queue(criterion: &mut Criterion, server: &Server) {
    ours::our_queue(criterion, server);
    let runtime = ours::runtime();
    let size = u32::try_from(ours::QUEUE_CONNECTIONS).unwrap();
    let bb8 = runtime.block_on(bb8::Pool::builder().max_size(size).build(Manager(server.addr))).unwrap();
    ours::waits(criterion, "bb8", &runtime, move || {
        let pool = bb8.clone();
        async move { pool.get_owned().await.unwrap() }
    });
    let deadpool: deadpool::managed::Pool<Manager> = deadpool::managed::Pool::builder(Manager(server.addr))
        .max_size(ours::QUEUE_CONNECTIONS)
        .build()
        .unwrap();
    ours::waits(criterion, "deadpool", &runtime, move || {
        let pool = deadpool.clone();
        async move { pool.get().await.unwrap() }
    });
}

/// Returns whether the runtime knows of nothing to read, which our pool checks, too.
fn is_quiet(session: &Connection) -> bool {
    session.is_idle() && session.stream().try_io(Interest::READABLE, || Ok(())).is_err()
}

struct Manager(SocketAddr);

/// The connection is closed, or out of step.
#[derive(Debug)]
struct Unfit;

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = Unfit;

    async fn connect(&self) -> Result<Connection, Unfit> {
        Ok(Box::new(wire::session(self.0).await))
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), Unfit> {
        if is_quiet(connection) { Ok(()) } else { Err(Unfit) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        !connection.is_idle()
    }
}

impl deadpool::managed::Manager for Manager {
    type Type = Connection;
    type Error = Unfit;

    async fn create(&self) -> Result<Connection, Unfit> {
        Ok(Box::new(wire::session(self.0).await))
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Unfit> {
        if is_quiet(connection) { Ok(()) } else { Err(Unfit.into()) }
    }
}

#[mobc::async_trait]
impl mobc::Manager for Manager {
    type Connection = Connection;
    type Error = Unfit;

    async fn connect(&self) -> Result<Connection, Unfit> {
        Ok(Box::new(wire::session(self.0).await))
    }

    async fn check(&self, connection: Connection) -> Result<Connection, Unfit> {
        if is_quiet(&connection) { Ok(connection) } else { Err(Unfit) }
    }
}
