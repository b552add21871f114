//! Does this mailbox exist? MX, EHLO, MAIL, RCPT and never a message, for any number of addresses.
//!
//! ```text
//! input ─▶ run ─▶ router ─▶ dns/resolver ─▶ lane/worker ─▶ lane/pipeline ─▶ lane/verdicts ─▶ run
//!                                           └ lane/state   └ outcome        └ record
//! ```
//!
//! | folder | what it holds |
//! |---|---|
//! | `classify/` | the meaning of replies |
//! | `dns/` | the mail servers of a domain |
//! | `facts/` | what an address tells without its server |
//! | `lane/` | the connections, queues and verdicts of one provider |
//! | `policy/` | limits, budgets and breakers, without I/O |
//!
//! [`Verifier`] is the whole: [`verify_all`](Verifier::verify_all) for a list, and [`start`](Verifier::start) for a
//! caller that keeps its own books, of a durable job for example; [`Classifier`] is of use by itself for people with bounce logs.

mod classify;
mod config;
mod context;
mod dns;
mod event;
mod facts;
mod input;
mod item;
mod lane;
mod outcome;
mod permits;
mod policy;
mod record;
mod router;
mod run;
mod verdict;
mod verifier;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use self::classify::properties;
#[doc(no_inline)]
pub use crate::net::TlsVersion;

#[cfg(feature = "job")]
pub(crate) use self::record::shortened;

pub use self::{
    classify::{
        Classifier, Explanation, Predicate, Retry, RulesError, Stage, UnknownStage, Verdict, decode_text,
        reply_text,
    },
    config::{RiskPolicy, VerifierConfig},
    dns::resolver::{DnsConfigError, Exchangers, MailRoute, Resolved, Resolver, Routes, Unreachable},
    event::{Event, Task},
    facts::{
        lists::{DomainFacts, Lists, is_role},
        spelling::{did_you_mean, normal_form},
    },
    lane::status::{Block, BlockCause, LaneState, LaneStatus},
    policy::provider::{Provider, ProviderLimits, Providers, ProvidersError},
    record::{CatchAll, MAX_TEXT, Record},
    run::{Ended, Events, Lanes, Records, Tasks},
    verdict::{Blame, Status, SubStatus, Subject},
    verifier::{Verifier, VerifierError},
};
