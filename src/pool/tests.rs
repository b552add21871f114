//! What can only be seen from inside: that the usual way takes no lock.

use std::panic::Location;

use super::Pool;
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
    // The counter counts: where none is idle, there is a line.
    let held = server.take(true, Location::caller()).unwrap();
    assert!(pool.get(&address).await.is_ok());
    assert!(server.slots.locked() > before);
    drop(held);
}
