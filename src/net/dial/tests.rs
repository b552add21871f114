use std::{cell::RefCell, collections::HashMap, future::pending};

use tokio::net::TcpListener;

use super::*;
use crate::net::ErrorKind;

const DELAY: Duration = Duration::from_millis(250);

fn v4(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 25))
}

fn v6(host: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 25))
}

/// The outcome of an address, after a number of milliseconds. An address that is not in the script never answers.
type Script = HashMap<SocketAddr, (u64, Result<(), io::ErrorKind>)>;

struct Outcome {
    winner: Option<SocketAddr>,
    /// The attempts, each with its start in milliseconds after the start of the race.
    starts: Vec<(SocketAddr, u128)>,
    failures: Vec<SocketAddr>,
    took: u128,
}

async fn run(addresses: &[SocketAddr], script: Script) -> Outcome {
    let begin = Instant::now();
    let starts = RefCell::new(Vec::new());
    let mut failures = Vec::new();
    let connect = async |peer| {
        starts.borrow_mut().push((peer, begin.elapsed().as_millis()));
        match script.get(&peer) {
            Some(&(after, answer)) => {
                sleep(Duration::from_millis(after)).await;
                answer.map(|()| peer).map_err(io::Error::from)
            }
            None => pending().await,
        }
    };
    let race = race(addresses.to_vec(), DELAY, connect, &mut failures);
    let winner = timeout(Duration::from_secs(30), race).await.unwrap_or(None);
    let failures = failures.into_iter().map(|failure| failure.peer).collect();
    Outcome { winner, starts: starts.into_inner(), failures, took: begin.elapsed().as_millis() }
}

#[test]
fn families_alternate() {
    let order = |list: &[SocketAddr]| interleave(list.iter().copied());
    assert_eq!(
        order(&[v6(1), v6(2), v6(3), v4(1), v4(2)]),
        [v6(1), v4(1), v6(2), v4(2), v6(3)],
        "RFC 8305 4"
    );
    assert_eq!(order(&[v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)], "the first address decides");
    assert_eq!(order(&[v4(2), v4(1)]), [v4(2), v4(1)], "one family keeps its order");
    assert_eq!(order(&[]), []);
}

