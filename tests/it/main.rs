//! Integration tests. They are one binary with one module each, and use real sockets on loopback where they need one.

#![expect(clippy::unwrap_used, reason = "in tests and their helpers, a panic is the report")]

#[cfg(all(feature = "verify", feature = "sandbox"))]
mod blame;
#[cfg(all(feature = "blocking", feature = "verify", feature = "sandbox"))]
mod blocking;
mod cancellation;
#[cfg(all(unix, feature = "cli"))]
mod clean;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod columns;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod connect;
mod differential;
#[cfg(feature = "cli")]
mod doctor;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod engine;
#[cfg(all(unix, feature = "cli"))]
mod files;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod flow;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod harvest;
#[cfg(feature = "cli")]
mod job;
mod layers;
#[cfg(feature = "job")]
mod lists;
#[cfg(feature = "sandbox")]
mod logging;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod memory;
mod monitoring;
#[cfg(feature = "verify")]
mod mx;
mod naive;
#[cfg(feature = "verify")]
mod nameserver;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod pairing;
mod peer_address;
#[cfg(feature = "sandbox")]
mod pool;
mod readme;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod refusals;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod resilience;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod run;
#[cfg(all(feature = "cli", unix))]
mod shown;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod slow;
#[cfg(feature = "cli")]
mod summary;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod support;
mod traces;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod verify;
