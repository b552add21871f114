//! Octets that nobody asked for: found before they pass for an answer.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{READ_SIZE, Session, SessionEnd};
use crate::{
    client::SessionError,
    proto::{DecodeError, DialogueError, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Makes sure, without a round trip, that the server is there and has said nothing unasked, as far as it has arrived.
    ///
    /// # Errors
    /// Octets that nobody asked for, or the end of the connection; the session is of no further use.
    pub fn check_quiet(&mut self) -> Result<(), SessionError> {
        if self.decoder.buffered() == 0 && self.ended.is_none() {
            let buf = self.decoder.buffer();
            buf.reserve(READ_SIZE);
            let mut context = Context::from_waker(Waker::noop());
            match pin!(self.stream.read_buf(buf)).poll(&mut context) {
                Poll::Ready(read) => self.record_read(read),
                Poll::Pending => self.filled = false,
            }
        }
        if self.decoder.buffered() > 0 {
            return Err(self.unsolicited());
        }
        if self.is_open() { Ok(()) } else { Err(self.end(Verb::Noop)) }
    }

    /// Whether an answer is there before anything was asked. A blank line is none; and 421 may come at any time, to be
    /// the answer to whatever is asked next (RFC 5321 3.8).
    pub(super) fn is_answered(&mut self) -> bool {
        let there = self.decoder.buffer().trim_ascii();
        !there.is_empty() && !there.starts_with(b"421")
    }

    /// What is there without having been asked for; it ends the session.
    pub(super) fn unsolicited(&mut self) -> SessionError {
        // Reading it empties the buffer, which must not pass for being idle again.
        self.ended.get_or_insert(SessionEnd::Eof);
        match self.decoder.decode() {
            // The end of the connection, told instead of shown (RFC 5321 3.8).
            Ok(Some(reply)) if reply.is_closing() => SessionError::Closed { verb: Verb::Noop },
            Ok(Some(reply)) => DialogueError::Unsolicited(reply.code()).into(),
            Ok(None) => DecodeError::Trailing.into(),
            Err(error) => error.into(),
        }
    }

    /// What is there behind a reply that was framed; it ends the session.
    pub(super) fn unsolicited_behind(&mut self) -> SessionError {
        if let Some(framed) = self.framed.take() {
            self.decoder.lend(framed);
        }
        self.unsolicited()
    }

    /// Gives up the stream for a TLS handshake.
    ///
    /// # Errors
    /// [`SessionError::Injected`] if there are octets behind the reply to STARTTLS, which somebody on the way would
    /// like to be taken for part of the secured dialogue (RFC 3207 6, CVE-2011-0411).
    pub fn into_stream(self) -> Result<S, SessionError> {
        if self.decoder.buffered() > 0 { Err(SessionError::Injected) } else { Ok(self.stream) }
    }
}
