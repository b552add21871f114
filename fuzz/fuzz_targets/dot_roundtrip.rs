#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

fuzz_target!(|input: (Vec<u16>, &[u8])| properties::dot_roundtrip(input.1, &input.0));
