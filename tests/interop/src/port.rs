//! Free ports.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that systems give to clients (32768 and up on Linux): one of those could be taken by a client's end
/// between our finding it free and the server's binding it.
const FIRST: u32 = 12_000;
const COUNT: u32 = 18_000;

/// A port on which nobody listens, and which no other caller in this process gets.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Other processes of the same kind begin elsewhere.
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(process::id().wrapping_mul(97));
        let port = u16::try_from(FIRST + offset % COUNT).expect("the range fits");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}
