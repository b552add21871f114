//! The order of windows to a server that works on each recipient, as real servers do. The server always has recipients
//! to work on.

use std::time::{Duration, Instant};

use smtp_pool::{
    client::Endpoint,
    verify::{Providers, Routes, SubStatus},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{self, sleep, sleep_until},
};

use crate::support::{config, sandbox, verify};

/// The time that a line needs to reach the server.
const WAY: Duration = Duration::from_millis(100);
/// The time that the server works on a recipient. Other commands take none.
const WORK: Duration = Duration::from_millis(35);

/// Answers one connection, line by line. Answers without work in between are sent together.
async fn serve(stream: TcpStream) {
    let (read, mut write) = stream.into_split();
    let (arriving, mut arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if arriving.send((time::Instant::now() + WAY, line)).is_err() {
                break;
            }
        }
    });
    let mut replies = b"220 mx\r\n".to_vec();
    loop {
        if arrived.is_empty() {
            let _ = write.write_all(&replies).await;
            replies.clear();
        }
        let Some((at, line)) = arrived.recv().await else { return };
        if at > time::Instant::now() {
            let _ = write.write_all(&replies).await;
            replies.clear();
            sleep_until(at).await;
        }
        if line.starts_with("RCPT") {
            let _ = write.write_all(&replies).await;
            replies.clear();
            sleep(WORK).await;
        }
        let reply: &[u8] = match &line[..4] {
            "EHLO" => b"250-mx\r\n250 PIPELINING\r\n",
            "QUIT" => b"221 2.0.0 Bye\r\n",
            _ => b"250 2.0.0 Ok\r\n",
        };
        replies.extend_from_slice(reply);
    }
}

#[tokio::test]
async fn a_slow_server_gets_the_next_window_before_it_is_idle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let mut config = config(&sandbox("[[host]]\nname = \"mx\"\n").await);
    config.catch_all = false;
    config.routes = Routes::new();
    config.routes.insert("*", Ok(vec![Endpoint::new("mx", vec![addr])]));
    // As many windows are in flight as the round trip needs: four windows of one recipient.
    config.providers =
        Some(Providers::from_toml("[default]\nrecipients = 1\nconnections = 1\n").unwrap().into());
    let addresses: Vec<String> = (0..40).map(|n| format!("user{n}@slow.test")).collect();
    let started = Instant::now();
    let records = verify(config, &addresses.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(records.iter().all(|record| record.sub_status == SubStatus::Accepted));
    // The work takes 1.4 s, and the greeting 0.25 s. A round trip between the fourth window and the fifth would make it
    // 2.6 s.
    let took = started.elapsed();
    assert!(took < Duration::from_millis(2_400), "{took:?}");
}
