//! Drops every call of the pool after each number of polls, under every fault of a server at each stage. It does so
//! alone and while another user waits. Then the pool is complete, and the other user was served.
//!
//! Time is paused, so that a silent server costs no time.

use std::{fmt, future::poll_fn, pin::pin, task::Poll, time::Duration};

use smtp_pool::{
    client::Timeouts,
    pool::{CheckoutError, Envelope, Key, Pool, PooledConnection},
    proto::{Command, Mailbox, ReversePath},
    sandbox::{Does, Fault, FaultStage, HostConfig, Sandbox, World},
};
use tokio::time::{sleep, timeout};

use super::builder;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    /// A checkout from a pool without connections, so that one is opened.
    Get,
    /// The same with a deadline, which a silent server exceeds.
    GetTimeout,
    /// A checkout of an idle connection, which is checked with NOOP first.
    GetAsked,
    Verify,
    Send,
    Close,
    /// A call for a server with an idle connection.
    CheckIdle,
    /// A call for a server without one.
    CheckFresh,
}

impl Call {
    const ALL: [Self; 8] = [
        Self::Get,
        Self::GetTimeout,
        Self::GetAsked,
        Self::Verify,
        Self::Send,
        Self::Close,
        Self::CheckIdle,
        Self::CheckFresh,
    ];

    /// Returns the stages at which a fault can meet the call.
    fn stages(self) -> &'static [FaultStage] {
        match self {
            Self::Get | Self::GetTimeout | Self::CheckFresh => &[FaultStage::Connect, FaultStage::Ehlo],
            Self::GetAsked | Self::CheckIdle => &[FaultStage::Noop],
            Self::Verify => &[FaultStage::Ehlo, FaultStage::Mail, FaultStage::Rcpt, FaultStage::Rset],
            Self::Send => &[
                FaultStage::Connect,
                FaultStage::Mail,
                FaultStage::Rcpt,
                FaultStage::Data,
                FaultStage::Message,
                FaultStage::Quit,
            ],
            Self::Close => &[FaultStage::Quit],
        }
    }

    async fn make(self, pool: &Pool, server: &Key) {
        match self {
            Self::Get | Self::GetAsked => drop(pool.get(server).await),
            Self::GetTimeout => drop(pool.get_timeout(server, SECOND / 2).await),
            Self::Verify => drop(pool.verify_email("ann@good.test").await),
            Self::Send => {
                let envelope = Envelope::new(ReversePath::Null, Mailbox::parse("ann@good.test").unwrap());
                drop(pool.send(&envelope, b"Subject: hi\r\n\r\nhi\r\n").await);
            }
            Self::Close => drop(pool.close(60 * SECOND).await),
            Self::CheckIdle | Self::CheckFresh => drop(pool.check_health().await),
        }
    }

    /// Prepares the connections that the call expects.
    async fn prepare(self, pool: &Pool, server: &Key) {
        match self {
            Self::GetAsked | Self::Close | Self::CheckIdle => drop(pool.get(server).await.unwrap()),
            // The server is known, but has no connection.
            Self::CheckFresh => drop(pool.get_timeout(server, Duration::ZERO).await),
            Self::Get | Self::GetTimeout | Self::Verify | Self::Send => {}
        }
        settled(pool).await;
        if self == Self::CheckFresh
            && let Some(mut connection) = pool.try_get(server)
        {
            let _ = connection.quit().await;
        }
    }
}

/// A server with a fault at one stage, or with none.
#[derive(Clone, PartialEq)]
struct Case {
    call: Call,
    fault: Option<(FaultStage, Does)>,
    crowded: bool,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} with fault {:?}{}",
            self.call,
            self.fault,
            if self.crowded { ", crowded" } else { "" }
        )
    }
}

const FAULTS: [Does; 8] = [
    Does::Silence,
    Does::Skip,
    Does::Eof,
    Does::Garbage,
    Does::EndlessContinuation,
    Does::LongLine,
    Does::Truncate,
    Does::ExtraReply,
];

/// Polls `future` when it is woken, and drops it after `polls` polls. Returns true if it ended before.
async fn drop_after<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    })
    .await
}

/// Waits until a condition holds. Paused time passes only when no task can run.
async fn in_time(what: impl fmt::Debug, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(SECOND / 100).await;
        }
    };
    timeout(300 * SECOND, waiting).await.unwrap_or_else(|_| panic!("never settled: {what:?}"));
}

