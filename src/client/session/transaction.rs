//! The envelope of a transaction, MAIL and RCPT, made of the session's three calls.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, stop_and_wait::unambiguous};
use crate::{
    client::{EnvelopeReplies, SessionError, Verification},
    proto::{Body, Command, DialogueError, MailParams, Mailbox, RcptParams, Reply, ReversePath, State, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Opens a transaction: MAIL and every RCPT in as few writes as the server and
    /// [`MAX_IN_FLIGHT`](crate::client::MAX_IN_FLIGHT) allow, with every reply read, refusals or not. Replies owed to
    /// earlier commands are read and let go.
    ///
    /// A reply whose lines carry different codes ([`Reply::has_mixed_codes`]) is no acceptance. Whether the server has
    /// accepted is not known, so send RSET if nothing else follows.
    ///
    /// MAIL declares SMTPUTF8 where a mailbox needs it.
    ///
    /// # Errors
    /// As [`queue`](Self::queue) and [`reply`](Self::reply); [`SessionError::NotOffered`] if a mailbox or `params` need
    /// an extension that the server does not offer, before anything is sent.
    pub async fn envelope(
        &mut self,
        from: &ReversePath,
        params: &MailParams,
        rcpts: &[Mailbox],
    ) -> Result<EnvelopeReplies, SessionError> {
        let mut replies: Vec<Reply> = Vec::with_capacity(rcpts.len() + 1);
        let before = self.dialogue.owed();
        let smtputf8 = params.smtputf8 || from.needs_smtputf8() || rcpts.iter().any(Mailbox::needs_smtputf8);
        let params = MailParams { smtputf8, ..params.clone() };
        self.check_offered(&params)?;
        self.queue_mail(from, &params)?;
        for to in rcpts {
            while !self.has_room() {
                replies.push(self.reply().await?.1);
            }
            if !self.extensions.pipelining && replies.get(before).is_some_and(|mail| !mail.is_positive()) {
                break;
            }
            self.queue_rcpt(to, &RcptParams::default())?;
        }
        while self.dialogue.owed() > 0 {
            replies.push(self.reply().await?.1);
        }
        self.check_answered()?;
        replies.drain(..before);
        let mail = replies.remove(0);
        Ok(EnvelopeReplies { mail, rcpts: replies })
    }

    /// Asks whether the server takes mail for a mailbox, and sends none: MAIL, RCPT and RSET in one write where the
    /// server offers PIPELINING. A refusal is an answer, not an error: see
    /// [`Verification::is_accepted`].
    ///
    /// Where the server refuses RSET, the transaction stays: the answer is good, and the session is not idle.
    ///
    /// Replies are matched to commands by their order alone, so a server that sends one reply too many shifts those behind
    /// it. This call finds such a shift by a reply that arrived before its command, and by codes that cannot belong to their
    /// commands. It is no proof. Without PIPELINING, a surplus refusal may stand in the place of the reply to MAIL. Several
    /// surplus replies may add up to a dialogue that looks right. The verifier of lists proves by a second EHLO
    /// or by QUIT that replies are in step.
    ///
    /// # Errors
    /// As [`queue`](Self::queue) and [`reply`](Self::reply), and:
    ///
    /// - [`SessionError::Ambiguous`] if the lines of the reply carry different codes, after RSET;
    /// - [`DialogueError::Unsolicited`] if replies are out of step, which ends the session;
    /// - [`SessionError::NotOffered`] if a mailbox needs SMTPUTF8 and the server does not offer it, before anything is sent.
    pub async fn verify_email(
        &mut self,
        from: &ReversePath,
        to: &Mailbox,
    ) -> Result<Verification, SessionError> {
        let smtputf8 = from.needs_smtputf8() || to.needs_smtputf8();
        let params = MailParams { smtputf8, ..MailParams::default() };
        self.check_offered(&params)?;
        // Replies that a dropped call left owed are not those of this one.
        let owed_before = self.dialogue.owed();
        self.queue_mail(from, &params)?;
        if !self.extensions.pipelining {
            let mail = self.reply().await?;
            if mail.1.is_positive() {
                self.queue_rcpt(to, &RcptParams::default())?;
                let rcpt = self.reply().await?;
                let reset = self.command(&Command::Rset).await?;
                self.check_codes(&mail.1, &rcpt.1, &reset)?;
                return self.answer(rcpt);
            }
            // MAIL that was answered by two codes may have begun a transaction.
            if self.dialogue.state() != State::Ready {
                self.command(&Command::Rset).await?;
            }
            return self.answer(mail);
        }
        self.queue_rcpt(to, &RcptParams::default())?;
        self.queue(&Command::Rset)?;
        for _ in 0..owed_before {
            self.reply().await?;
        }
        let mail = self.reply().await?;
        let rcpt = self.reply().await?;
        let (_, reset) = self.reply().await?;
        self.check_codes(&mail.1, &rcpt.1, &reset)?;
        self.answer(if mail.1.is_positive() { rcpt } else { mail })
    }

    /// Checks that the server offers the extensions that MAIL is to declare.
    fn check_offered(&self, params: &MailParams) -> Result<(), SessionError> {
        let offered = &self.extensions;
        let extension = match params.body {
            _ if params.smtputf8 && !offered.smtputf8 => "SMTPUTF8",
            Some(Body::EightBitMime) if !offered.eight_bit_mime => "8BITMIME",
            Some(Body::BinaryMime) if !offered.binary_mime => "BINARYMIME",
            _ => return Ok(()),
        };
        Err(SessionError::NotOffered { verb: Verb::Mail, extension })
    }

    fn answer(&mut self, (verb, reply): (Verb, Reply)) -> Result<Verification, SessionError> {
        self.check_answered()?;
        let reply = unambiguous(verb, reply)?;
        Ok(Verification { server: self.latencies.server().into(), verb, reply })
    }

    /// Checks that the replies may be those to MAIL, RCPT and RSET, in this order. RCPT is not accepted without MAIL
    /// (RFC 5321 3.3). No server refuses RSET because of a recipient. A command that it does not know has a code of its own.
    /// A refusal of all commands, such as 530 before STARTTLS (RFC 3207 4), has the code of the refusal of MAIL.
    fn check_codes(&mut self, mail: &Reply, rcpt: &Reply, reset: &Reply) -> Result<(), SessionError> {
        let is_reset = reset.is_positive()
            || reset.has_mixed_codes()
            || reset.is_closing()
            || matches!(reset.code(), 500..=504)
            || reset.code() == mail.code();
        if !is_reset {
            return Err(self.fail(Verb::Rset, DialogueError::Unsolicited(reset.code()).into()));
        }
        if rcpt.is_positive() && !mail.is_positive() && !mail.has_mixed_codes() {
            return Err(self.fail(Verb::Rcpt, DialogueError::Unsolicited(rcpt.code()).into()));
        }
        Ok(())
    }

    /// Checks that no further answer has arrived, where none is owed. A further answer shows that an earlier one was
    /// surplus, and that the answers behind it were matched to the wrong commands.
    fn check_answered(&mut self) -> Result<(), SessionError> {
        if self.is_answered() { Err(self.unsolicited()) } else { Ok(()) }
    }
}

impl<S> Session<S> {
    /// Returns whether the server accepts another transaction in this session, as far as its MAILMAX says
    /// (RFC 9422 4.1). True if it announces none.
    #[must_use]
    pub fn accepts_transaction(&self) -> bool {
        self.usage.has_mail_left(&self.extensions.limits)
    }

    /// Returns how many more domains of recipients the server accepts in this session, as far as its RCPTDOMAINMAX says
    /// (RFC 9422 4.3). None if it announces no limit.
    #[must_use]
    pub fn domains_left(&self) -> Option<usize> {
        self.usage.domains_left(&self.extensions.limits)
    }

    /// Returns whether this session had a recipient of this domain before. A server with RCPTDOMAINMAX accepts such a
    /// recipient also if no [other domain is left](Self::domains_left). Without such a limit, it is false.
    #[must_use]
    pub fn has_used_domain(&self, domain: &str) -> bool {
        self.usage.has(domain)
    }
}
