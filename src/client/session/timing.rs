//! Times replies, and listens where one came too early.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{READ_SIZE, Session, round_trip::RoundTrip};
use crate::{
    client::{SessionError, latencies::operation},
    proto::{DialogueError, ReplyHead, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Times the first reply of a flight.
    ///
    /// # Errors
    /// It was read before the flight was written.
    #[cold]
    pub(super) fn time_first(&mut self, head: ReplyHead) -> Result<(), SessionError> {
        let Some(group) = self.groups.front_mut() else { return Ok(()) };
        group.is_timed = false;
        let sent = group.sent;
        let reply = self.decoder.framed(head);
        // 421 may come at any time, and then answers the next command (RFC 5321 3.8).
        if reply.is_closing() {
            return Ok(());
        }
        match self.read_at.checked_duration_since(sent) {
            Some(took) => self.round_trip.record(took),
            None => return Err(DialogueError::Unsolicited(reply.code()).into()),
        }
        Ok(())
    }

    /// Listens whether more comes than is owed, where a reply came too early. The last reply owed has been framed, and
    /// stays so.
    ///
    /// # Errors
    /// More came. Not so for 421, which may come at any time, nor for the end of the connection.
    #[cold]
    pub(super) async fn listen_for_surplus(&mut self, most: Duration) -> Result<(), SessionError> {
        let until = Instant::now() + most;
        while self.ended.is_none() {
            let surplus = self.decoder.unframed().trim_ascii();
            if !surplus.is_empty() {
                let is_closing = surplus.starts_with(b"421") || b"421".starts_with(surplus);
                return if is_closing { Ok(()) } else { Err(self.unsolicited_behind()) };
            }
            let buf = self.decoder.buffer();
            buf.reserve(READ_SIZE);
            match timeout_at(until, self.stream.read_buf(buf)).await {
                Ok(read) => self.record_read(read),
                Err(_) => {
                    self.filled = false;
                    break;
                }
            }
        }
        self.round_trip.clear_suspicion();
        Ok(())
    }

    /// Keeps count of flights, and tells the metrics how long so many replies of one took.
    pub(super) fn record_replies(&mut self, verb: Verb, head: ReplyHead, count: usize) {
        let Some(group) = self.groups.front_mut() else { return };
        let sent = group.sent;
        for _ in 0..count {
            self.log.reply(verb, &self.decoder.framed(head), sent, self.read_at);
        }
        group.replies -= count;
        if group.replies == 0 {
            self.in_flight -= group.octets;
            self.groups.pop_front();
        }
        if let Some(operation) = operation(verb) {
            self.latencies.record(operation, sent, self.read_at, count as u64);
        }
        if self.dialogue.owed() == 0 {
            self.latencies.flush();
        }
    }
}

impl<S> Session<S> {
    /// Tells how long the TCP handshake took, so that a reply which comes sooner than the network can carry it is found
    /// out.
    pub(in crate::client) fn set_connect_time(&mut self, took: Duration) {
        self.round_trip = RoundTrip::new(took);
    }
}
