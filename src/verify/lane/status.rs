//! Publishes the status of lanes: each lane writes its own, and the callers of the runs that use it read it.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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

/// Lanes in the status of a run before those that ended are removed.
const MAX_LANES: usize = 4_096;
/// Ended lanes that stay in the status because they blocked us or refused the sender.
const MAX_ENDED: usize = 1_000;

/// The status of a lane, shared by the lane and its readers.
pub(super) type SharedStatus = Arc<Mutex<LaneStatus>>;

/// The published status of a lane, which its lane holds. Dropping it shows the readers that the lane has ended.
#[derive(Debug)]
pub(super) struct PublishedStatus {
    pub(super) status: SharedStatus,
    alive: Arc<()>,
}

/// The status of a lane in the view of a run.
#[derive(Debug)]
struct StatusView {
    status: SharedStatus,
    lane: Weak<()>,
    /// The counts of answers, defences and sender refusals before the run.
    before: (u64, u32, u64),
}

/// The lanes that a run used.
#[derive(Debug, Default)]
struct StatusList {
    lanes: Vec<StatusView>,
    /// The number of lanes at which those that ended are removed.
    most: usize,
}

/// The status of all lanes that a run used.
#[derive(Clone, Debug, Default)]
pub(in crate::verify) struct Statuses(Arc<Mutex<StatusList>>);

impl PublishedStatus {
    /// Returns the status of an open lane.
    pub(super) fn new(name: Arc<str>, limits: &ProviderLimits) -> Self {
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
        Self { status: Arc::new(Mutex::new(status)), alive: Arc::new(()) }
    }
}

impl StatusView {
    fn has_ended(&self) -> bool {
        self.lane.strong_count() == 0
    }

    /// Returns the status with the counts since the run first used the lane.
    fn snapshot(&self) -> LaneStatus {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (answered, harvest_defences, sender_refusals) = self.before;
        status.answered = status.answered.saturating_sub(answered);
        status.harvest_defences = status.harvest_defences.saturating_sub(harvest_defences);
        status.sender_refusals = status.sender_refusals.saturating_sub(sender_refusals);
        status
    }
}

impl Statuses {
    /// Adds a lane that the run uses for the first time.
    pub(super) fn add(&self, lane: &PublishedStatus) {
        let before = {
            let status = lane.status.lock().unwrap_or_else(PoisonError::into_inner);
            (status.answered, status.harvest_defences, status.sender_refusals)
        };
        let view = StatusView { status: Arc::clone(&lane.status), lane: Arc::downgrade(&lane.alive), before };
        let mut list = self.lock();
        list.lanes.push(view);
        if list.lanes.len() > list.most.max(MAX_LANES) {
            list.forget_ended();
            // The limit grows with the number of lanes at work, so that not every lane causes a search.
            list.most = 2 * list.lanes.len();
        }
    }

    pub(in crate::verify) fn snapshot(&self) -> Vec<LaneStatus> {
        self.lock().lanes.iter().map(StatusView::snapshot).collect()
    }

    fn lock(&self) -> MutexGuard<'_, StatusList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusList {
    /// Removes the lanes that ended, except some that blocked us or refused the sender.
    fn forget_ended(&mut self) {
        let mut kept = 0;
        self.lanes.retain(|lane| {
            if !lane.has_ended() {
                return true;
            }
            let status = lane.snapshot();
            let matters = matches!(status.state, LaneState::Blocked(_)) || status.sender_refusals > 0;
            kept += usize::from(matters);
            matters && kept <= MAX_ENDED
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(sender_refusals: u64) -> PublishedStatus {
        let lane = PublishedStatus::new("mx.test".into(), &ProviderLimits::default());
        lane.status.lock().unwrap().sender_refusals = sender_refusals;
        lane
    }

    #[test]
    fn ended_lanes_that_refused_the_sender_stay_up_to_a_limit() {
        let statuses = Statuses::default();
        let use_lanes = |count, refusals| -> Vec<PublishedStatus> {
            (0..count)
                .map(|_| {
                    let used = lane(0);
                    statuses.add(&used);
                    used.status.lock().unwrap().sender_refusals = refusals;
                    used
                })
                .collect()
        };
        drop((use_lanes(MAX_LANES, 0), use_lanes(MAX_LANES, 1)));
        let at_work = use_lanes(5, 0);
        statuses.lock().forget_ended();
        assert_eq!(statuses.snapshot().len(), MAX_ENDED + at_work.len());
        drop(at_work);
        statuses.lock().forget_ended();
        assert_eq!(statuses.snapshot().len(), MAX_ENDED);
    }

    #[test]
    fn a_run_sees_the_counts_since_it_first_used_the_lane() {
        let (statuses, used) = (Statuses::default(), lane(3));
        used.status.lock().unwrap().answered = 10;
        statuses.add(&used);
        {
            let mut status = used.status.lock().unwrap();
            (status.answered, status.sender_refusals, status.harvest_defences) = (14, 4, 1);
        }
        let [status] = &statuses.snapshot()[..] else { panic!("one lane") };
        assert_eq!((status.answered, status.sender_refusals, status.harvest_defences), (4, 1, 1));
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
