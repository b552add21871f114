//! Holds what a lane knows of the server at the other end of one connection.

use std::sync::Arc;

use super::{address_family::is_ipv6, question::Question};
use crate::{
    client::Connection,
    net::TlsVersion,
    verify::policy::harvest_defence::{ConnectionRefusals, RefusalOrigin},
};

/// The server that gave an answer, as records show it.
#[derive(Clone, Debug)]
pub(super) struct AnswerSource {
    pub(super) mx_set: usize,
    pub(super) origin: RefusalOrigin,
    pub(super) host: Option<Arc<str>>,
    pub(super) tls: Option<TlsVersion>,
}

/// The server at the other end of one connection.
pub(super) struct Peer {
    pub(super) mx_set: usize,
    source: AnswerSource,
    pub(super) smtputf8: bool,
    pub(super) pipelining: bool,
    pub(super) ipv6: bool,
    /// The refusals on this connection, to detect a defence against directory harvesting.
    pub(super) harvest: ConnectionRefusals,
    /// Answers so far. A connection without any was of no use.
    pub(super) answer_count: u64,
    /// Empty buffers for further windows.
    pub(super) spare_buffers: Vec<Vec<Question>>,
}

impl Peer {
    /// Returns the peer of a connection that has just joined its lane.
    pub(super) fn new(source: AnswerSource, connection: &Connection, harvest: ConnectionRefusals) -> Self {
        Self {
            mx_set: source.mx_set,
            source,
            smtputf8: connection.extensions().smtputf8,
            pipelining: connection.extensions().pipelining,
            ipv6: connection.peer_addr().is_ok_and(|addr| is_ipv6(addr.ip())),
            harvest,
            answer_count: 0,
            spare_buffers: Vec::new(),
        }
    }

    /// Returns a peer without a connection.
    #[cfg(test)]
    pub(super) fn without_connection(mx_set: usize) -> Self {
        Self {
            mx_set,
            source: AnswerSource { mx_set, origin: RefusalOrigin::default(), host: None, tls: None },
            smtputf8: false,
            pipelining: true,
            ipv6: false,
            harvest: ConnectionRefusals::default(),
            answer_count: 0,
            spare_buffers: Vec::new(),
        }
    }

    pub(super) fn source(&self) -> &AnswerSource {
        &self.source
    }

    /// Sets the origin of the next answer.
    pub(super) fn set_origin(&mut self, origin: RefusalOrigin) {
        self.source.origin = origin;
    }
}
