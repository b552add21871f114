#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::proto::properties;

fuzz_target!(|parts: (u8, u64, u8, [&str; 3])| {
    if let Some(command) = properties::command(parts.0, parts.3, parts.1, parts.2) {
        properties::command_encode(&command);
    }
});
