//! The counters of a host.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Declares each counter once, for the counting host and for the snapshot.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one host since its start: the actions of its clients, and the limits that they exceeded.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct HostStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> HostStats {
                HostStats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Connections accepted, including the refused ones.
    connections,
    /// Connections open now.
    open,
    /// The most connections that were open at once.
    max_open,
    /// Connections refused by `max_connections`.
    refused_connections,
    /// TLS handshakes completed.
    handshakes,
    /// Command lines, valid or not.
    commands,
    /// MAIL commands accepted: transactions begun.
    transactions,
    /// RCPT commands, accepted or not.
    rcpts,
    /// RCPT commands accepted.
    accepted,
    /// Messages accepted.
    messages,
    /// Octets of the messages accepted, without dot-stuffing.
    message_octets,
    /// Errors as Postfix counts them: replies of 4yz and 5yz, and junk commands over the limit.
    errors,
    /// Replies that were delayed because of errors.
    soft_limit_hits,
    /// Connections that were closed because of errors.
    hard_limit_hits,
    /// RSET, NOOP, VRFY, EHLO and HELO over the limit of `junk`.
    junk_limit_hits,
    /// Connections that were closed because of commands beyond `max_nonmail`.
    nonmail_limit_hits,
    /// RCPT commands over `rcpts_per_transaction`.
    rcpt_limit_hits,
    /// RCPT commands refused by the greylist.
    greylisted,
    /// Replies that refused a blocked client.
    blocked,
    /// The number of times that the defence against directory harvesting began.
    harvest_defences,
    /// RCPT commands that it refused, for known or unknown mailboxes.
    harvest_refusals,
    /// Clients that sent before the banner was complete.
    early_talkers,
    /// Commands sent before a reply that must be awaited (RFC 2920 3.1), or sent in a group without PIPELINING.
    improper_pipelining,
}

/// A counter that many connections share.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds one and returns the sum.
    pub(super) fn increment(&self) -> u64 {
        self.add(1)
    }

    pub(super) fn add(&self, n: u64) -> u64 {
        self.0.fetch_add(n, Relaxed) + n
    }

    /// Adds one and returns the sum, unless it would exceed `max`. No other thread sees it exceeded.
    pub(super) fn up_to(&self, max: u64) -> Option<u64> {
        let next = |count| (count < max).then_some(count + 1);
        self.0.fetch_update(Relaxed, Relaxed, next).ok().map(|count| count + 1)
    }

    pub(super) fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(super) fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
