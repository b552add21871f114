//! The SMTP server without I/O: octets of the client in, octets of the server out, and what the connection has to
//! do in between.
//!
//! | file | what it is |
//! |---|---|
//! | here | the state, lines, and replies |
//! | `stage` | what happens at a stage in place of the answer: faults, the blocklist |
//! | `commands` | EHLO, MAIL, RCPT, …: one function each |
//! | `phase` | what the octets of the client are: commands, a SASL dialogue, a message |
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

/// The longest line, CR LF included: that of a SASL dialogue (RFC 4954 4), the longest that any command may have.
const MAX_LINE: usize = 12_288;

/// An MX host at work: what all of its connections share.
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

/// What the connection has to do once it has sent what is there to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the next line, if it is there already.
    Next,
    /// Read more.
    Read,
    /// Wait, then go on.
    Pause(Delay),
    /// Begin TLS.
    Handshake,
    /// Close.
    Close,
    /// Close with RST.
    Reset,
    /// Never send anything again.
    Silence,
    /// Send `250-` lines for ever.
    Endless,
}

/// One client's dialogue.
#[derive(Debug)]
pub(super) struct ServerSession {
    mx: Arc<Mx>,
    peer: IpAddr,
    pub(super) rng: Rng,
    greeted: bool,
    secure: bool,
    authenticated: bool,
    /// Whether replies carry enhanced codes.
    enhanced: bool,
    transaction: Option<Transaction>,
    phase: Phase,
    errors: Errors,
    commands: u32,
    mails: u32,
    /// How often each fault's stage and recipient have fit.
    counts: Vec<u32>,
    /// How the replies of this step are to be sent.
    timing: ReplyTiming,
    /// The reply that the next one overtakes.
    held: Option<Bytes>,
    nonmail: Nonmail,
    harvest: HarvestCounter,
    slow: bool,
    /// In the middle of a line that is too long.
    skipping: bool,
}

/// Between MAIL and the end of the message.
#[derive(Debug)]
struct Transaction {
    sender: ReversePath,
    smtputf8: bool,
    accepted: u32,
    /// Octets that came by BDAT, once one came.
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

    /// The server speaks first.
    pub(super) fn banner(&mut self, out: &mut BytesMut) -> Step {
        self.answer(FaultStage::Connect, None, out, |session, out| {
            let name = &session.mx.config.name;
            session.plain(out, 220, format_args!("{name} ESMTP Postfix (sandbox)"))
        })
    }

    /// Takes what `input` holds of the client's octets, and appends the replies to `out`, until it runs out or the
    /// connection has to act.
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
            // The reply to BDAT comes behind the chunk.
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

    /// Whether the client may send more without awaiting the reply (RFC 2920 3.1).
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

    /// TLS is on: all that the client said before it is forgotten (RFC 3207 4.2).
    pub(super) fn secured(&mut self) {
        self.secure = true;
        self.greeted = false;
        self.transaction = None;
        self.nonmail.secured();
        self.mx.counters.handshakes.increment();
    }

    /// The time before each octet, once the tarpit has begun.
    pub(super) fn octet_delay(&self) -> Option<Delay> {
        self.mx.config.tarpit.filter(|_| self.slow).map(|tarpit| tarpit.octet)
    }

    /// A goodbye that names the host, as those of Postfix do.
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

    /// A reply that counts as an error.
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

    /// A reply without an enhanced code, as those to the greeting and those of 3yz are (RFC 2034 3).
    fn plain(&self, out: &mut BytesMut, code: u16, text: Arguments<'_>) -> Step {
        // Writing to memory cannot fail.
        let _ = write!(out, "{code} {text}\r\n");
        Step::Next
    }
}
