//! The parts of a verdict: status, sub-status, subject of the reply, and who caused a refusal.
//!
//! A [`SubStatus`] implies its [`Status`], so the two never contradict each other. [`Blame`] names who caused a
//! refusal. Only a refusal that the recipient caused makes an address undeliverable.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The server accepts this mailbox, and no test found that it accepts any local part.
    Deliverable,
    /// The server, the DNS or the syntax proves that mail cannot arrive.
    Undeliverable,
    /// The server may accept mail, but the mail may not reach a person or may not be welcome.
    Risky,
    /// The result is not certain. A later attempt, or one from another host, may decide.
    Unknown,
}

impl Status {
    /// Returns the name in snake case, as in records.
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
#[non_exhaustive]
pub enum SubStatus {
    /// The server accepted RCPT.
    Accepted,
    /// The server has no such mailbox.
    MailboxNotFound,
    /// The mailbox exists, or did, and is disabled, suspended, archived or closed.
    MailboxDisabled,
    /// The domain accepts no mail: it has a null MX (RFC 7505), or its server says so.
    DoesNotAcceptMail,
    /// The domain does not exist, or has neither MX nor address records.
    NoDnsEntries,
    /// The address breaks the syntax (RFC 5321 4.1.2, RFC 6531 3.3).
    FailedSyntaxCheck,
    /// The domain accepts any local part, so acceptance does not prove that the mailbox exists.
    CatchAll,
    /// The mailbox exists and is full.
    MailboxQuotaExceeded,
    /// The mailbox belongs to a role (`info@`, `sales@`), and the policy counts roles as risky.
    RoleBased,
    /// The domain offers disposable addresses, and the policy counts them as risky.
    Disposable,
    /// The server defers each new client or sender, and asks for another attempt later (RFC 6647).
    Greylisted,
    /// This client or the mailbox is over a limit of rate, connections or messages.
    RateLimited,
    /// The server refuses this client: its IP address, name, PTR record or reputation.
    Blocked,
    /// The server refuses by a policy on sender or content, for every client.
    PolicyRejected,
    /// Any other temporary failure of the server.
    MailServerTemporaryError,
    /// No reply arrived within the deadline.
    TimeoutExceeded,
    /// No connection could be opened, or it broke before the answer.
    FailedSmtpConnection,
    /// TLS was required but could not be set up.
    TlsFailed,
    /// Every address of the MX is private, loopback or link-local.
    UnroutableIpAddress,
    /// The reply is not SMTP, or does not match the command.
    ProtocolError,
    /// The reply says nothing about the mailbox.
    Other,
}

impl SubStatus {
    /// Returns the name in snake case, as in records.
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

    /// Returns the status that this sub-status implies.
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

/// Who caused a refusal or failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Blame {
    /// The mailbox or its domain: missing, full, disabled.
    Recipient,
    /// This client: its IP address, HELO name, PTR record, reputation or rate.
    Us,
    /// A policy on sender or content that applies to every client.
    Policy,
    /// The server: broken, busy or shutting down.
    Server,
    /// The network between client and server: DNS, TCP, TLS, deadlines.
    Network,
}

impl Blame {
    /// Returns the name in snake case, as in records.
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

/// Who or what a reply is about.
///
/// Only a reply about the recipient or the recipient's domain can make an address undeliverable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// The mailbox or address in RCPT.
    Recipient,
    /// The domain of that address, for example its relaying or its null MX.
    RecipientDomain,
    /// The reverse-path: its address, its domain, or the fact that it is null.
    Sender,
    /// The client: its host, IP address, HELO name, PTR record, reputation or rate.
    Client,
    /// The connection or session: TLS, IP version, authentication, the number of connections.
    Connection,
    /// The mail transaction: its number of recipients.
    Transaction,
    /// The server that replies: its load, queue, disk, lookups or configuration.
    Server,
    /// Another server, which the replying server asked.
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

    /// Returns the name in snake case, as in rules and records.
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

    /// `as_str` and serde use the same names.
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
