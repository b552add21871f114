//! A model of the pool: the very sources of `src/pool/{slots,wait_queue,idle}.rs`, with shuttle's atomics and locks in the
//! place of those of the standard library, so that every order in which threads can take their steps is tried.
//!
//! `just model` runs it. The queue of idle connections itself is crossbeam's, which is trusted: its operations are one
//! step each.
#![cfg(test)]
#![allow(dead_code)]

#[path = "../../../src/pool/idle.rs"]
mod idle;
#[path = "../../../src/pool/slots.rs"]
mod slots;
#[path = "../../../src/pool/wait_queue.rs"]
mod wait_queue;

mod sync {
    pub(super) use shuttle::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    };
}

mod tests;
