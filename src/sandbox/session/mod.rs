//! The SMTP server without I/O: it turns octets of the client into octets of the server and steps for the connection.
//!
//! | file | content |
//! |---|---|
//! | `mod` | the state, lines, and replies |
//! | `stage` | faults, the tarpit and the blocklist at a stage |
//! | `commands` | EHLO, MAIL, RCPT, …: one function each |
//! | `phase` | the kind of the next octets: commands, a SASL dialogue, a message |
//! | `message` | DATA and BDAT |
//! | `auth` | the SASL dialogue |
//! | `errors` | Postfix's error counters |
//! | `nonmail` | Exim's limit of commands that are not mail |

mod auth;
mod commands;
mod errors;
mod message;
mod nonmail;
mod phase;
mod stage;
#[cfg(test)]
mod tests;

use std::{
    fmt::{Arguments, Write},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use memchr::memchr;

use self::{errors::Errors, nonmail::Nonmail, phase::Phase};
use super::{
    Delay, Extension, FaultStage, HostConfig, chance, directory::Directory, greylist::Greylist,
    harvest::HarvestCounter, stats::Counters, transport::ReplyTiming,
};
use crate::proto::{Command, CommandError, ReversePath, Verb};

/// The longest line, CR LF included: that of a SASL dialogue (RFC 4954 4). No command has a longer one.
const MAX_LINE: usize = 12_288;

/// A running MX host: the state that all its connections share.
#[derive(Debug)]
pub(super) struct Mx {
    pub(super) index: usize,
    pub(super) seed: u64,
    pub(super) config: HostConfig,
    pub(super) directory: Arc<Directory>,
    pub(super) greylist: Option<Greylist>,
    pub(super) harvest: Mutex<HarvestCounter>,
    pub(super) counters: Counters,
}

/// The step of the connection after it has sent the pending replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Continue with the next line, if it has arrived.
    Next,
    /// Read more.
    Read,
    /// Wait, then continue.
    Pause(Delay),
    /// Begin TLS.
    Handshake,
    /// Close.
    Close,
    /// Close with RST.
    Reset,
    /// Send nothing any more.
    Silence,
    /// Send `250-` lines without end.
    Endless,
}

/// The dialogue with one client.
#[derive(Debug)]
pub(super) struct ServerSession {
    mx: Arc<Mx>,
    peer: IpAddr,
    pub(super) rng: Rng,
    greeted: bool,
    secure: bool,
    authenticated: bool,
    /// True if replies carry enhanced codes.
    enhanced: bool,
    transaction: Option<Transaction>,
    phase: Phase,
    errors: Errors,
    /// The command lines received.
    commands: u32,
    /// The MAIL commands accepted.
    mails: u32,
    /// The number of times that each fault's stage and recipient matched.
    counts: Vec<u32>,
    /// The timing of the replies of this step.
    timing: ReplyTiming,
    /// The reply that is sent after the next one.
    held: Option<Bytes>,
    nonmail: Nonmail,
    harvest: HarvestCounter,
    /// True once the tarpit has begun.
    slow: bool,
    /// True in the middle of a line that is too long.
    skipping: bool,
}

/// The state between MAIL and the end of the message.
#[derive(Debug)]
struct Transaction {
    sender: ReversePath,
    smtputf8: bool,
    /// The recipients accepted.
    accepted: u32,
    /// The octets received by BDAT. None before the first BDAT.
    chunked: Option<u64>,
}

impl ServerSession {
    pub(super) fn new(mx: Arc<Mx>, peer: IpAddr, connection: u64, secure: bool) -> Self {
        Self {
            rng: chance::rng(mx.seed, &mx.config.name, connection),
            enhanced: mx.config.offers(Extension::EnhancedStatusCodes),
            errors: Errors::new(mx.config.errors),
            counts: vec![0; mx.config.faults.len()],
            nonmail: Nonmail::new(mx.config.max_nonmail),
            harvest: HarvestCounter::default(),
            mx,
            peer,
            greeted: false,
            secure,
            authenticated: false,
            transaction: None,
            phase: Phase::Command,
            commands: 0,
            mails: 0,
            timing: ReplyTiming::default(),
            held: None,
            slow: false,
            skipping: false,
        }
    }

    /// Appends the banner.
    pub(super) fn banner(&mut self, out: &mut BytesMut) -> Step {
        self.answer(FaultStage::Connect, None, out, |session, out| {
            let name = &session.mx.config.name;
            session.plain(out, 220, format_args!("{name} ESMTP Postfix (sandbox)"))
        })
    }

    /// Consumes the client's octets in `input` and appends the replies to `out`. Stops when `input` is empty or the
    /// connection must act.
    pub(super) fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Step {
        loop {
            let (start, held) = (out.len(), self.held.take());
            let step = if let Phase::Body(body) = &mut self.phase {
                match body.take(input) {
                    Some(end) => self.end_body(end, out),
                    None => Step::Read,
                }
            } else if let Some(end) = memchr(b'\n', input) {
                if let Some(delay) = self.errors.pause() {
                    self.mx.counters.soft_limit_hits.increment();
                    Step::Pause(delay)
                } else {
                    let line = input.split_to(end + 1);
                    let step = self.line(&line, !input.is_empty(), out);
                    if step == Step::Next { self.limit_errors(out) } else { step }
                }
            } else {
                self.skipping |= input.len() >= MAX_LINE;
                if self.skipping {
                    input.clear();
                }
                Step::Read
            };
            if let Some(held) = held {
                self.release(held, start, step, out);
            }
            if step != Step::Next {
                return step;
            }
        }
    }

