//! Integration tests: real sockets on loopback, against the sandbox.

#[cfg(all(feature = "verify", feature = "sandbox"))]
mod support;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod verify;
