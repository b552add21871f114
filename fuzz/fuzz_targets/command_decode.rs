#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

fuzz_target!(|line: &[u8]| properties::command_decode(line));
