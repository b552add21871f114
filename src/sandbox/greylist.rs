//! Greylisting: the triplets that were seen, and when.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use fastrand::Rng;
use foldhash::HashMap;
use tokio::time::Instant;

use super::{Delay, chance};

/// The time when each triplet of client, sender and recipient was first seen, as postgrey stores it.
///
/// A triplet is stored as its hash: a million of them take 24 MB.
#[derive(Debug)]
pub(super) struct Greylist {
    age: Delay,
    seed: u64,
    first_seen: Mutex<HashMap<u64, Instant>>,
}

impl Greylist {
    pub(super) fn new(age: Delay, seed: u64) -> Self {
        Self { age, seed, first_seen: Mutex::default() }
    }

    /// Returns true if the triplet was first seen long enough ago.
    pub(super) fn lets_pass(&self, client: IpAddr, sender: &str, recipient: &str) -> bool {
        let triplet = chance::hash(
            self.seed,
            &[client.to_string().as_bytes(), sender.as_bytes(), recipient.as_bytes()],
        );
        let now = Instant::now();
        let mut first_seen = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *first_seen.entry(triplet).or_insert(now);
        now - since >= self.age.draw(&mut Rng::with_seed(triplet))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_triplet_passes_at_its_age() {
        let greylist = Greylist::new(Delay::from(Duration::from_secs(300)), 1);
        let asks = |sender, rcpt| greylist.lets_pass(Ipv4Addr::LOCALHOST.into(), sender, rcpt);
        assert!(!asks("a@x.test", "b@y.test"));
        tokio::time::advance(Duration::from_secs(299)).await;
        assert!(!asks("a@x.test", "b@y.test"));
        assert!(!asks("other@x.test", "b@y.test"), "another triplet starts again");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(asks("a@x.test", "b@y.test"));
        assert!(!asks("other@x.test", "b@y.test"));
    }
}
