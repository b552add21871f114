//! Metrics for Prometheus, and health, over HTTP while it runs.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use smtp_pool::{metrics::Metrics, verify::LaneState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::{
    exit::{At, Result},
    progress::{Frame, Screen},
};

/// How long a request may take, and how long it may be.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: usize = 8 * 1024;

/// Serves until it is dropped.
pub(crate) struct Server {
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    metrics: Arc<Metrics>,
    /// What the run itself counts, as text for Prometheus.
    run: Mutex<String>,
}

impl Server {
    pub(crate) async fn start(
        address: Option<SocketAddr>,
        metrics: Arc<Metrics>,
        screen: &Screen,
    ) -> Result<Self> {
        let state = Arc::new(State { metrics, run: Mutex::default() });
        let mut tasks = JoinSet::new();
        if let Some(address) = address {
            let place = || format!("--metrics {address}");
            let listener = TcpListener::bind(address).await.usage_at(place())?;
            let bound = listener.local_addr().usage_at(place())?;
            screen.say(format_args!("metrics at http://{bound}/metrics, health at http://{bound}/health"));
            tasks.spawn(accept(listener, Arc::clone(&state)));
        }
        Ok(Self { state, _tasks: tasks })
    }

    /// Takes note of how it stands.
    pub(crate) fn update(&self, frame: &Frame) {
        *self.state.run.lock().unwrap_or_else(PoisonError::into_inner) = exposition(frame);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let state = Arc::clone(&state);
                    answers.spawn(async move { timeout(PATIENCE, answer(stream, &state)).await });
                }
                // Out of files, most likely: the scraper comes again.
                Err(_) => tokio::time::sleep(PATIENCE).await,
            },
            Some(_) = answers.join_next() => {}
        }
    }
}

async fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request);
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
    let is_head = request.starts_with("HEAD");
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !is_head {
        response.push_str(&body);
    }
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// The run in the text format of Prometheus.
fn exposition(frame: &Frame) -> String {
    let mut text = String::new();
    text.push_str(
        "# HELP smtp_pool_rows_done Rows that have their verdict.\n# TYPE smtp_pool_rows_done gauge\n",
    );
    for (sub_status, count) in &frame.verdicts {
        let status = sub_status.status();
        let _ =
            writeln!(text, "smtp_pool_rows_done{{status=\"{status}\",sub_status=\"{sub_status}\"}} {count}");
    }
    if let Some((total, _)) = frame.total {
        text.push_str("# HELP smtp_pool_rows Rows of the lists.\n# TYPE smtp_pool_rows gauge\n");
        let _ = writeln!(text, "smtp_pool_rows {total}");
    }
    text.push_str(
        "# HELP smtp_pool_rows_postponed Rows to be asked again.\n# TYPE smtp_pool_rows_postponed gauge\n",
    );
    let _ = writeln!(text, "smtp_pool_rows_postponed {}", frame.postponed);
    let count = |is: fn(&LaneState) -> bool| frame.lanes.iter().filter(|lane| is(&lane.state)).count();
    text.push_str("# HELP smtp_pool_lanes Lanes by state.\n# TYPE smtp_pool_lanes gauge\n");
    for (state, count) in [
        ("open", count(|state| matches!(state, LaneState::Open))),
        ("limited", count(|state| matches!(state, LaneState::Limited))),
        ("unreachable", count(|state| matches!(state, LaneState::Unreachable))),
        ("blocked", count(|state| matches!(state, LaneState::Blocked(_)))),
    ] {
        let _ = writeln!(text, "smtp_pool_lanes{{state=\"{state}\"}} {count}");
    }
    text
}
