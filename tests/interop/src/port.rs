//! Free ports.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The first port of the range. It is below the ephemeral ports (32768 and up on Linux). A client could take one of
/// those between our check and the server's bind.
const FIRST: u32 = 12_000;
const COUNT: u32 = 18_000;

/// Returns a port on which no process listens. No other caller in this process gets it.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Other test processes begin at another port.
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(process::id().wrapping_mul(97));
        let port = u16::try_from(FIRST + offset % COUNT).expect("the range fits");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}
