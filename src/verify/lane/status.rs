//! Publishes the status of the lanes of a run: each lane writes its own, and the caller reads them.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::verify::{ProviderLimits, SubStatus, Subject, outcome::Outcome};

/// The status of a lane: all addresses whose mail goes to the same provider or exchangers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The name of the provider, or of the most preferred exchanger if the provider is not known.
    pub name: Arc<str>,
    /// Whether the lane is being asked.
    pub state: LaneState,
    /// Addresses that wait, including those that are asked again later.
    pub waiting: u64,
    /// Answers so far.
    pub answered: u64,
    /// Answers per second over the last few seconds with questions to ask.
    pub rate: f64,
    /// Answers per second that the provider's limits allow in the long run, if they limit the rate. A burst may exceed
    /// it.
    pub most: Option<f64>,
    /// Connections open now.
    pub connections: u32,
    /// The recent round trip of a window of questions; zero before the first.
    pub latency: Duration,
    /// How often a server of the lane refused a mailbox as unknown that it had accepted before. A defence against
    /// directory harvesting does so. The lane pauses each time, and the refusals before it are void.
    pub harvest_defences: u32,
    /// Answers so far that refuse the sender. The sender is the null reverse-path unless another is configured.
    pub sender_refusals: u64,
}

/// Whether a lane is being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaneState {
    /// The lane is being asked.
    Open,
    /// The rate limits of the provider delay the lane.
    Limited,
    /// Its host answers too slowly, and is given up if that goes on.
    Slow {
        /// The time until the host is given up at the present rate; `None` if it keeps up.
        given_up_in: Option<Duration>,
    },
    /// No exchanger can be reached. The lane tries again soon.
    Unreachable,
    /// The provider blocks us.
    Blocked(Block),
}

/// Why a provider blocks us, from its reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Block {
    /// The cause that its reply names.
    pub cause: BlockCause,
    /// The text of the reply.
    pub reply: Arc<str>,
}

/// The cause for which a provider blocks us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BlockCause {
    /// Our address is on this blocklist.
    Blocklist(Arc<str>),
    /// Our address has no PTR record, or one whose name does not resolve to it.
    Ptr,
    /// The HELO name of the client.
    Helo,
    /// Too many questions, connections or messages.
    Rate,
    /// The provider refuses a mailbox that it accepted before, as a defence against directory harvesting does.
    Harvest,
    /// The sender in MAIL.
    Sender,
    /// A policy that applies to all recipients.
    Policy,
    /// The reply names no cause.
    Other,
}

impl fmt::Display for BlockCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocklist(name) => write!(f, "on the blocklist {name}"),
            Self::Ptr => f.write_str("no matching PTR record"),
            Self::Helo => f.write_str("the HELO name"),
            Self::Rate => f.write_str("too many questions"),
            Self::Harvest => f.write_str("a defence against directory harvesting"),
            Self::Sender => f.write_str("the sender"),
            Self::Policy => f.write_str("a policy for all recipients"),
            Self::Other => f.write_str("no cause named"),
        }
    }
}

impl Block {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let reply = outcome.text.clone().unwrap_or_else(|| "".into());
        let cause = match outcome.verdict.sub_status {
            _ if outcome.is_harvest_defence() => BlockCause::Harvest,
            _ if outcome.verdict.subject == Some(Subject::Sender) => BlockCause::Sender,
            SubStatus::RateLimited => BlockCause::Rate,
            SubStatus::PolicyRejected => BlockCause::Policy,
            _ => BlockCause::of(&reply),
        };
        Self { cause, reply }
    }
}

impl BlockCause {
    /// Returns the cause that the text of a refusal names.
    fn of(reply: &str) -> Self {
        let words = reply.to_ascii_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
        match () {
            () if let Some(list) = blocklist(&words) => Self::Blocklist(list.into()),
            () if says(&["ptr", "reverse dns", "rdns", "reverse hostname", "reverse lookup", "fcrdns"]) => {
                Self::Ptr
            }
            () if says(&["helo", "ehlo"]) => Self::Helo,
            () if says(&["too many", "too fast", "rate limit", "ratelimit", "throttl", "exceeded"]) => {
                Self::Rate
            }
            () => Self::Other,
        }
    }
}

/// The longest name of a zone, in characters.
const MAX_ZONE: usize = 253;

