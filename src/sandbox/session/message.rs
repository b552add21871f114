//! The message: DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030). It is counted and not stored.

use bytes::BytesMut;

use super::{
    ServerSession, Step,
    phase::{BodyEnd, MessageBody, Phase},
};
use crate::sandbox::{Extension, FaultStage};

impl ServerSession {
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
                self.phase = Phase::Body(MessageBody::data());
                self.plain(out, 354, format_args!("End data with <CR><LF>.<CR><LF>"))
            }
        }
    }

    /// Reads the chunk before any check. Otherwise its octets would be taken for commands.
    pub(super) fn bdat(&mut self, size: u64, last: bool) -> Step {
        self.phase = Phase::Body(MessageBody::Chunk { left: size, size, last });
        Step::Next
    }

    pub(super) fn end_body(&mut self, end: BodyEnd, out: &mut BytesMut) -> Step {
        self.phase = Phase::Command;
        let step = match end {
            BodyEnd::Data { octets } => {
                self.answer(FaultStage::Message, None, out, |session, out| session.deliver(octets, out))
            }
            BodyEnd::Chunk { size, last } => {
                self.answer(FaultStage::Bdat, None, out, |session, out| session.end_chunk(size, last, out))
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

    /// Ends the message, and so the transaction.
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
        let id = self.mx.counters.messages.increment();
        self.mx.counters.message_octets.add(octets);
        // LMTP sends one reply for each recipient (RFC 2033 4.2).
        for _ in 0..if self.mx.config.lmtp { accepted } else { 1 } {
            self.reply(out, 250, "2.0.0", format_args!("Ok: queued as {id:010X}"));
        }
        Step::Next
    }
}
