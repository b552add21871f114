//! What is said of an address: status, sub-status, and who is to blame for a refusal.
//!
//! A [`SubStatus`] implies its [`Status`], so the two can never contradict each other; [`Blame`] says whose
//! doing a refusal is, and only blame on the recipient makes an address undeliverable.

use serde::{Deserialize, Serialize};

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The server of the domain accepts mail for this mailbox.
    Deliverable,
    /// The server, the DNS or the syntax says for certain that mail cannot arrive.
    Undeliverable,
    /// Mail may be accepted, yet not arrive or not be welcome.
    Risky,
    /// Nothing certain was learnt; asking again later, or from elsewhere, may tell.
    Unknown,
}

/// Why the [`Status`] is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubStatus {
    /// RCPT was accepted.
    Accepted,
    /// The server knows no such mailbox.
    MailboxNotFound,
    /// The mailbox exists, or did, and is disabled, suspended, archived or closed.
    MailboxDisabled,
    /// The domain takes no mail at all: null MX (RFC 7505), or the server says so.
    DoesNotAcceptMail,
    /// The domain does not exist, or has neither MX nor address records.
    NoDnsEntries,
    /// The address is not one (RFC 5321 4.1.2, RFC 6531 3.3).
    FailedSyntaxCheck,
    /// The domain accepts any local part, so that acceptance tells nothing.
    CatchAll,
    /// The mailbox exists and is full.
    MailboxQuotaExceeded,
    /// The mailbox belongs to a role (`info@`, `sales@`), and the user's policy minds.
    RoleBased,
    /// The domain hands out throw-away addresses, and the user's policy minds.
    Disposable,
    /// The server asks to come back later, as it does with every first-time visitor.
    Greylisted,
    /// We, or the mailbox, are over a limit of rate, connections or messages.
    RateLimited,
    /// The server refuses us: our IP address, our name, our PTR record, our reputation.
    Blocked,
    /// The server refuses by a policy on sender or content, whoever asks.
    PolicyRejected,
    /// Any other temporary failure of the server.
    MailServerTemporaryError,
    /// No reply within the deadline.
    TimeoutExceeded,
    /// No connection, or it broke before the answer.
    FailedSmtpConnection,
    /// TLS was required and could not be had.
    TlsFailed,
    /// Every address of the MX is private, loopback or link-local.
    UnroutableIpAddress,
    /// What the server said is not SMTP, or out of step with what was asked.
    ProtocolError,
    /// A reply that tells nothing about the mailbox.
    Other,
}

impl SubStatus {
    /// The status that this sub-status implies.
    #[must_use]
    pub fn status(self) -> Status {
        use SubStatus as S;
        match self {
            S::Accepted => Status::Deliverable,
            S::MailboxNotFound
            | S::MailboxDisabled
            | S::DoesNotAcceptMail
            | S::NoDnsEntries
            | S::FailedSyntaxCheck => Status::Undeliverable,
            S::CatchAll | S::MailboxQuotaExceeded | S::RoleBased | S::Disposable => Status::Risky,
            _ => Status::Unknown,
        }
    }
}

/// Whose doing a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The mailbox or its domain: missing, full, disabled.
    Recipient,
    /// The one who asks: IP address, HELO name, PTR record, reputation, rate.
    Us,
    /// A rule on sender or content, whoever asks.
    Policy,
    /// The server is broken, busy or shutting down.
    Server,
    /// The way to the server: DNS, TCP, TLS, deadlines.
    Network,
}
