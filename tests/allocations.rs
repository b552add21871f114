//! That reading replies allocates nothing once the buffer is there. A binary of its own, and without the harness, since
//! it counts every allocation of the process, those of the harness's thread too.

use std::alloc::System;

use smtp_pool::proto::{Decoder, Mailbox};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FLIGHT: usize = 100;
const REPLY: &[u8] = b"550 5.1.1 <user12@example.com>: Recipient address rejected: unknown\r\n";

/// Allocations in a flight of replies, read in pieces as a socket gives them, each looked at as a whole.
fn allocations(decoder: &mut Decoder, flight: &[u8], keep: bool) -> usize {
    let region = Region::new(ALLOCATOR);
    let mut replies = 0;
    for chunk in flight.chunks(1460) {
        decoder.buffer().reserve(8 * 1024);
        decoder.buffer().extend_from_slice(chunk);
        if keep {
            while let Some(reply) = decoder.decode().expect("replies") {
                assert_eq!((reply.code(), reply.text().len()), (550, 57));
                replies += 1;
            }
        } else {
            while let Some(reply) = decoder.decode_ref().expect("replies") {
                assert_eq!((reply.code(), reply.text().len()), (550, 57));
                replies += 1;
            }
        }
    }
    assert_eq!(replies, FLIGHT);
    let change = region.change();
    change.allocations + change.reallocations
}

/// Replies allocate nothing once the buffer is there.
fn main() {
    let flight = REPLY.repeat(FLIGHT);
    for keep in [true, false] {
        let mut decoder = Decoder::new();
        let first = allocations(&mut decoder, &flight, keep);
        assert!(first > 0, "the buffer at least: the allocator counts");
        for _ in 0..20 {
            assert_eq!(allocations(&mut decoder, &flight, keep), 0);
        }
    }
    // What the parsing of one address would add, so that a zero is known to mean something.
    let region = Region::new(ALLOCATOR);
    assert!(Mailbox::parse("ann@example.com").is_ok());
    assert!(region.change().allocations > 0);
}
