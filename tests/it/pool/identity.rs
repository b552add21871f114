//! Which requests share a server.

use smtp_pool::{client::Endpoint, pool::Key};

use super::{Site, builder};

/// The server of a site, with an address before or behind it at which nothing listens.
fn endpoints(site: &Site) -> [Endpoint; 2] {
    let live = site.sandbox.addr(super::HOST).unwrap();
    let mut dead = live;
    dead.set_ip([127, 0, 0, 2].into());
    [vec![live, dead], vec![dead, live]].map(|addrs| Endpoint { host: "rotating.example".into(), addrs })
}

#[tokio::test]
async fn the_order_of_addresses_makes_no_other_server() {
    let site = Site::start("").await;
    let pool = builder().max_connections(1).build().unwrap();
    for round in 0..6 {
        let connection = pool.get(Key::at(&endpoints(&site)[round % 2])).await.unwrap();
        assert_eq!(pool.status().servers.len(), 1);
        drop(connection);
    }
    assert_eq!(site.stats().connections, 1, "the sandbox counts one");
    // Other addresses of the same name are used from then on.
    let _ = pool.get(Key::at(&endpoints(&site)[0])).await.unwrap().quit().await;
    let [mut gone, back] = endpoints(&site);
    gone.addrs.remove(0);
    let pool = builder().max_retries(0).build().unwrap();
    pool.get(Key::at(&gone)).await.unwrap_err();
    drop(pool.get(Key::at(&back)).await.unwrap());
    assert_eq!(pool.status().servers.len(), 1);
}
