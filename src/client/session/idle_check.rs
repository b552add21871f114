//! Unsolicited octets: found before they are taken for an answer.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{READ_SIZE, Session, SessionEnd, session_end::Break};
use crate::{
    client::SessionError,
    proto::{DecodeError, DialogueError, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Checks, without a round trip, that the connection is open and that no unsolicited octets have arrived.
    ///
    /// # Errors
    /// Unsolicited octets, or the end of the connection. The session cannot be used any more.
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

    /// Returns whether an answer has arrived before a command was sent. A blank line is no answer. 421 may come at any time,
    /// and then answers the next command (RFC 5321 3.8).
    pub(super) fn is_answered(&mut self) -> bool {
        let there = self.decoder.buffer().trim_ascii();
        !there.is_empty() && !there.starts_with(b"421")
    }

    /// Returns the error for unsolicited octets, and ends the session.
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

    /// Returns the error for octets behind a framed reply, and ends the session.
    pub(super) fn unsolicited_behind(&mut self) -> SessionError {
        if let Some(framed) = self.framed.take() {
            self.decoder.lend(framed);
        }
        self.unsolicited()
    }

    /// Gives up the stream for a TLS handshake.
    ///
    /// # Errors
    /// [`SessionError::Injected`] if there are octets behind the reply to STARTTLS. An attacker on the way injects them to
    /// pass for part of the secured dialogue (RFC 3207 6, CVE-2011-0411).
    pub fn into_stream(self) -> Result<S, SessionError> {
        if self.decoder.buffered() > 0 { Err(SessionError::Injected) } else { Ok(self.stream) }
    }
}

impl<S> Session<S> {
    /// Returns how the connection ended where the reply to `verb` would be next. A failed write is the first cause.
    pub(super) fn end(&self, verb: Verb) -> SessionError {
        match (self.ended, self.unwritable) {
            (_, Some(broken)) | (Some(SessionEnd::Error(broken)), None) => match broken {
                Break::Io(kind) => SessionError::Io { verb, source: kind.into() },
                Break::RuntimeEnded => SessionError::RuntimeEnded { verb },
            },
            (Some(SessionEnd::Eof) | None, None) => SessionError::Closed { verb },
        }
    }
}
