#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

fuzz_target!(|reply: &[u8]| properties::ehlo(reply));
