//! Commands that were flushed together, and whether what comes first after them can be their answer.
//!
//! A reply that was read before its command was written is not its answer: that is certain, and final.
//!
//! A reply that comes in less than half of the smallest round trip can hardly be one. It is no proof: the round trip is
//! an upper bound, measured by a clock that also runs while this process, the server or the network is slow. So
//! such a reply is taken, and when nothing more is owed the session listens for as long as its slowest answer took. If
//! the reply was a surplus one, then a last answer is still on its way, and its coming is the proof. If nothing comes, the
//! suspicion is dropped, and has cost that wait.

use std::{num::NonZeroU32, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{READ, Session};
use crate::{
    client::{SessionError, latencies::operation},
    proto::{DialogueError, Head, Verb},
};

/// Below this smallest round trip, 1 ms, nothing is suspected: scheduling and the clock take as long as the network.
const LEAST: Duration = Duration::from_millis(1);
/// A TCP connect that took this long, 1 s, repeated its SYN (RFC 6298 2.1), and tells nothing of the round trip.
const SYN_REPEATED: Duration = Duration::from_secs(1);
/// The longest time to listen, 1 s.
const MOST: Duration = Duration::from_secs(1);

/// Commands that were flushed together.
#[derive(Debug)]
pub(super) struct Flight {
    /// When writing it began; each new attempt to write the rest counts.
    pub(super) sent: Instant,
    pub(super) replies: usize,
    pub(super) octets: usize,
    /// It was written in one attempt, and none of its replies has been taken: its first reply can be timed.
    pub(super) is_timed: bool,
}

impl Flight {
    pub(super) fn new(sent: Instant, replies: usize, octets: usize) -> Self {
        Self { sent, replies, octets, is_timed: false }
    }
}

/// What is known of the time between a flight and its first reply: in microseconds of 4 octets, since each idle connection
/// keeps it.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// The smallest one, that of the TCP handshake included; nothing is suspected without it.
    smallest: Option<NonZeroU32>,
    slowest: u32,
    /// A reply came too early; how long to listen for another one.
    suspicion: Option<NonZeroU32>,
}

impl RoundTrip {
    /// Of a connection whose TCP handshake took that long.
    pub(super) fn new(connect: Duration) -> Self {
        let smallest = Some(connect).filter(|connect| (LEAST..SYN_REPEATED).contains(connect));
        Self {
            smallest: smallest.map(micros).and_then(NonZeroU32::new),
            slowest: micros(connect),
            suspicion: None,
        }
    }

    /// Records how long the first reply to a flight took.
    pub(super) fn record(&mut self, took: Duration) {
        let Some(smallest) = self.smallest.map(NonZeroU32::get) else { return };
        let took = micros(took);
        if took < smallest / 2 {
            self.suspicion = self.suspicion.or(NonZeroU32::new(self.slowest));
        }
        let smallest = Some(smallest.min(took)).filter(|&smallest| smallest >= micros(LEAST));
        self.smallest = smallest.and_then(NonZeroU32::new);
        self.slowest = self.slowest.max(took).min(micros(MOST));
    }

    /// How long to listen for one reply more, if one came too early.
    pub(super) fn suspicion(&self) -> Option<Duration> {
        self.suspicion.map(|micros| Duration::from_micros(micros.get().into()))
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

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
        self.round_trip.suspicion = None;
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
