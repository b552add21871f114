//! Integration tests: one binary, a module each.

mod layers;
mod traces;
