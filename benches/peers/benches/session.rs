//! Measures a transaction of 100 recipients by the peers, beside our results of `benches/session.rs`.
//!
//! lettre and async-smtp send a command and wait for its reply, 102 times. mail-send can also write all commands one by
//! one, and then read all replies.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

use std::{hint::black_box, time::Duration};

use async_smtp::{SmtpClient, SmtpTransport};
use criterion::Criterion;
use lettre::transport::smtp::{client::AsyncSmtpConnection, commands, extension::ClientId};
use ours::wire::{self, Server, WINDOW};
use tokio::{io::BufStream, net::TcpStream};

#[expect(dead_code, reason = "its main is unused here")]
#[path = "../../session.rs"]
mod ours;

fn main() {
    Server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    let server = Server::start(Duration::ZERO);
    ours::ours(&mut criterion, &server);

    let runtime = ours::runtime();
    let addresses = wire::addresses(WINDOW);
    let mut group = ours::group(&mut criterion);

    let name = ClientId::Domain("client.example.org".to_owned());
    let connect = AsyncSmtpConnection::connect_tokio1(server.addr, None, &name, None, None);
    let mut connection = runtime.block_on(connect).unwrap();
    let recipients: Vec<lettre::Address> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    group.bench_function("lettre", |b| {
        b.iter_custom(|n| ours::cpu(n, || runtime.block_on(lettre(&mut connection, &recipients))));
    });

    let mut transport = runtime.block_on(async {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        SmtpTransport::new(SmtpClient::new(), BufStream::new(stream)).await.unwrap()
    });
    let recipients: Vec<async_smtp::EmailAddress> =
        addresses.iter().map(|address| address.parse().unwrap()).collect();
    group.bench_function("async-smtp", |b| {
        b.iter_custom(|n| ours::cpu(n, || runtime.block_on(async_smtp(&mut transport, &recipients))));
    });

    let mut client = runtime.block_on(async {
        let timeout = Duration::from_secs(60);
        let mut client = mail_send::SmtpClient::connect(server.addr, timeout).await.unwrap();
        client.read().await.unwrap();
        client.stream.set_nodelay(true).unwrap();
        client.ehlo("client.example.org").await.unwrap();
        client
    });
    group.bench_function("mail-send", |b| {
        b.iter_custom(|n| {
            ours::cpu(n, || {
                runtime.block_on(async {
                    for command in commands_of(&addresses) {
                        black_box(client.cmd(command).await.unwrap());
                    }
                });
            })
        });
    });
    group.bench_function("mail-send, pipelined", |b| {
        b.iter_custom(|n| {
            let mut run = || black_box(runtime.block_on(client.cmds(commands_of(&addresses))).unwrap());
            ours::cpu(n, || drop(run()))
        });
    });
    group.finish();
    criterion.final_summary();
}

async fn lettre(connection: &mut AsyncSmtpConnection, recipients: &[lettre::Address]) {
    connection.command(commands::Mail::new(None, Vec::new())).await.unwrap();
    for to in recipients {
        black_box(connection.command(commands::Rcpt::new(to.clone(), Vec::new())).await.unwrap());
    }
    connection.command(commands::Rset).await.unwrap();
}

async fn async_smtp(
    transport: &mut SmtpTransport<BufStream<TcpStream>>,
    recipients: &[async_smtp::EmailAddress],
) {
    use async_smtp::commands;
    let stream = transport.get_mut();
    stream.command(commands::MailCommand::new(None, Vec::new())).await.unwrap();
    for to in recipients {
        black_box(stream.command(commands::RcptCommand::new(to.clone(), Vec::new())).await.unwrap());
    }
    stream.command(commands::RsetCommand).await.unwrap();
}

fn commands_of(addresses: &[String]) -> impl Iterator<Item = String> {
    let recipients = addresses.iter().map(|address| format!("RCPT TO:<{address}>\r\n"));
    std::iter::once("MAIL FROM:<>\r\n".to_owned()).chain(recipients).chain(["RSET\r\n".to_owned()])
}
