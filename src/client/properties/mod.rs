//! Properties of a session, for any calls and any replies. `cargo test` checks them on inputs of proptest, and `fuzz/` on
//! inputs of libFuzzer. Each function panics where its property does not hold.

mod auth_challenge;
mod session_ops;
mod wire;

pub use self::{
    auth_challenge::auth_challenge,
    session_ops::{Call, Step, session_ops},
    wire::{Fault, Mood, Offer},
};

#[cfg(test)]
mod tests;
