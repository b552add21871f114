#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::verify::properties;

fuzz_target!(|text: &str| properties::data_files(text));
