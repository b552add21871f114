//! Verifies whether mailboxes exist, for any number of addresses. The dialogue is MX, EHLO, MAIL and RCPT; no message
//! is sent.
//!
//! ```text
//! input ─▶ run ─▶ router ─▶ dns/resolver ─▶ lane/worker ─▶ lane/pipeline ─▶ lane/verdicts ─▶ run
//!                                           └ lane/state   └ outcome        └ record
//! ```
//!
//! | folder | what it holds |
//! |---|---|
//! | `classify/` | what replies mean |
//! | `dns/` | the mail servers of a domain |
//! | `facts/` | facts about an address that need no network |
//! | `lane/` | the connections, queues and verdicts of one provider |
//! | `policy/` | limits, budgets and breakers, without I/O |
//!
//! Files outside the folders: `verifier` starts the engine and its runs, `call` holds the options and recent verdicts of
//! single calls. `run` has the caller's two ends of a run, `run_state` what the engine knows of it, and `run_batches` its
//! events. `input` reads the caller's iterator. `router` is the engine, which assigns addresses to lanes. `context` is the
//! data that all lanes share, and `permits` bounds connections and DNS queries. `config`, `event`, `item`, `outcome`, `record` and `verdict` hold data.
//!
//! [`Verifier`] is the entry point. [`verify_all`](Verifier::verify_all) verifies a list. [`start`](Verifier::start)
//! serves a caller that stores retries and verdicts itself, such as a durable job. [`Classifier`] works without a
//! verifier, for example on the replies in a bounce log.

mod call;
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
mod run_batches;
mod run_state;
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
    call::VerifyOptions,
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
