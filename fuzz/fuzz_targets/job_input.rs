#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::job::properties;

fuzz_target!(|octets: &[u8]| properties::job_input(octets));
