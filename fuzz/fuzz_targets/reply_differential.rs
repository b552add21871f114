#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

#[path = "../../tests/it/naive.rs"]
mod naive;

fuzz_target!(|stream: &[u8]| naive::agree(stream, &properties::decode_all([stream]).0));
