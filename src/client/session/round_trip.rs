//! Commands that were flushed together, and whether what comes first after them can be their answer.
//!
//! A reply that was read before its command was written is not its answer: that is certain, and final.
//!
//! A reply that comes in less than half of the smallest round trip can hardly be one. It is no proof. The round trip
//! is an upper bound, and its clock also runs while this process, the server or the network is slow. So
//! such a reply is taken, and when nothing more is owed the session listens for as long as its slowest answer took. If
//! the reply was a surplus one, then a last answer is still on its way, and its coming is the proof. If nothing comes, the
//! suspicion is dropped, and has cost that wait.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Below this smallest round trip, 1 ms, nothing is suspected: scheduling and the clock take as long as the network.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(1);
/// A TCP connect that took this long, 1 s, repeated its SYN (RFC 6298 2.1), and tells nothing of the round trip.
const SYN_REPEATED: Duration = Duration::from_secs(1);
/// The longest time to listen, 1 s.
const MAX_LISTEN: Duration = Duration::from_secs(1);

/// Commands that were flushed together.
#[derive(Debug)]
pub(super) struct CommandGroup {
    /// When writing it began; each new attempt to write the rest counts.
    pub(super) sent: Instant,
    pub(super) replies: usize,
    pub(super) octets: usize,
    /// It was written in one attempt, and none of its replies has been taken: its first reply can be timed.
    pub(super) is_timed: bool,
}

impl CommandGroup {
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
    /// Returns the round trip of a connection whose TCP handshake took that long.
    pub(super) fn new(connect: Duration) -> Self {
        let smallest = Some(connect).filter(|connect| (MIN_ROUND_TRIP..SYN_REPEATED).contains(connect));
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
        let smallest = Some(smallest.min(took)).filter(|&smallest| smallest >= micros(MIN_ROUND_TRIP));
        self.smallest = smallest.and_then(NonZeroU32::new);
        self.slowest = self.slowest.max(took).min(micros(MAX_LISTEN));
    }

    /// Returns how long to listen for one reply more, if one came too early.
    pub(super) fn suspicion(&self) -> Option<Duration> {
        self.suspicion.map(|micros| Duration::from_micros(micros.get().into()))
    }

    /// Drops the suspicion.
    pub(super) fn clear_suspicion(&mut self) {
        self.suspicion = None;
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
