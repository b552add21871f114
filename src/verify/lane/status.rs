//! How the lanes of a run are doing: written by each lane, read by whoever draws it on a screen.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::verify::{ProviderLimits, SubStatus, Subject, outcome::Outcome};

/// How a lane is doing: all addresses whose mail goes to the same provider or exchangers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The name of the provider, or of the most preferred exchanger where it is none that is known.
    pub name: Arc<str>,
    /// Whether it is asked.
    pub state: LaneState,
    /// Addresses that wait, those to be asked again later included.
    pub waiting: u64,
    /// Answers so far.
    pub answered: u64,
    /// Answers a second, over the last few seconds in which there was anything to ask.
    pub rate: f64,
    /// Answers a second that the limits of the provider allow in the long run, if they limit the rate. For a while it may
    /// be more.
    pub most: Option<f64>,
    /// Connections open now.
    pub connections: u32,
    /// The round trip of a window of questions, lately; zero before the first.
    pub latency: Duration,
    /// How often a server of the lane refused a mailbox as unknown that it had accepted before, as a defence against
    /// directory harvesting does. The lane pauses each time, and the refusals before it are void.
    pub harvest_defences: u32,
    /// Answers so far that refuse the sender, which is the null one unless another was configured.
    pub sender_refusals: u64,
}

/// Whether a lane is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaneState {
    /// It is.
    Open,
    /// It is as fast as the limits of the provider allow.
    Limited,
    /// Its host answers more slowly than is worth waiting for; it is given up if that goes on.
    Slow {
        /// When that is, should it go on as slowly as now; none if it just about keeps up.
        given_up_in: Option<Duration>,
    },
    /// No exchanger can be reached; tried again soon.
    Unreachable,
    /// The provider does not want us.
    Blocked(Block),
}

/// Why a provider does not want us, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Block {
    /// What it finds fault with, as far as its words tell.
    pub cause: BlockCause,
    /// Its words.
    pub reply: Arc<str>,
}

/// What a provider finds fault with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BlockCause {
    /// Our address is on the blocklist of this name.
    Blocklist(Arc<str>),
    /// Our address has no name, or one that does not lead back to it.
    Ptr,
    /// Our HELO name.
    Helo,
    /// We ask too much.
    Rate,
    /// It refuses a mailbox that it accepted before, as a defence against directory harvesting does.
    Harvest,
    /// The sender that MAIL names.
    Sender,
    /// A policy, whoever the recipient is.
    Policy,
    /// Its words tell no more.
    Other,
}

impl fmt::Display for BlockCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocklist(name) => write!(f, "on the blocklist {name}"),
            Self::Ptr => f.write_str("no PTR record that fits"),
            Self::Helo => f.write_str("the HELO name"),
            Self::Rate => f.write_str("too many questions"),
            Self::Harvest => f.write_str("a defence against directory harvesting"),
            Self::Sender => f.write_str("the sender"),
            Self::Policy => f.write_str("a policy"),
            Self::Other => f.write_str("not wanted"),
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
    /// What the words of a refusal find fault with.
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

/// The longest name of a zone.
const MAX_ZONE: usize = 253;

/// The blocklist that a refusal names: a list that is known by a word, or else the name of a zone behind "using" and
/// its like, as in Postfix's "blocked using zen.spamhaus.org".
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

/// Lanes that ended and are still told of, because they refused the sender.
const MAX_REFUSED: usize = 1_000;

/// The status of a lane, shared by the lane and those who look at it.
pub(super) type SharedStatus = Arc<Mutex<LaneStatus>>;

/// The lanes of a run.
#[derive(Clone, Debug, Default)]
pub(in crate::verify) struct Statuses(Arc<Mutex<Vec<SharedStatus>>>);

impl Statuses {
    /// A new lane, which is open.
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

    /// Forgets the lanes that ended, but for those that stayed blocked, and some that refused the sender.
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
    fn ended_lanes_that_refused_the_sender_are_told_of_up_to_a_limit() {
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
