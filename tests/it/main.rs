//! Integration tests: one binary, a module each; over real sockets on loopback where a socket is needed.

#[cfg(all(feature = "blocking", feature = "verify", feature = "sandbox"))]
mod blocking;
#[cfg(feature = "cli")]
mod cli;
mod layers;
#[cfg(feature = "verify")]
mod mx;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod support;
mod traces;
#[cfg(all(feature = "verify", feature = "sandbox"))]
mod verify;
