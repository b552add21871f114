//! Which requests share a server, and by which name metrics know it.

use smtp_pool::{
    client::Endpoint,
    pool::{Key, Pool},
    proto::Credentials,
};

use super::{Site, builder};

/// The server of a site, with an address before or behind it at which nothing listens.
fn endpoints(site: &Site) -> [Endpoint; 2] {
    let live = site.sandbox.addr(super::HOST).unwrap();
    let mut dead = live;
    dead.set_ip([127, 0, 0, 2].into());
    [vec![live, dead], vec![dead, live]].map(|addrs| Endpoint::new("rotating.example", addrs))
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

#[tokio::test]
async fn a_setting_that_is_the_default_makes_no_other_server() {
    let site = Site::start("").await;
    let port = site.sandbox.addr(super::HOST).unwrap().port();
    let pool = builder().port(port).max_connections(1).build().unwrap();
    let same = Key::parse("127.0.0.1").unwrap();
    for key in [
        same.clone().tls(pool.config().tls),
        same.clone().helo(pool.config().helo.clone()),
        same.clone().server_name("127.0.0.1"),
        same,
    ] {
        drop(pool.get(key).await.unwrap());
    }
    drop(pool.get("127.0.0.1").await.unwrap());
    drop(pool.get(&site.server).await.unwrap());
    assert!(pool.try_get(Key::parse("127.0.0.1").unwrap()).is_some());
    assert_eq!((pool.status().servers.len(), site.stats().connections), (1, 1));
}

#[tokio::test]
async fn metrics_tell_ports_apart() {
    let [one, two] = [Site::start("").await, Site::start("").await];
    let pool = builder().build().unwrap();
    drop(pool.get(&one.server).await.unwrap());
    drop(pool.get(&two.server).await.unwrap());
    drop(pool.get(&two.server).await.unwrap());
    let seen = pool.metrics().snapshot();
    let waits = |server: &str| seen.server(server).unwrap().checkout_wait().unwrap().count;
    assert_eq!((waits(&one.server), waits(&two.server)), (1, 2));
    assert_eq!(seen.server(&one.server).unwrap().connections_opened, 1);
}

/// Accounts of a site whose server offers AUTH without TLS.
async fn with_auth() -> Site {
    Site::start("accounts = { tim = \"tanstaaftanstaaf\" }").await
}

fn account(site: &Site, user: &str, password: &str) -> Key {
    let credentials = Credentials::Password { user: user.to_owned(), password: password.to_owned() };
    Key::parse(&site.server).unwrap().credentials(credentials)
}

#[tokio::test]
async fn a_wrong_password_has_its_own_kind() {
    let site = with_auth().await;
    let pool: Pool = builder().build().unwrap();
    let error = pool.get(account(&site, "tim", "wrong")).await.unwrap_err();
    assert_eq!(error.kind(), "auth_refused");
    let seen = pool.metrics().snapshot();
    assert_eq!(seen.server(&site.server).unwrap().connection_errors["auth_refused"], 1);
}

#[tokio::test]
async fn a_label_names_the_server_in_metrics_and_errors() {
    let site = with_auth().await;
    let pool: Pool = builder().max_retries(0).build().unwrap();
    let key = account(&site, "tim", "tanstaaftanstaaf").label("newsletter");
    drop(pool.get(&key).await.unwrap());
    assert!(pool.try_get(&key).is_some());
    assert_eq!(*pool.status().servers[0].0, *"newsletter");
    assert_eq!(pool.metrics().snapshot().server("newsletter").unwrap().connections_opened, 1);
    let error = pool.get(account(&site, "tim", "wrong").label("bulk")).await.unwrap_err();
    assert!(error.to_string().contains("bulk"), "{error}");
}

#[tokio::test]
async fn credentials_that_were_renewed_make_no_other_server() {
    let site = with_auth().await;
    let pool: Pool = builder().build().unwrap();
    pool.get(account(&site, "tim", "expired")).await.unwrap_err();
    // The same identity: the next attempt uses what was given last.
    drop(pool.get(account(&site, "tim", "tanstaaftanstaaf")).await.unwrap());
    drop(pool.get(account(&site, "tim", "even newer")).await.unwrap());
    assert_eq!(pool.status().servers.len(), 1);
    pool.get(account(&site, "tom", "tanstaaftanstaaf")).await.unwrap_err();
    assert_eq!(pool.status().servers.len(), 2, "another identity");
}

#[tokio::test]
async fn a_renewed_secret_of_the_configured_user_makes_no_other_server() {
    let site = with_auth().await;
    let password =
        |password: &str| Credentials::Password { user: "tim".to_owned(), password: password.to_owned() };
    let pool: Pool = builder().max_retries(0).credentials(password("expired")).build().unwrap();
    pool.get(&site.server).await.unwrap_err();
    let taken = pool.get(account(&site, "tim", "tanstaaftanstaaf")).await.unwrap();
    assert_eq!(pool.status().servers.len(), 1);
    // A key without credentials keeps the secret that was given last.
    drop(pool.get(Key::parse(&site.server).unwrap()).await.unwrap());
    drop(pool.get(&site.server).await.unwrap());
    assert_eq!((pool.status().servers.len(), site.stats().connections), (1, 3));
    drop(taken);
}
