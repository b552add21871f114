//! The library against real servers. The tests need root, Postfix and aiosmtpd, and fail without.

mod aiosmtpd;
mod greylisting;
mod outage;
mod refusals;
mod sending;
mod support;
mod tls;
mod verdicts;
