#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_pool::{
    proto::Reply,
    verify::{properties, reply_text},
};

fuzz_target!(|input: (u8, &[u8])| if let Ok(reply) = Reply::parse(input.1) {
    properties::classify(input.0, reply.code(), reply.enhanced(), &reply_text(&reply));
});