#[tokio::test(start_paused = true)]
async fn a_quick_answer_starts_nothing_else() {
    let outcome = run(&[v6(1), v4(1)], [(v6(1), (249, Ok(())))].into()).await;
    assert_eq!(outcome.winner, Some(v6(1)));
    assert_eq!(outcome.starts, [(v6(1), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_one_is_joined_after_the_delay_and_may_still_win() {
    let script: Script = [(v6(1), (300, Ok(()))), (v4(1), (100, Ok(())))].into();
    let outcome = run(&[v6(1), v4(1)], script).await;
    assert_eq!(outcome.winner, Some(v6(1)), "at 300 ms, before the other at 350 ms");
    assert_eq!(outcome.starts, [(v6(1), 0), (v4(1), 250)]);
    assert_eq!(outcome.took, 300);
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_costs_the_delay_only() {
    let outcome = run(&[v6(1), v4(1)], [(v4(1), (20, Ok(())))].into()).await;
    assert_eq!((outcome.winner, outcome.took), (Some(v4(1)), 270));
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_at_once() {
    let refused = Err(io::ErrorKind::ConnectionRefused);
    let script: Script = [(v6(1), (5, refused)), (v4(1), (5, refused)), (v6(2), (5, Ok(())))].into();
    let outcome = run(&[v6(1), v4(1), v6(2), v4(2)], script).await;
    assert_eq!(outcome.winner, Some(v6(2)));
    assert_eq!(outcome.starts, [(v6(1), 0), (v4(1), 5), (v6(2), 10)]);
    assert_eq!(outcome.failures, [v6(1), v4(1)]);
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_from_the_latest_start() {
    // The first fails while the second is running: the third starts at once, the fourth after a whole delay.
    let script: Script = [(v6(1), (300, Err(io::ErrorKind::HostUnreachable)))].into();
    let outcome = run(&[v6(1), v4(1), v6(2), v4(2)], script).await;
    assert_eq!(outcome.winner, None);
    assert_eq!(outcome.starts, [(v6(1), 0), (v4(1), 250), (v6(2), 300), (v4(2), 550)]);
}

#[tokio::test(start_paused = true)]
async fn the_losers_are_dropped_with_the_race() {
    let socket = std::rc::Rc::new(());
    let connect = async |peer| {
        let _held = socket.clone();
        if peer == v4(1) { Ok(peer) } else { pending().await }
    };
    let mut failures = Vec::new();
    let winner = race(vec![v6(1), v6(2), v4(1)], DELAY, connect, &mut failures).await;
    assert_eq!(winner, Some(v4(1)));
    assert_eq!(std::rc::Rc::strong_count(&socket), 1);
}

#[tokio::test(start_paused = true)]
async fn all_failing_ends_the_race() {
    let script = [v4(1), v4(2)].map(|peer| (peer, (5, Err(io::ErrorKind::ConnectionRefused))));
    let outcome = run(&[v4(1), v4(2)], script.into()).await;
    assert_eq!((outcome.winner, outcome.took), (None, 10));
    assert_eq!(outcome.failures, [v4(1), v4(2)]);
}

#[test]
fn a_refusal_tells_more_than_a_missing_route() {
    let failure = |peer, kind| AttemptError { peer, source: io::Error::from(kind) };
    let error = DialError::from_failures(vec![
        failure(v4(1), io::ErrorKind::ConnectionRefused),
        failure(v4(2), io::ErrorKind::ConnectionRefused),
        failure(v6(1), io::ErrorKind::NetworkUnreachable),
    ]);
    assert_eq!(error.kind(), ErrorKind::Refused);
    let DialError::Failed { telling, others } = error else { panic!("{error:?}") };
    assert_eq!(telling.peer, v4(2), "the last of the most telling");
    assert_eq!(others.iter().map(|failure| failure.peer).collect::<Vec<_>>(), [v4(1), v6(1)]);
}

/// Returns an address without a listener: its port was free a moment ago.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn goes_on_to_the_address_that_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let stream = Dialer::default().dial(&[closed_port().await, open]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn a_refusal_names_its_address() {
    let peer = closed_port().await;
    let error = Dialer::default().dial(&[peer]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let attempt = std::error::Error::source(&error).unwrap();
    assert_eq!(attempt.to_string(), format!("cannot connect to {peer}"));
    let system = attempt.source().unwrap();
    assert!(system.to_string().contains("refused"), "{system}");
}

#[tokio::test]
async fn binds_and_leaves_the_other_family_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let dialer = Dialer { bind: Some("127.0.0.2".parse().unwrap()), ..Dialer::default() };
    let stream = dialer.dial(&[v6(1), open]).await.unwrap();
    assert_eq!(Some(stream.local_addr().unwrap().ip()), dialer.bind);

    let error = dialer.dial(&[v6(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoAddress);
    assert_eq!(error.to_string(), "no address of the same family as the local address 127.0.0.2");
    assert!(matches!(dialer.dial(&[]).await, Err(DialError::NoAddress)));
}

#[tokio::test]
async fn a_local_address_that_is_not_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = Dialer { bind: Some(v4(1).ip()), ..Dialer::default() };
    let error = dialer.dial(&[listener.local_addr().unwrap()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalAddress);
}

#[tokio::test]
async fn an_overall_deadline() {
    // No process accepts. Once the backlog is full, the kernel drops further SYNs, as a silent host would.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let peer = listener.local_addr().unwrap();
    let dialer = Dialer { timeout: Duration::from_millis(100), ..Dialer::default() };
    let mut connected = Vec::new();
    let error = loop {
        match dialer.dial(&[peer]).await {
            Ok(stream) => connected.push(stream),
            Err(error) => break error,
        }
        assert!(connected.len() < 16, "the backlog never fills");
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "no connection within 100ms");
}
