//! The primitives that `slots` and `wait_queue` synchronise by, apart so that `tests/model` can put its own in their place.

pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
