//! The SMTP protocol without I/O: it converts octets to values and back. It uses no runtime, clock or log.
//!
//! | file | content | source |
//! |---|---|---|
//! | `address` | [`Mailbox`], [`Domain`], [`ReversePath`], [`ClientName`] | RFC 5321 4.1.2, RFC 6531 3.3 |
//! | `command` | [`Command`] and its parts, encoded and decoded | RFC 5321 4.1 |
//! | `grammar` | one line of a reply, by nom; [`EnhancedCode`] | RFC 5321 4.2, RFC 2034, RFC 3463 |
//! | `decoder` | [`Decoder`]: splits a stream into replies | |
//! | `reply` | [`Reply`] | RFC 5321 4.2 |
//! | `extensions` | [`Extensions`]: the reply to EHLO | RFC 5321 4.1.1.1 |
//! | `dialogue` | [`Dialogue`]: legal commands and owed replies | RFC 5321 4.1.4, RFC 2920 |
//! | `sasl` | [`Sasl`]: responses to challenges | RFC 4954 |
//! | `dot` | [`DotStuffer`], [`DotUnstuffer`]: the message on the wire | RFC 5321 4.5.2 |
//! | `error` | [`DecodeError`] | |

mod address;
mod command;
mod decoder;
mod dialogue;
mod dot;
mod error;
mod extensions;
mod grammar;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod reply;
mod sasl;

pub use self::{
    address::{AddressError, AddressErrorKind, ClientName, Domain, Host, Mailbox, ReversePath},
    command::{
        Argument, Body, Command, CommandError, EnvelopeId, MailParams, Mechanism, Notify, OriginalRecipient,
        ParamError, RcptParams, Ret, SaslResponse, Verb,
    },
    decoder::Decoder,
    dialogue::{Dialogue, DialogueError, State},
    dot::{DotStuffer, DotUnstuffer},
    error::DecodeError,
    extensions::{Extensions, Limits},
    grammar::{EnhancedCode, EnhancedCodeError},
    reply::{MAX_LINE, MAX_LINES, MAX_REPLY, Reply},
    sasl::{Credentials, Sasl, SaslError},
};
pub(crate) use self::{
    command::{encode_mail, encode_rcpt},
    reply::ReplyHead,
};
