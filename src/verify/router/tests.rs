use std::{
    net::{SocketAddr, TcpListener},
    sync::OnceLock,
};

use tokio::{task::JoinHandle, time::sleep};

use super::*;
use crate::{
    client::{Endpoint, Timeouts},
    metrics::Metrics,
    proto::ClientName,
    verify::{
        Events, LaneState, Providers, Routes, SubStatus, Tasks, Unreachable, Verifier, VerifierConfig,
        run_state::RunTable,
    },
};

/// Returns an address where nothing listens.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn config(routes: Routes) -> VerifierConfig {
    let mut config = VerifierConfig::new(ClientName::parse("verifier.example.org").unwrap());
    config.client.timeouts = Timeouts::all(Duration::from_secs(2));
    (config.schedule, config.routes) = (Vec::new(), routes);
    config
}

/// Returns routes for `d0.test` and so on. Each has its own exchanger, where nothing listens.
fn routes(domains: usize) -> Routes {
    let (mut routes, free) = (Routes::new(), free());
    for n in 0..domains {
        let exchanger = Endpoint { host: format!("mx{n}.test").into(), addrs: vec![free] };
        routes.insert(&format!("d{n}.test"), Ok(vec![exchanger]));
    }
    routes
}

fn task(id: usize, address: &str) -> Task {
    Task { id: id as u64, address: address.to_owned(), attempts: 0 }
}

/// An engine, and how many lanes it has.
struct Engine {
    verifier: Verifier,
    router: JoinHandle<()>,
    runs: Arc<RunTable>,
}

impl Engine {
    fn start(config: VerifierConfig, change: impl FnOnce(&mut Router)) -> Self {
        let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
        let runs = OnceLock::new();
        let router = verifier.start_engine(|router| {
            change(router);
            let _ = runs.set(Arc::clone(&router.context.runs));
        });
        Self { verifier, router, runs: runs.into_inner().unwrap() }
    }

    /// Returns the number of lanes. Each holds the table of runs, as the context, the router and the test do.
    fn lanes(&self) -> usize {
        Arc::strong_count(&self.runs) - 3
    }

    fn run(&self) -> (Tasks, Events) {
        self.verifier.start([])
    }
}

fn few_lanes(router: &mut Router) {
    (router.most_domains, router.most_lanes, router.lanes_to_forget) = (50, 20, 20);
}

/// A run of many domains. Each has its own exchanger, where nothing listens; every third has none.
#[tokio::test(start_paused = true)]
async fn any_number_of_domains_is_routed_and_few_are_remembered() {
    const DOMAINS: usize = 600;
    let mut routes = routes(DOMAINS);
    for n in (0..DOMAINS).step_by(3) {
        routes.insert(&format!("d{n}.test"), Err(Unreachable::NullMx));
    }
    let engine = Engine::start(config(routes), few_lanes);
    let (tasks, mut events) = engine.run();
    let mut found = vec![0; 2 * DOMAINS];
    let mut most = 0;
    // Twice, so that forgotten domains come again.
    for id in 0..2 * DOMAINS {
        tasks.send(vec![task(id, &format!("ann@d{}.test", id % DOMAINS))]).await.unwrap();
        // One at a time, so that the earlier lanes are idle.
        loop {
            match timeout(Duration::from_secs(20), events.next()).await.unwrap().unwrap() {
                Event::Done { id, record } => {
                    found[id as usize] += 1;
                    let wanted = match id % 3 {
                        0 => SubStatus::DoesNotAcceptMail,
                        _ => SubStatus::FailedSmtpConnection,
                    };
                    assert_eq!(record.sub_status, wanted);
                    break;
                }
                Event::Lane(status) => assert_ne!(status.state, LaneState::Open),
                other => panic!("{other:?}"),
            }
        }
        most = most.max(engine.lanes());
    }
    drop(tasks);
    assert!(events.next().await.is_none_or(|event| matches!(event, Event::Lane(_))));
    assert!(found.iter().all(|count| *count == 1), "each has one answer");
    assert!(most < 100, "{most} of {DOMAINS} lanes are remembered");
}

/// A run of many domains, all sent at once. Each has its own exchanger, where nothing listens.
#[tokio::test(start_paused = true)]
async fn few_lanes_wait_for_their_first_connection() {
    const DOMAINS: usize = 600;
    let mut config = config(routes(DOMAINS));
    // With this deadline, the pause before the second attempt does not make the host slow.
    config.client.timeouts = Timeouts::all(Duration::from_secs(30));
    config.max_connections = 4;
    let engine = Engine::start(config, |router| {
        few_lanes(router);
        router.opening_permits = Arc::new(Semaphore::new(20));
    });
    let (tasks, mut events) = engine.run();
    tasks.send((0..DOMAINS).map(|n| task(n, &format!("ann@d{n}.test"))).collect()).await.unwrap();
    drop(tasks);
    let (mut done, mut most) = (0, 0);
    while let Some(events) = events.next_many().await {
        done += events.iter().filter(|event| matches!(event, Event::Done { .. })).count();
        most = most.max(engine.lanes());
    }
    assert_eq!(done, DOMAINS);
    assert!(most < 200, "{most} of {DOMAINS} lanes at once");
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_is_forgotten_also_that_of_a_provider() {
    let mut config = config(routes(3));
    let providers = "[[provider]]\nname = \"known\"\nmx = [\"mx0.test\"]\nper_day = 10\n";
    config.providers = Some(Providers::from_toml(providers).unwrap().into());
    let engine = Engine::start(config, |_| {});
    for n in 0..3 {
        let record = engine.verifier.verify(&format!("ann@d{n}.test")).await.unwrap();
        assert_eq!(record.sub_status, SubStatus::FailedSmtpConnection);
    }
    assert_eq!(engine.lanes(), 3);
    sleep(Duration::from_secs(500)).await;
    assert_eq!(engine.lanes(), 3, "they were used lately");
    // The router searches once a minute.
    sleep(Duration::from_secs(300)).await;
    assert_eq!(engine.lanes(), 0);
    // It comes back when it is needed.
    engine.verifier.verify("ann@d1.test").await.unwrap();
    assert_eq!(engine.lanes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_look_up_is_repeated_for_a_run_with_a_schedule_only() {
    let mut routes = Routes::new();
    let failure = Unreachable::Dns { timeout: false, reason: "SERVFAIL".into() };
    routes.insert("*", Err(failure));
    let mut config = config(routes);
    config.schedule = vec![Duration::from_secs(300), Duration::from_secs(900)];
    let engine = Engine::start(config, |_| {});
    let start = Instant::now();
    let mut list = engine.verifier.verify_all(["ann@a.test".to_owned()]);
    let call = engine.verifier.verify("bob@a.test").await.unwrap();
    assert_eq!((call.sub_status, call.attempts), (SubStatus::MailServerTemporaryError, 0));
    assert!(start.elapsed() < Duration::from_secs(1));
    let record = list.next().await.unwrap();
    assert_eq!((record.sub_status, record.attempts), (SubStatus::MailServerTemporaryError, 0));
    assert!((1_200..1_210).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(list.next().await, None);
    // A run that is dropped takes its addresses along.
    drop(engine.verifier.verify_all(["ann@a.test".to_owned()]));
    let Engine { verifier, router, .. } = engine;
    drop((verifier, list));
    timeout(Duration::from_secs(10), router).await.unwrap().unwrap();
}
