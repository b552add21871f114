//! Finds out why a delivery has no reply: the server was not found, was not reached, or did not answer.

use smtp_pool::verify::{Blame, SubStatus};

/// The result of a delivery without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoReply {
    pub(super) sub_status: SubStatus,
    pub(super) blame: Blame,
    /// The name of the reason, which is `rule` in the output.
    pub(super) rule: &'static str,
}

/// Words of Postfix, Exim, Sendmail and operating systems, in lower case. The first match decides.
const REASONS: [(&str, NoReply); 33] = {
    use SubStatus as S;
    const fn of(sub_status: SubStatus, blame: Blame, rule: &'static str) -> NoReply {
        NoReply { sub_status, blame, rule }
    }
    const DNS: NoReply = of(S::MailServerTemporaryError, Blame::Network, "log-dns");
    const TIMEOUT: NoReply = of(S::TimeoutExceeded, Blame::Network, "log-timeout");
    const NO_ANSWER: NoReply = of(S::TimeoutExceeded, Blame::Server, "log-timeout");
    const CONNECTION: NoReply = of(S::FailedSmtpConnection, Blame::Network, "log-connection");
    const LOST: NoReply = of(S::FailedSmtpConnection, Blame::Server, "log-connection");
    const TLS: NoReply = of(S::TlsFailed, Blame::Server, "log-tls");
    const LOOP: NoReply = of(S::Other, Blame::Server, "log-loop");
    [
        ("loops back to myself", LOOP),
        ("too many hops", LOOP),
        ("points to local host", LOOP),
        ("name service error", DNS),
        ("host or domain name not found", DNS),
        ("unable to look up host", DNS),
        ("name or service not known", DNS),
        ("host lookup", DNS),
        ("name server:", DNS),
        ("no dns", DNS),
        ("all relevant mx records point to non-existent hosts", DNS),
        ("name lookup failure", DNS),
        ("timed out while", NO_ANSWER),
        ("timed out after", NO_ANSWER),
        ("smtp timeout", NO_ANSWER),
        ("timed out", TIMEOUT),
        ("timeout", TIMEOUT),
        ("retry time not reached", TIMEOUT),
        ("have been failing for a long time", CONNECTION),
        ("connection refused", CONNECTION),
        ("no route to host", CONNECTION),
        ("network is unreachable", CONNECTION),
        ("network unreachable", CONNECTION),
        ("host is unreachable", CONNECTION),
        ("lost connection", LOST),
        ("connection reset", LOST),
        ("connection closed", LOST),
        ("closed connection", LOST),
        ("broken pipe", LOST),
        ("cannot start tls", TLS),
        ("tls is required, but", TLS),
        ("certificate not trusted", TLS),
        ("certificate verification failed", TLS),
    ]
};

/// Returns why there is no reply, from a log line in lower case.
pub(super) fn find(lower: &str) -> Option<NoReply> {
    REASONS.iter().find(|(words, _)| lower.contains(words)).map(|(_, reason)| *reason)
}