/// Waits until no user waits, and no connection is lent or being opened.
async fn settled(pool: &Pool) {
    in_time(pool, || {
        let status = pool.status();
        (status.active, status.connecting, status.waiting) == (0, 0, 0)
    })
    .await;
}

/// Makes the call with this many polls, and checks the pool. Returns true if the call ended by itself.
async fn trial(sandbox: &Sandbox, case: &Case, polls: usize) -> bool {
    let host = name(case.fault.as_ref());
    let server = Key::parse(&sandbox.addr(&host).unwrap().to_string()).unwrap();
    let pool = builder()
        .server(server.clone())
        .max_connections(if case.crowded { 1 } else { 2 })
        .timeouts(Timeouts::all(SECOND))
        .connection_timeout(SECOND)
        .acquire_timeout(20 * SECOND)
        .noop_after(Duration::ZERO)
        .max_retries(1)
        .leak_after(3_600 * SECOND)
        .build()
        .unwrap();
    case.call.prepare(&pool, &server).await;
    let other = case.crowded.then(|| {
        let (pool, server) = (pool.clone(), server.clone());
        tokio::spawn(
            async move { pool.get(&server).await.map(|connection: PooledConnection| drop(connection)) },
        )
    });
    let ended = drop_after(case.call.make(&pool, &server), polls).await;
    if let Some(other) = other {
        let got = timeout(60 * SECOND, other).await.expect("the other user waits without end").unwrap();
        let fair = match &got {
            Ok(()) => true,
            Err(CheckoutError::Closed) => case.call == Call::Close,
            Err(CheckoutError::Connect { source, .. }) => {
                case.fault.is_some() && source.kind() != "abandoned"
            }
            Err(_) => case.fault.is_some(),
        };
        assert!(fair, "the other user got {got:?}: {case:?}, {polls} polls");
    }
    settled(&pool).await;
    let mut idle = Vec::new();
    while let Some(mut connection) = pool.try_get(&server) {
        if case.fault.as_ref().is_none_or(|(stage, _)| *stage != FaultStage::Noop) {
            let answer = connection.command(&Command::Noop).await;
            assert!(
                answer.as_ref().is_ok_and(|reply| reply.is_positive()),
                "{answer:?}: {case:?}, {polls} polls"
            );
        }
        idle.push(connection);
    }
    drop(idle);
    assert!(pool.close(60 * SECOND).await, "not closed: {pool:?}, {case:?}, {polls} polls");
    let status = pool.status();
    assert_eq!(
        (status.idle, status.active, status.connecting, status.waiting),
        (0, 0, 0, 0),
        "{case:?}, {polls} polls"
    );
    in_time(case, || sandbox.stats(&host).unwrap().open == 0).await;
    ended
}

fn name(fault: Option<&(FaultStage, Does)>) -> String {
    match fault {
        None => "good".to_owned(),
        Some((stage, does)) => format!("{stage:?}-{does:?}").to_lowercase(),
    }
}

/// Starts a host for each fault, and one without.
async fn sandbox() -> Sandbox {
    let mut world =
        World::from_toml("[[domain]]\nname = \"good.test\"\nusers = [\"ann\"]\n[[host]]\nname = \"good\"")
            .unwrap();
    let mut stages: Vec<FaultStage> = Vec::new();
    for stage in Call::ALL.into_iter().flat_map(Call::stages) {
        if !stages.contains(stage) {
            stages.push(*stage);
        }
    }
    for stage in stages {
        for does in FAULTS {
            let mut host = HostConfig::new(&name(Some(&(stage, does.clone()))));
            host.faults = vec![Fault::new(stage, does)];
            world.hosts.push(host);
        }
    }
    for domain in &mut world.domains {
        domain.hosts = world.hosts.iter().map(|host| host.name.clone()).collect();
    }
    Sandbox::start(world).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_call_may_be_dropped_anywhere_under_any_fault() {
    let sandbox = sandbox().await;
    for call in Call::ALL {
        let at = |stage: &FaultStage| FAULTS.map(|does| Some((*stage, does)));
        let faults = call.stages().iter().flat_map(at).chain([None]);
        for (fault, crowded) in faults.flat_map(|fault| [(fault.clone(), false), (fault, true)]) {
            let case = Case { call, fault, crowded };
            let mut polls = 0;
            while !trial(&sandbox, &case, polls).await {
                polls += 1;
            }
            assert!(polls > 0, "never pending: {case:?}");
        }
    }
}
