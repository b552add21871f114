//! Measures two usual ways to verify an address, beside a bare loop and the verifier. They run at the latencies of
//! `benches/verify.rs`, with one connection at a time.
//!
//! check-if-email-exists opens a connection for each address: EHLO, MAIL, RCPT, QUIT. Users of lettre keep a
//! connection, and send command by command.
//!
//! The connection per address is written here, over tokio and with the parser of smtp-proto. It leaves out the resolver
//! and the syntax checks, which take most of the CPU time of the original. So it is the best case of that way.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{net::SocketAddr, time::Duration};

use criterion::{Criterion, SamplingMode, Throughput};
use lettre::transport::smtp::{client::AsyncSmtpConnection, commands, extension::ClientId};
use smtp_proto::response::parser::ResponseReceiver;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};
use wire::{FLIGHT, Server, WINDOW};

#[path = "../../wire/mod.rs"]
mod wire;

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for millis in [0, 5, 20] {
        let server = Server::start(Duration::from_millis(millis));
        let mut group = criterion.benchmark_group(format!("verify_peers_{millis}ms"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));

        let addresses = wire::addresses(10 * FLIGHT * WINDOW);
        let windows = wire::windows(&addresses);
        let mailboxes = wire::mailboxes(&addresses);
        group.throughput(Throughput::Elements(addresses.len() as u64));
        let mut stream = wire::greeted(server.addr);
        group.bench_function("bound", |b| b.iter(|| wire::bare_loop(&mut stream, &windows, FLIGHT)));
        let mut session = runtime.block_on(wire::session(server.addr));
        group.bench_function("smtp-pool", |b| {
            b.iter(|| runtime.block_on(wire::pipelined(&mut session, &mailboxes, FLIGHT)));
        });

        // These need a round trip for each command.
        group.throughput(Throughput::Elements(10));
        let name = ClientId::Domain("client.example.org".to_owned());
        let connect = AsyncSmtpConnection::connect_tokio1(server.addr, None, &name, None, None);
        let mut connection = runtime.block_on(connect).unwrap();
        let recipients: Vec<lettre::Address> = addresses[..10].iter().map(|a| a.parse().unwrap()).collect();
        group.bench_function("lettre", |b| {
            b.iter(|| {
                runtime.block_on(async {
                    connection.command(commands::Mail::new(None, Vec::new())).await.unwrap();
                    for to in &recipients {
                        connection.command(commands::Rcpt::new(to.clone(), Vec::new())).await.unwrap();
                    }
                    connection.command(commands::Rset).await.unwrap();
                });
            });
        });
        group.throughput(Throughput::Elements(2));
        group.bench_function("connection per address", |b| {
            b.iter(|| {
                for address in &addresses[..2] {
                    runtime.block_on(on_its_own(server.addr, address));
                }
            });
        });
    }
    criterion.final_summary();
}

async fn on_its_own(addr: SocketAddr, address: &str) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    assert_eq!(reply(&mut stream).await, 220);
    let rcpt = format!("RCPT TO:<{address}>\r\n");
    for command in ["EHLO client.example.org\r\n", "MAIL FROM:<>\r\n", &rcpt, "QUIT\r\n"] {
        stream.write_all(command.as_bytes()).await.unwrap();
        assert!(reply(&mut stream).await < 300);
    }
}

async fn reply(stream: &mut TcpStream) -> u16 {
    let (mut buf, mut receiver) = ([0; 1024], ResponseReceiver::default());
    loop {
        let n = stream.read(&mut buf).await.unwrap();
        assert!(n > 0, "the server closed");
        if let Ok(reply) = receiver.parse(&mut buf[..n].iter()) {
            return reply.code;
        }
    }
}