/// Returns the blocklist that a refusal names.
///
/// The name is that of a zone behind "using" or a similar word, as in Postfix's "blocked using zen.spamhaus.org".
/// Without one, it is that of a known list.
fn blocklist(words: &str) -> Option<&str> {
    const KNOWN: [&str; 16] = [
        "spamhaus",
        "spamcop",
        "barracuda",
        "sorbs",
        "uceprotect",
        "abusix",
        "invaluement",
        "mailspike",
        "spamrats",
        "nixspam",
        "senderscore",
        "cloudmark",
        "psbl",
        "backscatterer",
        "abuseat",
        "truncate.gbudb",
    ];
    let zone = |word: &&str| {
        let labels = word.split('.').count();
        labels > 1
            && word.len() <= MAX_ZONE
            && word.parse::<IpAddr>().is_err()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
    };
    let mut tokens = words
        .split(|c: char| c.is_whitespace() || "/;,()[]<>\"'".contains(c))
        .map(|word| word.trim_matches(['.', ':']));
    while let Some(word) = tokens.next() {
        if matches!(word, "using" | "by" | "at" | "in" | "on" | "list")
            && let Some(name) = tokens.clone().next().filter(zone)
        {
            return Some(name);
        }
    }
    KNOWN.into_iter().find(|name| words.contains(name))
}

/// Ended lanes that stay in the status because they refused the sender.
const MAX_REFUSED: usize = 1_000;

/// The status of a lane, shared by the lane and its readers.
pub(super) type SharedStatus = Arc<Mutex<LaneStatus>>;

/// The status of all lanes of a run.
#[derive(Clone, Debug, Default)]
pub(in crate::verify) struct Statuses(Arc<Mutex<Vec<SharedStatus>>>);

impl Statuses {
    /// Adds an open lane and returns its status.
    pub(super) fn add(&self, name: Arc<str>, limits: &ProviderLimits) -> SharedStatus {
        let status = LaneStatus {
            name,
            state: LaneState::Open,
            waiting: 0,
            answered: 0,
            rate: 0.0,
            most: limits.per_second(),
            connections: 0,
            latency: Duration::ZERO,
            harvest_defences: 0,
            sender_refusals: 0,
        };
        let status = SharedStatus::new(Mutex::new(status));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&status));
        status
    }

    /// Removes the lanes that ended, except those still blocked and some that refused the sender.
    pub(in crate::verify) fn forget_ended(&self) {
        let mut refused = 0;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|lane| {
            if Arc::strong_count(lane) > 1 {
                return true;
            }
            let status = lane.lock().unwrap_or_else(PoisonError::into_inner);
            refused += usize::from(status.sender_refusals > 0);
            matches!(status.state, LaneState::Blocked(_))
                || status.sender_refusals > 0 && refused <= MAX_REFUSED
        });
    }

    pub(in crate::verify) fn snapshot(&self) -> Vec<LaneStatus> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|lane| lane.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_lanes_that_refused_the_sender_stay_up_to_a_limit() {
        let statuses = Statuses::default();
        let lanes = |sender_refusals| -> Vec<SharedStatus> {
            let lane = |_| statuses.add("mx.test".into(), &ProviderLimits::default());
            let lanes: Vec<_> = (0..MAX_REFUSED + 5).map(lane).collect();
            lanes.iter().for_each(|lane| lane.lock().unwrap().sender_refusals = sender_refusals);
            lanes
        };
        drop((lanes(0), lanes(1)));
        let at_work = lanes(0);
        statuses.forget_ended();
        assert_eq!(statuses.snapshot().len(), MAX_REFUSED + at_work.len());
        drop(at_work);
        statuses.forget_ended();
        assert_eq!(statuses.snapshot().len(), MAX_REFUSED);
    }

    #[test]
    fn refusals_name_their_cause() {
        let list = |name: &str| BlockCause::Blocklist(name.into());
        for (reply, cause) in [
            (
                "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; see there",
                list("zen.spamhaus.org"),
            ),
            ("192.0.2.1 is listed at bl.example.net.", list("bl.example.net")),
            ("Your IP is in Spamhaus' list", list("spamhaus")),
            ("Client host rejected: cannot find your reverse hostname, [192.0.2.1]", BlockCause::Ptr),
            ("Helo command rejected: Host not found", BlockCause::Helo),
            ("Too many connections from your host", BlockCause::Rate),
            ("Go away", BlockCause::Other),
        ] {
            assert_eq!(BlockCause::of(reply), cause, "{reply}");
        }
    }
}
