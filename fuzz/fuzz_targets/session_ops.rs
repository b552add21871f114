#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::client::properties::{Offer, Step, session_ops};

fuzz_target!(|input: (Offer, Vec<Step>)| session_ops(input.0, &input.1));
