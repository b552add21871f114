//! The kind of the client's octets: commands, a SASL dialogue, a message.

use bytes::{Buf, BytesMut};

use crate::proto::DotUnstuffer;

/// The kind of the client's next octets.
#[derive(Debug)]
pub(super) enum Phase {
    Command,
    Auth(Exchange),
    Body(MessageBody),
}

/// The response that a SASL dialogue expects next.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN: name and password together.
    Plain,
    /// LOGIN: the name.
    LoginUser,
    /// LOGIN: the password, after the name.
    LoginPassword(Vec<u8>),
}

/// Octets that are not commands.
#[derive(Debug)]
pub(super) enum MessageBody {
    /// After DATA, up to the final dot.
    Data { unstuffer: DotUnstuffer, octets: u64 },
    /// After BDAT: the octets still to come, and the size of the chunk.
    Chunk { left: u64, size: u64, last: bool },
}

/// The end of a body.
#[derive(Debug)]
pub(super) enum BodyEnd {
    Data { octets: u64 },
    Chunk { size: u64, last: bool },
}

impl MessageBody {
    pub(super) fn data() -> Self {
        Self::Data { unstuffer: DotUnstuffer::new(), octets: 0 }
    }

    /// Consumes the part of the body in `input`. Returns its end, once it has ended.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Option<BodyEnd> {
        match self {
            Self::Data { unstuffer, octets } => {
                let mut message = BytesMut::new();
                let end = unstuffer.push(input, &mut message);
                *octets += message.len() as u64;
                input.advance(end.unwrap_or(input.len()));
                end.map(|_| BodyEnd::Data { octets: *octets })
            }
            Self::Chunk { left, size, last } => {
                let here = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                input.advance(here);
                *left -= here as u64;
                (*left == 0).then_some(BodyEnd::Chunk { size: *size, last: *last })
            }
        }
    }
}
