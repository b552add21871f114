#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

fuzz_target!(|input: (bool, &[u8])| properties::dialogue(input.1, input.0));
