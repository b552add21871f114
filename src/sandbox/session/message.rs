//! The message: DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030). It is counted, and not kept.

use bytes::{Buf, BytesMut};

use super::{Phase, Session, Step};
use crate::{
    proto::DotUnstuffer,
    sandbox::{Extension, Stage},
};

/// Octets that are no commands.
#[derive(Debug)]
pub(super) enum Body {
    /// Behind DATA, up to the final dot.
    Data { unstuffer: DotUnstuffer, octets: u64 },
    /// Behind BDAT: so many octets are still to come.
    Chunk { left: u64, size: u64, last: bool },
}

/// A body came to its end.
#[derive(Debug)]
pub(super) enum End {
    Data { octets: u64 },
    Chunk { size: u64, last: bool },
}

impl Body {
    pub(super) fn data() -> Self {
        Self::Data { unstuffer: DotUnstuffer::new(), octets: 0 }
    }

    /// Takes what `input` holds of the body; tells when it has ended.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Option<End> {
        match self {
            Self::Data { unstuffer, octets } => {
                let mut message = BytesMut::new();
                let end = unstuffer.push(input, &mut message);
                *octets += message.len() as u64;
                input.advance(end.unwrap_or(input.len()));
                end.map(|_| End::Data { octets: *octets })
            }
            Self::Chunk { left, size, last } => {
                let here = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                input.advance(here);
                *left -= here as u64;
                (*left == 0).then_some(End::Chunk { size: *size, last: *last })
            }
        }
    }
}

impl Session {
    pub(super) fn data(&mut self, out: &mut BytesMut) -> Step {
        match &self.transaction {
            None => self.refuse(out, 503, "5.5.1", format_args!("Error: need MAIL command")),
            Some(transaction) if transaction.chunked.is_some() => {
                self.refuse(out, 503, "5.5.1", format_args!("Error: DATA after BDAT"))
            }
            Some(transaction) if transaction.accepted == 0 => {
                self.refuse(out, 554, "5.5.1", format_args!("Error: no valid recipients"))
            }
            Some(_) => {
                self.phase = Phase::Body(Body::data());
                self.plain(out, 354, format_args!("End data with <CR><LF>.<CR><LF>"))
            }
        }
    }

    /// The chunk must be read whatever will be said of it, or its octets would be taken for commands.
    pub(super) fn bdat(&mut self, size: u64, last: bool) -> Step {
        self.phase = Phase::Body(Body::Chunk { left: size, size, last });
        Step::Next
    }

    pub(super) fn end_body(&mut self, end: End, out: &mut BytesMut) -> Step {
        self.phase = Phase::Command;
        let step = match end {
            End::Data { octets } => {
                self.answer(Stage::Message, None, out, |session, out| session.deliver(octets, out))
            }
            End::Chunk { size, last } => {
                self.answer(Stage::Bdat, None, out, |session, out| session.end_chunk(size, last, out))
            }
        };
        if step == Step::Next { self.limit_errors(out) } else { step }
    }

    fn end_chunk(&mut self, size: u64, last: bool, out: &mut BytesMut) -> Step {
        if !self.mx.config.offers(Extension::Chunking) {
            return self.refuse(out, 502, "5.5.1", format_args!("Error: command not implemented"));
        }
        let Some(transaction) = &mut self.transaction else {
            return self.refuse(out, 503, "5.5.1", format_args!("Error: need MAIL command"));
        };
        if transaction.accepted == 0 {
            return self.refuse(out, 554, "5.5.1", format_args!("Error: no valid recipients"));
        }
        let octets = transaction.chunked.unwrap_or(0).saturating_add(size);
        transaction.chunked = Some(octets);
        match last {
            true => self.deliver(octets, out),
            false => self.reply(out, 250, "2.0.0", format_args!("Ok: {size} bytes")),
        }
    }

    /// The end of the message, and so of the transaction.
    fn deliver(&mut self, octets: u64, out: &mut BytesMut) -> Step {
        let accepted = self.transaction.take().map_or(0, |transaction| transaction.accepted);
        if octets > self.mx.config.size_limit {
            return self.refuse(out, 552, "5.3.4", format_args!("Error: message file too big"));
        }
        if accepted == 0 {
            return self.refuse(out, 554, "5.5.1", format_args!("Error: no valid recipients"));
        }
        self.errors.reset();
        self.nonmail.message();
        let id = self.mx.counters.messages.up();
        self.mx.counters.message_octets.add(octets);
        // LMTP answers once for each recipient (RFC 2033 4.2).
        for _ in 0..if self.mx.config.lmtp { accepted } else { 1 } {
            self.reply(out, 250, "2.0.0", format_args!("Ok: queued as {id:010X}"));
        }
        Step::Next
    }
}
