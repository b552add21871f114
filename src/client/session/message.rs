//! Messages over a session: in one piece behind DATA, or in chunks.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, stop_and_wait::unambiguous};
use crate::{
    client::SessionError,
    proto::{Command, DialogueError, DotStuffer, Reply, State, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Sends a message by DATA; the reply is that to the final dot, or to DATA itself where it was refused.
    ///
    /// # Errors
    /// As [`command`](Self::command); no RCPT was accepted, so that DATA is out of sequence; or
    /// [`SessionError::Ambiguous`] where the lines of the reply carry different codes. If that was the reply to DATA
    /// itself, the session is over: whether the server waits for the message is not known. [`SessionError::NotOffered`]
    /// if the message has octets above 127 and the server does not offer 8BITMIME; the transaction stands.
    pub async fn data(&mut self, message: &[u8]) -> Result<Reply, SessionError> {
        if !message.is_ascii() && !self.extensions.eight_bit_mime {
            return Err(SessionError::NotOffered { verb: Verb::Data, extension: "8BITMIME" });
        }
        let reply = unambiguous(Verb::Data, self.command(&Command::Data).await?)?;
        // The answer to another command: nothing was sent that could have been done (RFC 5321 4.3.2).
        if reply.is_positive() {
            return Err(self.fail(Verb::Data, DialogueError::Unsolicited(reply.code()).into()));
        }
        if self.dialogue.state() == State::Message { self.message(message).await } else { Ok(reply) }
    }

    /// Sends a message where DATA, pipelined behind its envelope perhaps, was answered by 354. An empty one is the lone
    /// dot that RFC 2920 3.1 asks for where 354 came although every RCPT was refused.
    ///
    /// Over LMTP the reply is that for the first recipient that was accepted; the others stay owed.
    ///
    /// # Errors
    /// As [`command`](Self::command); [`SessionError::Ambiguous`] where the lines of the reply carry different codes, so
    /// that the server may have taken the message or not.
    pub async fn message(&mut self, message: &[u8]) -> Result<Reply, SessionError> {
        self.queue_with(Verb::Message, |out| {
            let mut stuffer = DotStuffer::new();
            stuffer.push(message, out);
            stuffer.finish(out);
        })?;
        let (verb, reply) = self.reply().await?;
        if reply.is_intermediate() {
            return Err(self.fail(verb, DialogueError::Unsolicited(reply.code()).into()));
        }
        unambiguous(verb, reply)
    }

    /// Queues BDAT with its chunk behind it (RFC 3030 2). [`queue`](Self::queue) leaves the chunk out, which only a
    /// chunk of nothing can do without.
    ///
    /// # Errors
    /// As [`queue`](Self::queue).
    pub fn queue_chunk(&mut self, chunk: &[u8], last: bool) -> Result<(), SessionError> {
        let bdat = Command::Bdat { size: chunk.len() as u64, last };
        self.queue_with(bdat.verb(), |out| {
            bdat.encode(out);
            out.extend_from_slice(chunk);
        })
    }
}
