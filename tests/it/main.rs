//! Integration tests: one binary, a module each.

#![expect(clippy::unwrap_used, reason = "in tests, their helpers included, a panic is the report")]

mod differential;
mod layers;
mod naive;
mod traces;
