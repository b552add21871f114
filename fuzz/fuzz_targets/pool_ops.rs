#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::pool::properties::{Step, pool_ops};

fuzz_target!(|input: ([u8; 2], u8, Vec<Step>)| pool_ops(input.0, input.1, &input.2));
