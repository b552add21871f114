//! What is said of an address: status, sub-status, who is spoken of, and who is to blame for a refusal.
//!
//! A [`SubStatus`] implies its [`Status`], so the two can never contradict each other; [`Blame`] says whose
//! doing a refusal is, and only blame on the recipient makes an address undeliverable.

use std::fmt;

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

impl Status {
    /// The name in snake case, as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deliverable => "deliverable",
            Self::Undeliverable => "undeliverable",
            Self::Risky => "risky",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
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
    /// The name in snake case, as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::MailboxNotFound => "mailbox_not_found",
            Self::MailboxDisabled => "mailbox_disabled",
            Self::DoesNotAcceptMail => "does_not_accept_mail",
            Self::NoDnsEntries => "no_dns_entries",
            Self::FailedSyntaxCheck => "failed_syntax_check",
            Self::CatchAll => "catch_all",
            Self::MailboxQuotaExceeded => "mailbox_quota_exceeded",
            Self::RoleBased => "role_based",
            Self::Disposable => "disposable",
            Self::Greylisted => "greylisted",
            Self::RateLimited => "rate_limited",
            Self::Blocked => "blocked",
            Self::PolicyRejected => "policy_rejected",
            Self::MailServerTemporaryError => "mail_server_temporary_error",
            Self::TimeoutExceeded => "timeout_exceeded",
            Self::FailedSmtpConnection => "failed_smtp_connection",
            Self::TlsFailed => "tls_failed",
            Self::UnroutableIpAddress => "unroutable_ip_address",
            Self::ProtocolError => "protocol_error",
            Self::Other => "other",
        }
    }

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

impl fmt::Display for SubStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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

impl Blame {
    /// The name in snake case, as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Us => "us",
            Self::Policy => "policy",
            Self::Server => "server",
            Self::Network => "network",
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who or what a reply speaks of.
///
/// Only a reply about the recipient or the recipient's domain can make an address undeliverable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// The mailbox or address that was asked for.
    Recipient,
    /// The domain of that address: its relaying, its null MX.
    RecipientDomain,
    /// The reverse-path: its address, its domain, or that it is null.
    Sender,
    /// The client: its host, IP address, HELO name, PTR record, reputation or rate.
    Client,
    /// The connection or session: TLS, IP version, authentication, the number of connections.
    Connection,
    /// The mail transaction: its number of recipients.
    Transaction,
    /// The server that replies: its load, queue, disk, lookups or configuration.
    Server,
    /// Another server, which the server that replies has asked.
    RemoteServer,
    /// A mailing list.
    List,
    /// The message and its content.
    Content,
}

impl Subject {
    pub(super) const ALL: [Self; 10] = [
        Self::Recipient,
        Self::RecipientDomain,
        Self::Sender,
        Self::Client,
        Self::Connection,
        Self::Transaction,
        Self::Server,
        Self::RemoteServer,
        Self::List,
        Self::Content,
    ];

    /// The name in snake case, as in rules and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::RecipientDomain => "recipient_domain",
            Self::Sender => "sender",
            Self::Client => "client",
            Self::Connection => "connection",
            Self::Transaction => "transaction",
            Self::Server => "server",
            Self::RemoteServer => "remote_server",
            Self::List => "list",
            Self::Content => "content",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names written here and those that serde makes are the same.
    #[test]
    fn names_are_those_of_the_records() {
        for name in ["deliverable", "undeliverable", "risky", "unknown"] {
            let status: Status = serde_json::from_value(name.into()).unwrap();
            assert_eq!(status.to_string(), name);
        }
        for name in ["recipient", "us", "policy", "server", "network"] {
            let blame: Blame = serde_json::from_value(name.into()).unwrap();
            assert_eq!(blame.to_string(), name);
        }
        for name in "recipient recipient_domain sender client connection transaction server remote_server list content"
            .split_ascii_whitespace()
        {
            let subject: Subject = serde_json::from_value(name.into()).unwrap();
            assert_eq!(subject.to_string(), name);
        }
        for name in "accepted mailbox_not_found mailbox_disabled does_not_accept_mail no_dns_entries \
                     failed_syntax_check catch_all mailbox_quota_exceeded role_based disposable greylisted rate_limited \
                     blocked policy_rejected mail_server_temporary_error timeout_exceeded failed_smtp_connection \
                     tls_failed unroutable_ip_address protocol_error other"
            .split_ascii_whitespace()
        {
            let sub_status: SubStatus = serde_json::from_value(name.into()).unwrap();
            assert_eq!(sub_status.to_string(), name);
        }
    }
}
