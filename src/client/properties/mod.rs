//! What holds for a session, whatever it is asked to do and whatever it is told: `cargo test` asks it of inputs that
//! proptest makes, `fuzz/` of inputs that libFuzzer finds. Each function panics where its property does not hold.

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
