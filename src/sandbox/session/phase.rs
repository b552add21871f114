//! What the octets of the client are: commands, a SASL dialogue, a message.

use bytes::{Buf, BytesMut};

use crate::proto::DotUnstuffer;

/// What the next octets of the client are.
#[derive(Debug)]
pub(super) enum Phase {
    Command,
    Auth(Exchange),
    Body(MessageBody),
}

/// Whose turn it is in a SASL dialogue.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN: everything at once.
    Plain,
    /// LOGIN: the name.
    LoginUser,
    /// LOGIN: the password, after the name.
    LoginPassword(Vec<u8>),
}

/// Octets that are no commands.
#[derive(Debug)]
pub(super) enum MessageBody {
    /// Behind DATA, up to the final dot.
    Data { unstuffer: DotUnstuffer, octets: u64 },
    /// Behind BDAT: so many octets are still to come.
    Chunk { left: u64, size: u64, last: bool },
}

/// A body came to its end.
#[derive(Debug)]
pub(super) enum BodyEnd {
    Data { octets: u64 },
    Chunk { size: u64, last: bool },
}

impl MessageBody {
    pub(super) fn data() -> Self {
        Self::Data { unstuffer: DotUnstuffer::new(), octets: 0 }
    }

    /// Takes what `input` holds of the body; tells when it has ended.
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
