//! Serves metrics for Prometheus: `cargo run --example prometheus --features sandbox`, or with `-- HOST[:PORT]
//! ADDRESS…`, which runs until it is interrupted.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod support;

use std::{error::Error, io, sync::Arc};

use smtp_pool::{
    metrics::{Metrics, Prometheus},
    pool::{Key, Pool},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Answers every request with the metrics. In a program with an HTTP server this is one of its routes.
async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> io::Result<()> {
    loop {
        let (mut peer, _) = listener.accept().await?;
        let mut request = BufReader::new(&mut peer).lines();
        while request.next_line().await?.is_some_and(|line| !line.is_empty()) {}
        let (media_type, body) = (Prometheus::CONTENT_TYPE, metrics.snapshot().prometheus().to_string());
        let head = format!(
            "HTTP/1.0 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        peer.write_all((head + &body).as_bytes()).await?;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, addresses, sandbox) = support::target().await?;
    // One `Metrics` serves everything that talks to servers.
    let metrics = Arc::new(Metrics::new());
    let pool = Pool::builder().metrics(Arc::clone(&metrics)).server(Key::parse(&server)?).build()?;

    let in_sandbox = sandbox.is_some();
    let listener = TcpListener::bind(if in_sandbox { "127.0.0.1:0" } else { "127.0.0.1:9464" }).await?;
    let address = listener.local_addr()?;
    println!("http://{address}/metrics");
    let serving = tokio::spawn(serve(listener, metrics));

    for address in &addresses {
        let answer = pool.verify_email(address).await?;
        println!("{address}: {}", answer.reply);
    }

    if in_sandbox {
        // This is the request of Prometheus.
        let mut scrape = TcpStream::connect(address).await?;
        scrape.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        scrape.take(1 << 20).read_to_string(&mut answer).await?;
        println!("{answer}");
    } else {
        serving.await??;
    }
    Ok(())
}
