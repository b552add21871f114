//! The envelope of a transaction, MAIL and RCPT, made of the session's three calls.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, stop_and_wait::unambiguous};
use crate::{
    client::{EnvelopeReplies, SessionError},
    proto::{Command, MailParams, Mailbox, RcptParams, Reply, ReversePath, State, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Opens a transaction: MAIL and every RCPT in as few writes as the server and
    /// [`MAX_IN_FLIGHT`](crate::client::MAX_IN_FLIGHT) allow, with every reply read, refusals or not. Replies owed to
    /// earlier commands are read and let go.
    ///
    /// A reply whose lines carry different codes ([`Reply::has_mixed_codes`]) is no acceptance; whether the server has
    /// accepted is not known, so that RSET should follow where nothing else does.
    ///
    /// # Errors
    /// As [`queue`](Self::queue) and [`reply`](Self::reply).
    pub async fn envelope(
        &mut self,
        from: &ReversePath,
        params: &MailParams,
        rcpts: &[Mailbox],
    ) -> Result<EnvelopeReplies, SessionError> {
        let mut replies: Vec<Reply> = Vec::with_capacity(rcpts.len() + 1);
        let before = self.dialogue.owed();
        self.queue_mail(from, params)?;
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
    /// server offers PIPELINING. The reply is that to RCPT, or to MAIL where that was refused.
    ///
    /// Where the server refuses RSET, the transaction stays: the answer is good, and the session is not idle.
    ///
    /// # Errors
    /// As [`queue`](Self::queue) and [`reply`](Self::reply); [`SessionError::Ambiguous`] where the lines of the reply
    /// carry different codes, after RSET.
    pub async fn verify_email(
        &mut self,
        from: &ReversePath,
        to: &Mailbox,
    ) -> Result<(Verb, Reply), SessionError> {
        let smtputf8 = to.needs_smtputf8() && self.extensions.smtputf8;
        let params = MailParams { smtputf8, ..MailParams::default() };
        self.queue_mail(from, &params)?;
        if !self.extensions.pipelining {
            let mail = self.reply().await?;
            if mail.1.is_positive() {
                self.queue_rcpt(to, &RcptParams::default())?;
                let rcpt = self.reply().await?;
                self.command(&Command::Rset).await?;
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
        let mail = self.reply().await?;
        let rcpt = self.reply().await?;
        self.reply().await?;
        self.answer(if mail.1.is_positive() { rcpt } else { mail })
    }

    fn answer(&mut self, (verb, reply): (Verb, Reply)) -> Result<(Verb, Reply), SessionError> {
        self.check_answered()?;
        Ok((verb, unambiguous(verb, reply)?))
    }

    /// Nothing is owed. If there is another answer, then one of those before it was a surplus one, and those behind that
    /// answer other commands than they were taken for.
    fn check_answered(&mut self) -> Result<(), SessionError> {
        if self.is_answered() { Err(self.unsolicited()) } else { Ok(()) }
    }
}
