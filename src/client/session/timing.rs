//! Times replies, and listens where one came too early.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{READ, Session, round_trip::RoundTrip};
use crate::{
    client::{SessionError, latencies::operation},
    proto::{DialogueError, Head, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Times the first reply of a flight.
    ///
    /// # Errors
    /// It was read before the flight was written.
    #[cold]
    pub(super) fn time_first(&mut self, head: Head) -> Result<(), SessionError> {
        let Some(flight) = self.flights.front_mut() else { return Ok(()) };
        flight.is_timed = false;
        let sent = flight.sent;
        let reply = self.decoder.framed(head);
        // 421 may come at any time, and be the answer to whatever is asked next (RFC 5321 3.8).
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
    pub(super) async fn listen(&mut self, most: Duration) -> Result<(), SessionError> {
        let until = Instant::now() + most;
        while self.ended.is_none() {
            let surplus = self.decoder.behind().trim_ascii();
            if !surplus.is_empty() {
                let is_closing = surplus.starts_with(b"421") || b"421".starts_with(surplus);
                return if is_closing { Ok(()) } else { Err(self.unasked_behind()) };
            }
            let buf = self.decoder.buffer();
            buf.reserve(READ);
            match timeout_at(until, self.stream.read_buf(buf)).await {
                Ok(read) => self.note_read(read),
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
    pub(super) fn note_replies(&mut self, verb: Verb, head: Head, count: usize) {
        let Some(flight) = self.flights.front_mut() else { return };
        let sent = flight.sent;
        for _ in 0..count {
            self.log.reply(verb, &self.decoder.framed(head), sent, self.read_at);
        }
        flight.replies -= count;
        if flight.replies == 0 {
            self.in_flight -= flight.octets;
            self.flights.pop_front();
        }
        if let Some(operation) = operation(verb) {
            self.tally.note(operation, sent, self.read_at, count as u64);
        }
        if self.dialogue.owed() == 0 {
            self.tally.settle();
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
