//! Serves metrics for Prometheus, and health, over HTTP during a run.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use smtp_pool::{metrics::Metrics, verify::LaneState};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use crate::{
    exit::{ErrorContext, Result},
    progress::{RunProgress, Screen},
};

/// The maximum time for a request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a request.
const MAX_REQUEST_OCTETS: usize = 8 * 1024;
/// The maximum number of connections. A further one closes the oldest, so that unfinished requests cannot block the
/// server.
const MAX_CONNECTIONS: usize = 32;

/// The server, which stops when this is dropped.
pub(crate) struct MetricsServer {
    state: Arc<ServerState>,
    _tasks: JoinSet<()>,
}

struct ServerState {
    metrics: Arc<Metrics>,
    /// The counts of the run, in the text format of Prometheus.
    run: Mutex<String>,
}

impl MetricsServer {
    pub(crate) async fn start(
        address: Option<SocketAddr>,
        metrics: Arc<Metrics>,
        screen: &Screen,
    ) -> Result<Self> {
        let state = Arc::new(ServerState { metrics, run: Mutex::default() });
        let mut tasks = JoinSet::new();
        if let Some(address) = address {
            let place = || format!("--metrics {address}");
            let listener = TcpListener::bind(address).await.usage_at(place())?;
            let bound = listener.local_addr().usage_at(place())?;
            screen.print_line(format_args!(
                "metrics at http://{bound}/metrics, health at http://{bound}/health"
            ));
            if !bound.ip().to_canonical().is_loopback() {
                screen.print_line(format_args!(
                    "warning: --metrics {address}: other machines can read the metrics, which name the mail servers; \
                     use 127.0.0.1 for this machine alone"
                ));
            }
            tasks.spawn(accept(listener, Arc::clone(&state)));
        }
        Ok(Self { state, _tasks: tasks })
    }

    /// Records the progress of the run.
    pub(crate) fn update(&self, progress: &RunProgress) {
        *self.state.run.lock().unwrap_or_else(PoisonError::into_inner) = exposition(progress);
    }
}

async fn accept(listener: TcpListener, state: Arc<ServerState>) {
    let mut answers = JoinSet::new();
    // The oldest connection stands first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.retain(|answer| !answer.is_finished());
                    if open.len() >= MAX_CONNECTIONS && let Some(oldest) = open.pop_front() {
                        oldest.abort();
                    }
                    let state = Arc::clone(&state);
                    open.push_back(answers.spawn(async move { serve(stream, &state).await }));
                }
                // Most likely there is no free file. The scraper tries again later.
                Err(_) => tokio::time::sleep(REQUEST_TIMEOUT).await,
            },
            Some(_) = answers.join_next() => {}
        }
    }
}

/// Answers one request, or closes the connection after [`REQUEST_TIMEOUT`].
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &ServerState) {
    // A client that is gone or too slow gets no answer.
    let _ = timeout(REQUEST_TIMEOUT, async {
        let answer = match request(&mut stream).await? {
            Some(request) => answer(&request, state),
            None => response("431 Request Header Fields Too Large", "text/plain", "too long\n", false),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// Reads the head of a request. Returns `None` if it is longer than [`MAX_REQUEST_OCTETS`].
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut octets = Vec::new();
    loop {
        let seen = octets.len().saturating_sub(3);
        if stream.read_buf(&mut octets).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if octets[seen..].windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Some(octets));
        }
        if octets.len() >= MAX_REQUEST_OCTETS {
            return Ok(None);
        }
    }
}

fn answer(request: &[u8], state: &ServerState) -> String {
    let request = String::from_utf8_lossy(request);
    let mut words = request.split_ascii_whitespace();
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some("/metrics")) => {
            let run = state.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let text = format!("{}{run}", state.metrics.snapshot().prometheus());
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text)
        }
        (Some("GET" | "HEAD"), Some("/health")) => {
            ("200 OK", "application/json", "{\"status\":\"ok\"}\n".to_owned())
        }
        (Some("GET" | "HEAD"), Some(_)) => {
            ("404 Not Found", "text/plain", "/metrics or /health\n".to_owned())
        }
        _ => ("405 Method Not Allowed", "text/plain", "GET only\n".to_owned()),
    };
    response(status, kind, &body, request.starts_with("HEAD"))
}

fn response(status: &str, kind: &str, body: &str, is_head: bool) -> String {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if is_head { head } else { head + body }
}

/// Returns the state of the run in the text format of Prometheus.
fn exposition(progress: &RunProgress) -> String {
    let mut text = String::new();
    text.push_str(
        "# HELP smtp_pool_rows_done Rows that have their verdict.\n# TYPE smtp_pool_rows_done gauge\n",
    );
    for (sub_status, count) in &progress.verdicts {
        let status = sub_status.status();
        let _ =
            writeln!(text, "smtp_pool_rows_done{{status=\"{status}\",sub_status=\"{sub_status}\"}} {count}");
    }
    if let Some((total, _)) = progress.total {
        text.push_str("# HELP smtp_pool_rows Rows of the lists.\n# TYPE smtp_pool_rows gauge\n");
        let _ = writeln!(text, "smtp_pool_rows {total}");
    }
    text.push_str(
        "# HELP smtp_pool_rows_postponed Rows to be asked again.\n# TYPE smtp_pool_rows_postponed gauge\n",
    );
    let _ = writeln!(text, "smtp_pool_rows_postponed {}", progress.postponed);
    let count = |is: fn(&LaneState) -> bool| progress.lanes.iter().filter(|lane| is(&lane.state)).count();
    text.push_str("# HELP smtp_pool_lanes Lanes by state.\n# TYPE smtp_pool_lanes gauge\n");
    for (state, count) in [
        ("open", count(|state| matches!(state, LaneState::Open))),
        ("limited", count(|state| matches!(state, LaneState::Limited))),
        ("slow", count(|state| matches!(state, LaneState::Slow { .. }))),
        ("unreachable", count(|state| matches!(state, LaneState::Unreachable))),
        ("blocked", count(|state| matches!(state, LaneState::Blocked(_)))),
    ] {
        let _ = writeln!(text, "smtp_pool_lanes{{state=\"{state}\"}} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::*;

    /// Serves one connection. Returns its other end, and a task that returns how long the connection was open.
    fn served(room: usize) -> (DuplexStream, tokio::task::JoinHandle<Duration>) {
        let (client, server) = duplex(room);
        let task = tokio::spawn(async move {
            let state = ServerState { metrics: Arc::default(), run: Mutex::new("x".repeat(10_000)) };
            let started = Instant::now();
            serve(server, &state).await;
            started.elapsed()
        });
        (client, task)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_octet_by_octet_has_a_deadline() {
        let (mut client, task) = served(1_024);
        for octet in b"GET /metrics HTTP/1.1\r\nX: and so on".iter().cycle() {
            if client.write_all(&[*octet]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(task.await.unwrap(), REQUEST_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_has_a_deadline() {
        let (mut client, task) = served(64);
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(task.await.unwrap(), REQUEST_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_pieces_is_answered() {
        let (mut client, _task) = served(64);
        for piece in ["GET /health HT", "TP/1.1\r\nHost: x\r\n\r", "\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"status\":\"ok\"}\n"),
            "{answer}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_cut_off_is_not_answered() {
        let (mut client, task) = served(64);
        client.write_all(b"GET /health").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&*answer, task.await.unwrap()), ("", Duration::ZERO));
    }
}
