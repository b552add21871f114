//! The library against real servers. The tests need root and the servers of `README.md`, and fail without them.

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
