//! `--metrics`: the warning about other machines, and the limit of connections.

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdin},
};

use super::command;

/// A run that waits for addresses and serves its metrics.
struct Served {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStderr>>,
    addr: SocketAddr,
}

impl Served {
    async fn start(address: &str) -> Self {
        let mut command = command(&["verify", "--syntax-only", "--metrics", address]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // The server starts once the format of the list is known.
        input.write_all(&b"ann@x.test\n".repeat(20_000)).await.unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        let addr = line.strip_prefix("metrics at http://").unwrap().split('/').next().unwrap();
        let addr = addr.parse().unwrap();
        Self { child, input, said, addr }
    }

    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Ends the run, and returns what else it wrote.
    async fn end(mut self) -> String {
        drop(self.input);
        let mut said = String::new();
        while let Some(line) = self.said.next_line().await.unwrap() {
            said += &(line + "\n");
        }
        assert!(self.child.wait().await.unwrap().success());
        said
    }
}

#[tokio::test]
async fn an_address_beyond_loopback_is_warned_of_once() {
    for (address, warned) in
        [("127.0.0.1:0", 0), ("[::ffff:127.0.0.1]:0", 0), ("0.0.0.0:0", 1), ("[::]:0", 1)]
    {
        let served = Served::start(address).await;
        let said = served.end().await;
        assert_eq!(said.matches("warning: --metrics ").count(), warned, "{address}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn unfinished_requests_are_limited() {
    let served = Served::start("127.0.0.1:0").await;
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
        open.push(stream);
    }
    // Connections are accepted in their order, so all are accepted by now.
    let answer = served.ask(b"GET /health HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let folder = format!("/proc/{}/fd", served.child.id().unwrap());
    let files = std::fs::read_dir(folder).unwrap().count();
    assert!(files < 100, "{files} files are open");
    served.end().await;
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let served = Served::start("127.0.0.1:0").await;
    // The header has exactly the maximum size, so that nothing is left unread and the answer arrives.
    let request = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 8 * 1024 - 26]].concat();
    assert_eq!(request.len(), 8 * 1024);
    let answer = served.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = served.ask(b"POST /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = served.ask(b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    served.end().await;
}