    fn line(&mut self, line: &[u8], more: bool, out: &mut BytesMut) -> Step {
        if std::mem::take(&mut self.skipping) || line.len() > MAX_LINE {
            self.phase = Phase::Command;
            return self.refuse(out, 500, "5.5.2", format_args!("Error: line too long"));
        }
        if let Phase::Auth(_) = self.phase {
            return self.answer(FaultStage::Auth, None, out, |session, out| session.auth_response(line, out));
        }
        self.commands += 1;
        self.mx.counters.commands.increment();
        if self.mx.config.shutdown_at == Some(self.commands) {
            return self.close(out, 421, "4.3.2", format_args!("Service shutting down"));
        }
        match Command::parse(line) {
            // The reply to BDAT follows the chunk.
            Ok(Command::Bdat { size, last }) => self.bdat(size, last),
            Ok(command) => {
                let verb = command.verb();
                if more && !self.may_be_followed(verb) {
                    self.mx.counters.improper_pipelining.increment();
                }
                if self.nonmail.is_too_many(verb) {
                    self.mx.counters.nonmail_limit_hits.increment();
                    self.plain(out, 554, format_args!("Too many nonmail commands"));
                    return Step::Close;
                }
                let to = match &command {
                    Command::Rcpt { to, .. } if !self.counts.is_empty() => Some(to.clone()),
                    _ => None,
                };
                self.answer(verb.into(), to.as_ref(), out, |session, out| session.execute(command, out))
            }
            Err(error) => self.refuse_line(line, &error, out),
        }
    }

    /// Returns true if the client may send more before the reply (RFC 2920 3.1).
    fn may_be_followed(&self, verb: Verb) -> bool {
        matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Rset) && self.mx.config.offers(Extension::Pipelining)
    }

    fn refuse_line(&mut self, line: &[u8], error: &CommandError, out: &mut BytesMut) -> Step {
        let verb = line.trim_ascii_end().split(|&octet| octet == b' ').next().unwrap_or_default();
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        match (error, &*verb) {
            (CommandError::UnknownVerb, _) => {
                self.refuse(out, 500, "5.5.2", format_args!("Error: command not recognized"))
            }
            (CommandError::Address(_), "MAIL") => {
                self.refuse(out, 553, "5.1.7", format_args!("Bad sender address syntax"))
            }
            (CommandError::Address(_), "RCPT") => {
                self.refuse(out, 553, "5.1.3", format_args!("Bad recipient address syntax"))
            }
            (CommandError::Address(_), _) => {
                self.refuse(out, 501, "5.5.4", format_args!("Syntax: {verb} hostname"))
            }
            (CommandError::Parameter, _) => {
                self.refuse(out, 555, "5.5.4", format_args!("Unsupported option or value"))
            }
            (CommandError::Syntax(what), _) => {
                self.refuse(out, error.code(), "5.5.4", format_args!("Syntax: {what}"))
            }
        }
    }

    /// Closes at Postfix's hard limit.
    fn limit_errors(&mut self, out: &mut BytesMut) -> Step {
        if !self.errors.are_too_many() {
            return Step::Next;
        }
        self.mx.counters.hard_limit_hits.increment();
        self.close(out, 421, "4.7.0", format_args!("Error: too many errors"))
    }

    /// Resets the state after the TLS handshake (RFC 3207 4.2).
    pub(super) fn secured(&mut self) {
        self.secure = true;
        self.greeted = false;
        self.transaction = None;
        self.nonmail.secured();
        self.mx.counters.handshakes.increment();
    }

    /// Returns the time before each octet, once the tarpit has begun.
    pub(super) fn octet_delay(&self) -> Option<Delay> {
        self.mx.config.tarpit.filter(|_| self.slow).map(|tarpit| tarpit.octet)
    }

    /// Appends a final reply that names the host, as Postfix does, and closes.
    pub(super) fn close(
        &mut self,
        out: &mut BytesMut,
        code: u16,
        enhanced: &str,
        text: Arguments<'_>,
    ) -> Step {
        let mx = Arc::clone(&self.mx);
        self.reply(out, code, enhanced, format_args!("{} {text}", mx.config.name));
        Step::Close
    }

    fn ok(&self, out: &mut BytesMut) -> Step {
        out.put_slice(if self.enhanced { b"250 2.0.0 Ok\r\n" } else { b"250 Ok\r\n" });
        Step::Next
    }

    /// Appends a reply that counts as an error.
    fn refuse(&mut self, out: &mut BytesMut, code: u16, enhanced: &str, text: Arguments<'_>) -> Step {
        self.count_error();
        self.reply(out, code, enhanced, text)
    }

    fn count_error(&mut self) {
        self.errors.increment();
        self.mx.counters.errors.increment();
    }

    fn reply(&self, out: &mut BytesMut, code: u16, enhanced: &str, text: Arguments<'_>) -> Step {
        match self.enhanced {
            true => self.plain(out, code, format_args!("{enhanced} {text}")),
            false => self.plain(out, code, text),
        }
    }

    /// Appends a reply without an enhanced code, as to the greeting and for 3yz (RFC 2034 3).
    fn plain(&self, out: &mut BytesMut, code: u16, text: Arguments<'_>) -> Step {
        // Writing to memory cannot fail.
        let _ = write!(out, "{code} {text}\r\n");
        Step::Next
    }
}
