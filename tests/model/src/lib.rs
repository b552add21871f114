//! A model of the pool, from the sources of `src/pool/{slots,wait_queue,idle}.rs`. Atomics and locks are those of shuttle,
//! which tries the orders in which threads can take their steps.
//!
//! `just model` runs it. The queue of idle connections is crossbeam's, whose operations count as one step each.
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
