//! The commands, one function each. The order of the checks and most texts are Postfix's.

use std::sync::{Arc, PoisonError};

use bytes::{BufMut, BytesMut};
use tokio::time::Instant;

use super::{ServerSession, Step, Transaction};
use crate::{
    proto::{Body, ClientName, Command, MailParams, Mailbox, RcptParams, ReversePath, Verb},
    sandbox::{Extension, HarvestDefence, Truth, harvest::HarvestCounter},
};

impl ServerSession {
    pub(super) fn execute(&mut self, command: Command, out: &mut BytesMut) -> Step {
        let verb = command.verb();
        if matches!(verb, Verb::Ehlo | Verb::Helo | Verb::Lhlo | Verb::Rset | Verb::Noop | Verb::Vrfy)
            && self.errors.junk()
        {
            self.count_error();
            self.mx.counters.junk_limit_hits.increment();
        }
        match command {
            Command::Ehlo(name) => self.greet(Verb::Ehlo, &name, out),
            Command::Helo(name) => self.greet(Verb::Helo, &name, out),
            Command::Lhlo(name) => self.greet(Verb::Lhlo, &name, out),
            Command::StartTls => self.starttls(out),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_ref(), out),
            Command::Mail { from, params } => self.mail(from, &params, out),
            Command::Rcpt { to, params } => self.rcpt(&to, &params, out),
            Command::Data => self.data(out),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::Rset => {
                self.transaction = None;
                self.ok(out)
            }
            Command::Noop => self.ok(out),
            Command::Vrfy(argument) => self.reply(out, 252, "2.0.0", format_args!("{}", argument.as_str())),
            Command::Quit => {
                self.reply(out, 221, "2.0.0", format_args!("Bye"));
                Step::Close
            }
        }
    }

    fn greet(&mut self, verb: Verb, client: &ClientName, out: &mut BytesMut) -> Step {
        let mx = Arc::clone(&self.mx);
        let understood = match verb {
            Verb::Lhlo => mx.config.lmtp,
            Verb::Ehlo => !mx.config.lmtp && !mx.config.helo_only,
            _ => !mx.config.lmtp,
        };
        if !understood {
            return self.refuse(out, 502, "5.5.2", format_args!("Error: command not recognized"));
        }
        tracing::trace!(host = mx.config.name, %client, "greeted");
        self.greeted = true;
        self.transaction = None;
        let name = format_args!("{}", mx.config.name);
        match verb {
            Verb::Helo => self.plain(out, 250, name),
            _ => self.extensions(out),
        }
    }

    fn extensions(&self, out: &mut BytesMut) -> Step {
        let config = &self.mx.config;
        let mut lines = vec![config.name.clone()];
        let mut offer = |extension, line: &str| {
            if config.offers(extension) {
                lines.push(line.into());
            }
        };
        offer(Extension::Pipelining, "PIPELINING");
        offer(Extension::Size, &format!("SIZE {}", config.size_limit));
        if !self.secure {
            offer(Extension::StartTls, "STARTTLS");
        }
        offer(Extension::EnhancedStatusCodes, "ENHANCEDSTATUSCODES");
        offer(Extension::EightBitMime, "8BITMIME");
        offer(Extension::Dsn, "DSN");
        offer(Extension::SmtpUtf8, "SMTPUTF8");
        offer(Extension::Chunking, "CHUNKING");
        if !config.accounts.is_empty() {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        if config.announce_limits {
            let limits =
                [("RCPTMAX", config.rcpts_per_transaction), ("MAILMAX", config.mails_per_connection)];
            let limits = limits.iter().filter_map(|(name, limit)| Some(format!(" {name}={}", (*limit)?)));
            lines.push("LIMITS".to_owned() + &limits.collect::<String>());
        }
        let last = lines.len() - 1;
        for (n, line) in lines.iter().enumerate() {
            out.put_slice(if n == last { b"250 " } else { b"250-" });
            out.put_slice(line.as_bytes());
            out.put_slice(b"\r\n");
        }
        Step::Next
    }

    fn starttls(&mut self, out: &mut BytesMut) -> Step {
        if !self.mx.config.offers(Extension::StartTls) {
            return self.refuse(out, 502, "5.5.1", format_args!("Error: command not implemented"));
        }
        if self.secure {
            return self.refuse(out, 554, "5.5.1", format_args!("Error: TLS already active"));
        }
        self.reply(out, 220, "2.0.0", format_args!("Ready to start TLS"));
        Step::Handshake
    }

    fn mail(&mut self, from: ReversePath, params: &MailParams, out: &mut BytesMut) -> Step {
        let mx = Arc::clone(&self.mx);
        let config = &mx.config;
        let unsupported = (params.size.is_some() && !config.offers(Extension::Size))
            || (params.body.is_some() && !config.offers(Extension::EightBitMime))
            || params.body == Some(Body::BinaryMime)
            || (params.smtputf8 && !config.offers(Extension::SmtpUtf8))
            || ((params.ret.is_some() || params.envid.is_some()) && !config.offers(Extension::Dsn))
            || params.require_tls;
        if !self.greeted {
            self.refuse(out, 503, "5.5.1", format_args!("Error: send HELO/EHLO first"))
        } else if self.transaction.is_some() {
            self.refuse(out, 503, "5.5.1", format_args!("Error: nested MAIL command"))
        } else if config.require_tls && !self.secure {
            self.refuse(out, 530, "5.7.0", format_args!("Must issue a STARTTLS command first"))
        } else if unsupported {
            self.refuse(out, 555, "5.5.4", format_args!("Unsupported option or value"))
        } else if from.needs_smtputf8() && !params.smtputf8 {
            self.refuse(out, 553, "5.6.7", format_args!("Sender address rejected: SMTPUTF8 is required"))
        } else if params.size.is_some_and(|size| size > config.size_limit) {
            self.refuse(out, 552, "5.3.4", format_args!("Message size exceeds fixed limit"))
        } else if config.mails_per_connection.is_some_and(|limit| self.mails >= limit) {
            self.close(out, 421, "4.7.0", format_args!("Error: too many messages in this connection"))
        } else {
            self.mails += 1;
            mx.counters.transactions.increment();
            let smtputf8 = params.smtputf8;
            self.transaction = Some(Transaction { sender: from, smtputf8, accepted: 0, chunked: None });
            out.put_slice(if self.enhanced { b"250 2.1.0 Ok\r\n" } else { b"250 Ok\r\n" });
            Step::Next
        }
    }

    fn rcpt(&mut self, to: &Mailbox, params: &RcptParams, out: &mut BytesMut) -> Step {
        let mx = Arc::clone(&self.mx);
        mx.counters.rcpts.increment();
        let Some(transaction) = &self.transaction else {
            return self.refuse(out, 503, "5.5.1", format_args!("Error: need MAIL command"));
        };
        if transaction.chunked.is_some() {
            return self.refuse(out, 503, "5.5.1", format_args!("Error: RCPT after BDAT"));
        }
        if (params.notify.is_some() || params.orcpt.is_some()) && !mx.config.offers(Extension::Dsn) {
            return self.refuse(out, 555, "5.5.4", format_args!("Unsupported option or value"));
        }
        if to.needs_smtputf8() && !transaction.smtputf8 {
            let text = format_args!("Recipient address rejected: SMTPUTF8 is required");
            return self.refuse(out, 553, "5.6.7", text);
        }
        if mx.config.rcpts_per_transaction.is_some_and(|limit| transaction.accepted >= limit) {
            mx.counters.rcpt_limit_hits.increment();
            return self.refuse(out, 452, "4.5.3", format_args!("Error: too many recipients"));
        }
        let bounce = transaction.sender == ReversePath::Null;
        if mx.config.one_bounce_recipient && bounce && transaction.accepted > 0 {
            let text = format_args!("Legitimate bounces are never sent to more than one recipient");
            return self.refuse(out, 550, "5.7.1", text);
        }
        let Some(truth) = mx.directory.truth_at(mx.index, to) else {
            return self.refuse_rcpt(out, 554, "5.7.1", to, "Relay access denied");
        };
        let sender = transaction.sender.as_str();
        if mx.greylist.as_ref().is_some_and(|list| !list.lets_pass(self.peer, sender, to.as_str())) {
            mx.counters.greylisted.increment();
            let why = "Recipient address rejected: Greylisted, please try again later";
            return self.refuse_rcpt(out, 450, "4.2.0", to, why);
        }
        if self.defends() {
            mx.counters.harvest_refusals.increment();
            return self.refuse_unknown(out, to);
        }
        match truth {
            Truth::Known | Truth::CatchAll => self.accept_rcpt(out),
            Truth::Full => {
                let why = "Recipient address rejected: Quota exceeded (mailbox for user is full)";
                self.refuse_rcpt(out, 452, "4.2.2", to, why)
            }
            Truth::Disabled => {
                self.refuse_rcpt(out, 550, "5.2.1", to, "Recipient address rejected: Mailbox disabled")
            }
            Truth::Unknown | Truth::NullMx | Truth::NoDomain => {
                self.record_unknown();
                self.refuse_unknown(out, to)
            }
        }
    }

    /// Returns true if the defence against directory harvesting refuses every recipient now.
    fn defends(&mut self) -> bool {
        self.mx
            .config
            .harvest_defence
            .is_some_and(|defence| self.with_harvest(defence, |harvest| harvest.refuses(Instant::now())))
    }

    /// Counts an unknown recipient.
    fn record_unknown(&mut self) {
        let Some(defence) = self.mx.config.harvest_defence else { return };
        let until = defence.lasts.map(|lasts| Instant::now() + lasts.draw(&mut self.rng));
        if self.with_harvest(defence, |harvest| harvest.record_unknown(defence.after, until)) {
            self.mx.counters.harvest_defences.increment();
        }
    }

    fn with_harvest<T>(&mut self, defence: HarvestDefence, act: impl FnOnce(&mut HarvestCounter) -> T) -> T {
        match defence.per_connection {
            true => act(&mut self.harvest),
            false => act(&mut self.mx.harvest.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn refuse_unknown(&mut self, out: &mut BytesMut, to: &Mailbox) -> Step {
        let why = "Recipient address rejected: User unknown in virtual mailbox table";
        self.refuse_rcpt(out, 550, "5.1.1", to, why)
    }

    fn accept_rcpt(&mut self, out: &mut BytesMut) -> Step {
        if let Some(transaction) = &mut self.transaction {
            transaction.accepted += 1;
        }
        self.mx.counters.accepted.increment();
        out.put_slice(if self.enhanced { b"250 2.1.5 Ok\r\n" } else { b"250 Ok\r\n" });
        Step::Next
    }

    fn refuse_rcpt(
        &mut self,
        out: &mut BytesMut,
        code: u16,
        enhanced: &str,
        to: &Mailbox,
        why: &str,
    ) -> Step {
        match self.mx.config.terse {
            true => self.refuse(out, code, enhanced, format_args!("{why}")),
            false => self.refuse(out, code, enhanced, format_args!("<{to}>: {why}")),
        };
        if self.mx.config.close_after_refusal && code >= 500 { Step::Close } else { Step::Next }
    }
}
