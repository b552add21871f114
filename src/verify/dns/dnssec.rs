//! DNSSEC: each query asks the nameserver for the AD bit, and the answer tells whether it was authenticated.
//!
//! A validating nameserver sets AD only in answers to queries that set AD or DO (RFC 6840 5.7, 5.8). With DO the answer
//! also has signatures, which nothing here checks. hickory sets DO only together with its own validation. Each query
//! therefore gets its AD bit here as it is sent. hickory's cache stores the AD bit of an answer with its header, as
//! long as the records.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use hickory_resolver::{
    ConnectionProvider, PoolContext, Resolver,
    config::{ConnectionConfig, ProtocolConfig},
    lookup::Lookup,
    net::{
        NetError,
        runtime::TokioRuntimeProvider,
        udp::UdpClientStream,
        xfer::{DnsExchange, DnsHandle},
    },
    proto::op::DnsRequest,
};

use super::answers::TrimmedAnswers;

/// How many times a query is sent over UDP in one attempt. Each copy holds its own socket until the attempt ends.
const TRANSMISSIONS: u8 = 2;
/// The longest wait for an answer before a query is sent again. It is shorter than the time after which a look-up
/// counts as slow. One lost datagram therefore never makes a look-up slow.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(400);

/// A resolver whose queries set the AD bit.
pub(super) type DnsResolver = Resolver<NameserverConnections>;

/// Opens connections to nameservers.
#[derive(Clone, Default)]
pub(super) struct NameserverConnections(TokioRuntimeProvider);

impl ConnectionProvider for NameserverConnections {
    type Conn = NameserverConnection;
    type FutureConn = Pin<Box<dyn Future<Output = Result<NameserverConnection, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        if matches!(config.protocol, ProtocolConfig::Udp) {
            let options = &context.options;
            let exchange = UdpClientStream::builder(SocketAddr::new(ip, config.port), self.0.clone())
                .with_timeout(Some(options.timeout))
                .with_os_port_selection(options.os_port_selection)
                .avoid_local_ports(options.avoid_local_udp_ports.clone())
                .with_bind_addr(config.bind_addr)
                .with_max_retries(TRANSMISSIONS);
            return Ok(Box::pin(async { Ok(NameserverConnection(exchange.exchange())) }));
        }
        let opening = self.0.new_connection(ip, config, context)?;
        Ok(Box::pin(async { opening.await.map(NameserverConnection) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.0
    }
}

/// A connection to a nameserver.
#[derive(Clone)]
pub(super) struct NameserverConnection(DnsExchange<TokioRuntimeProvider>);

impl DnsHandle for NameserverConnection {
    type Response = TrimmedAnswers<<DnsExchange<TokioRuntimeProvider> as DnsHandle>::Response>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        request.metadata.authentic_data = true;
        // After time-outs hickory waits longer, but most of them are caused by other name servers.
        let options = request.options_mut();
        options.retry_interval = options.retry_interval.min(RETRANSMIT_AFTER);
        TrimmedAnswers(self.0.send(request))
    }
}

/// Returns whether the whole answer about `name`, an absolute name, was authenticated (RFC 4035 3.2.3).
pub(super) fn is_authenticated(found: &Lookup, name: &str) -> bool {
    let message = found.message();
    // If hickory followed an alias by another query, the header is that of the last answer, and the earlier answers are
    // lost. Validating nameservers follow aliases themselves.
    let asked = message.queries.first().is_some_and(|q| q.name().to_ascii().eq_ignore_ascii_case(name));
    message.metadata.authentic_data && asked
}
