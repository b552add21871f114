//! Does this mailbox exist? MX, EHLO, MAIL, RCPT and never a message, for any number of addresses.
//!
//! ```text
//! intake ─▶ engine ─▶ mx ─▶ lane ─▶ probe (throttle) ─▶ outcome (classify) ─▶ record
//!                            └ queue (catch_all)
//! ```
//!
//! [`Verifier`] is the whole; [`Classifier`] is of use by itself for people with bounce logs.

mod catch_all;
mod classify;
mod config;
mod engine;
mod facts;
mod intake;
mod lane;
mod mx;
mod outcome;
mod probe;
mod queue;
mod record;
mod throttle;
mod verdict;

pub use self::{
    classify::{Classifier, Explanation, Retry, RulesError, Stage, UnknownStage, Verdict},
    config::{RiskPolicy, VerifierConfig},
    engine::{Records, Verifier, VerifierError},
    facts::{DomainFacts, is_role},
    mx::{DnsConfigError, Exchangers, MailRoute, Resolver, Routes, Unreachable},
    record::{CatchAll, Record},
    verdict::{Blame, Status, SubStatus},
};
