#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

fuzz_target!(|text: &str| properties::address_roundtrip(text));
