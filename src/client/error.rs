//! The errors of a session, and of opening one. A refusal is a [`Reply`], not an error.

use std::io;

use thiserror::Error;

use crate::{
    net::{DialError, ErrorKind, TlsError},
    proto::{DecodeError, DialogueError, Reply, SaslError, Verb},
};

/// A session cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No whole reply within the deadline.
    #[error("no reply to {verb} within its deadline")]
    Timeout {
        /// What was to be answered.
        verb: Verb,
    },
    /// The server closed the connection instead of replying.
    #[error("the connection was closed before the reply to {verb}")]
    Closed {
        /// What was to be answered.
        verb: Verb,
    },
    /// The connection broke.
    #[error("the connection broke before the reply to {verb}")]
    Io {
        /// What was to be answered.
        verb: Verb,
        /// How it broke.
        source: io::Error,
    },
    /// The tokio runtime ended in which the connection was opened. A connection cannot be used in another one.
    #[error("no reply to {verb}: the tokio runtime ended in which the connection was opened")]
    RuntimeEnded {
        /// The command without a reply.
        verb: Verb,
    },
    /// What the server sent is not SMTP.
    #[error("the server does not speak SMTP")]
    Decode(#[from] DecodeError),
    /// A command is out of sequence, or a reply answers no command.
    #[error("out of step")]
    Dialogue(#[from] DialogueError),
    /// The lines of a reply carry different codes ([`Reply::has_mixed_codes`]): whether the command was done is not
    /// known. The session goes on where its [`state`](super::Session::state) allows it.
    #[error("the lines of the reply to {verb} carry different codes: {reply}")]
    Ambiguous {
        /// What was answered.
        verb: Verb,
        /// The reply, with the code of its first line.
        reply: Box<str>,
    },
    /// The command or message needs an extension that the server does not offer. Nothing was sent; the session goes on.
    #[error("{verb} needs {extension}, which the server does not offer")]
    NotOffered {
        /// The command that would have needed it.
        verb: Verb,
        /// The keyword of the extension: SMTPUTF8 (RFC 6531), 8BITMIME (RFC 6152) or BINARYMIME (RFC 3030).
        extension: &'static str,
    },
    /// A reply was waited for, and none is owed.
    #[error("no reply is owed")]
    NothingOwed,
    /// Plaintext came behind the reply to STARTTLS. An attacker injects it to pass for part of the secured dialogue.
    #[error("octets injected before TLS")]
    Injected,
}

/// No session could be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot connect")]
    Dial(#[from] DialError),
    /// The transport of the user failed ([`Connect`](crate::net::Connect)).
    #[error("cannot connect")]
    Transport(#[source] io::Error),
    /// The server accepted the connection, and sent nothing in the clear until the deadline of the banner. A server that
    /// waits for implicit TLS does so ([`TlsPolicy::Implicit`](crate::net::TlsPolicy::Implicit)).
    #[error(
        "no banner within its deadline; the server may expect TLS at once, as at port 465: try `tls = \"implicit\"`"
    )]
    Silent,
    /// The TLS handshake failed where TLS is required.
    #[error("no TLS session")]
    Tls(#[from] TlsError),
    /// The dialogue broke at STARTTLS, or at the first words inside TLS.
    #[error("STARTTLS is offered and broken")]
    StartTls(#[source] SessionError),
    /// TLS is required, and the server does not offer STARTTLS.
    #[error("the server does not offer STARTTLS, and TLS is required")]
    NoStartTls,
    /// The server refused: its banner, the greeting, STARTTLS where TLS is required, or AUTH.
    #[error("the server refused {verb} with {reply}")]
    Refused {
        /// What was refused.
        verb: Verb,
        /// The words of the server; of a long reply the first 4 KiB.
        reply: Reply,
    },
    /// No way to authenticate.
    #[error("cannot authenticate")]
    Sasl(#[from] SaslError),
    /// The dialogue broke.
    #[error("the dialogue broke")]
    Session(#[from] SessionError),
}

impl SessionError {
    /// Returns whether replies came that fit no command, or that are no replies.
    #[must_use]
    pub fn is_out_of_step(&self) -> bool {
        matches!(self, Self::Decode(_) | Self::Dialogue(_))
    }

    /// Returns whether the connection was closed or reset.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Io { .. } | Self::RuntimeEnded { .. })
    }

    /// Returns the error for a reply to `verb` whose lines carry different codes.
    pub(crate) fn ambiguous(verb: Verb, reply: &Reply) -> Self {
        Self::Ambiguous { verb, reply: reply.to_string().into() }
    }

    /// Returns whether the connection was gone. A connection that was idle for too long shows this at its first use.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Io { .. } | Self::RuntimeEnded { .. })
    }

    /// Returns what went wrong, in one word: a bounded label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timed_out",
            Self::Closed { .. } => "closed",
            Self::Io { source, .. } => ErrorKind::from(source).as_str(),
            Self::RuntimeEnded { .. } => "runtime_ended",
            Self::Decode(_) | Self::Dialogue(_) | Self::Ambiguous { .. } | Self::NothingOwed => "protocol",
            Self::NotOffered { .. } => "not_offered",
            Self::Injected => "injected",
        }
    }
}

impl ConnectError {
    /// Returns what went wrong, in one word: a bounded label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.kind().as_str(),
            Self::Transport(error) => ErrorKind::from(error).as_str(),
            Self::Silent => "timed_out",
            Self::Tls(error) => error.kind().as_str(),
            Self::StartTls(_) => "starttls",
            Self::NoStartTls => "no_starttls",
            Self::Refused { verb: Verb::Auth | Verb::AuthResponse, reply } if reply.is_permanent() => {
                "auth_refused"
            }
            Self::Refused { .. } => "refused_by_server",
            Self::Sasl(_) => "sasl",
            Self::Session(error) => error.kind(),
        }
    }
}
