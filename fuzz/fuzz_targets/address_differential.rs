#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/peer_address.rs"]
mod peer_address;

fuzz_target!(|text: &str| peer_address::agree(text));
