//! Integration tests: real sockets on loopback, against the sandbox.

#[cfg(all(feature = "blocking", feature = "verify", feature = "sandbox"))]
mod blocking;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "verify")]
mod mx;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod support;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod verify;
