//! The library against real servers. The tests need root, Postfix, aiosmtpd and NSD, and fail without them.

mod aiosmtpd;
mod dns;
mod greylisting;
mod outage;
mod pool;
mod refusals;
mod sending;
mod servers;
mod support;
mod tls;
mod verdicts;
