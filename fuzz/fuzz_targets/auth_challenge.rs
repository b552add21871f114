#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::client::properties;

fuzz_target!(|input: (bool, [&str; 3], Vec<&[u8]>)| {
    let (token, [user, secret, mechanisms], answers) = input;
    properties::auth_challenge(token, user, secret, mechanisms, &answers);
});
