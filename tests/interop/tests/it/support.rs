//! Functions that several tests use.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_pool::{
    client::{ClientConfig, Timeouts},
    metrics::{Metrics, Snapshot},
    proto::ClientName,
    verify::{Record, Routes, Verifier, VerifierConfig},
};
use smtp_pool_interop::{Address, World};

/// Returns the name of the client.
pub(crate) fn name() -> ClientName {
    ClientName::parse("verifier.interop.test").expect("a name")
}

/// Returns a client with deadlines that only a failing server exceeds, even on a busy machine.
pub(crate) fn client() -> ClientConfig {
    let mut client = ClientConfig::new(name());
    client.timeouts = Timeouts::all(Duration::from_secs(30));
    client
}

/// Returns the defaults of the verifier, with routes to the servers of the tests.
pub(crate) fn config(routes: Routes) -> VerifierConfig {
    let mut config = VerifierConfig::new(name());
    config.routes = routes;
    config.schedule = Vec::new();
    config
}

/// The result of a run.
pub(crate) struct Run {
    /// Each address with its record, in the order of the list.
    pub(crate) records: Vec<(Address, Record)>,
    pub(crate) metrics: Snapshot,
    pub(crate) took: Duration,
}

/// Verifies all addresses of the world.
pub(crate) async fn verify(config: VerifierConfig, world: &World) -> Run {
    verify_and(config, world, |_| {}).await
}

/// Verifies all addresses of the world. Calls `seen` with the number of records at each new record.
pub(crate) async fn verify_and(config: VerifierConfig, world: &World, mut seen: impl FnMut(usize)) -> Run {
    let metrics = Arc::new(Metrics::new());
    let verifier = Verifier::new(config, Arc::clone(&metrics)).expect("a verifier");
    let started = Instant::now();
    let mut stream = verifier.verify_all(world.texts());
    let mut records = HashMap::new();
    while let Some(record) = stream.next().await {
        let again = records.insert(record.address.clone(), record);
        assert!(again.is_none(), "two records of one address: {again:?}");
        seen(records.len());
    }
    let took = started.elapsed();
    let pair = |address: &Address| {
        let record = records.remove(&address.text);
        (address.clone(), record.unwrap_or_else(|| panic!("no record of {address:?}")))
    };
    let pairs = world.addresses.iter().map(pair).collect();
    assert!(records.is_empty(), "records that nobody asked for: {records:?}");
    Run { records: pairs, metrics: metrics.snapshot(), took }
}

impl Run {
    /// Fails unless every address got the right verdict.
    #[track_caller]
    pub(crate) fn assert_right(&self) {
        self.assert_all(|address, record| (record.status, record.sub_status) == address.kind.verdict());
    }

    /// Fails unless every record passes.
    #[track_caller]
    pub(crate) fn assert_all(&self, passes: impl Fn(&Address, &Record) -> bool) {
        let wrong = self.records.iter().filter(|(address, record)| !passes(address, record));
        let wrong: Vec<_> = wrong
            .map(|(address, record)| {
                format!("{:?}: {}", address.kind, serde_json::to_string(record).expect("JSON"))
            })
            .collect();
        let few = wrong[..wrong.len().min(8)].join("\n");
        assert!(wrong.is_empty(), "{} of {} are wrong, as\n{few}", wrong.len(), self.records.len());
    }

    /// Returns how many records pass.
    pub(crate) fn count(&self, passes: impl Fn(&Record) -> bool) -> usize {
        self.records.iter().filter(|(_, record)| passes(record)).count()
    }

    /// Returns the addresses per second, including those that no server was asked about.
    pub(crate) fn speed(&self) -> f64 {
        self.records.len() as f64 / self.took.as_secs_f64()
    }
}
