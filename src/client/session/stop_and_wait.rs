//! Commands one by one, each with its reply, made of the session's three calls.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use super::Session;
use crate::{
    client::SessionError,
    proto::{Command, DialogueError, Extensions, Reply, SaslResponse, Verb},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Sends one command and waits for its reply, whose lines may carry different codes
    /// ([`Reply::has_mixed_codes`]). Replies owed to earlier commands are read and let go.
    ///
    /// # Errors
    /// As [`queue`](Self::queue) and [`reply`](Self::reply).
    pub async fn command(&mut self, command: &Command) -> Result<Reply, SessionError> {
        self.queue(command)?;
        while self.dialogue.owed() > 1 {
            self.reply_ref().await?;
        }
        Ok(self.reply().await?.1)
    }

    /// Answers a challenge of AUTH.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn auth_response(&mut self, response: &SaslResponse) -> Result<Reply, SessionError> {
        self.queue_with(Verb::AuthResponse, |out| response.encode(out))?;
        Ok(self.reply().await?.1)
    }

    /// Waits for the banner.
    ///
    /// # Errors
    /// As [`reply`](Self::reply); [`SessionError::Ambiguous`] where its lines carry different codes.
    pub async fn banner(&mut self) -> Result<Reply, SessionError> {
        let (verb, reply) = self.reply().await?;
        unambiguous(verb, reply)
    }

    /// Greets by EHLO, HELO or LHLO, and learns the extensions from the reply.
    ///
    /// # Errors
    /// As [`command`](Self::command), and [`SessionError::Ambiguous`] where the lines of the reply carry different
    /// codes: the extensions are those of before. A refusal is a reply, not an error.
    pub async fn greet(&mut self, greeting: &Command) -> Result<Reply, SessionError> {
        let reply = unambiguous(greeting.verb(), self.command(greeting).await?)?;
        if reply.is_positive() {
            // Any other is the answer to something else, a banner for one (RFC 5321 4.3.2).
            if reply.code() != 250 {
                return Err(self.fail(greeting.verb(), DialogueError::Unsolicited(reply.code()).into()));
            }
            let bare = greeting.verb() == Verb::Helo;
            self.extensions = if bare { Extensions::default() } else { Extensions::parse(&reply) };
            self.dialogue.set_pipelining(self.extensions.pipelining);
            self.greeting = Some((greeting.verb(), FixedState::default().hash_one(reply.as_bytes())));
        }
        Ok(reply)
    }

    /// The command that the server last accepted as a greeting: EHLO, HELO or LHLO; none before that.
    #[must_use]
    pub fn greeted_by(&self) -> Option<Verb> {
        self.greeting.map(|(verb, _)| verb)
    }

    /// Returns whether a reply repeats the reply to the last accepted greeting (RFC 5321 4.1.1.1). It has the same octets,
    /// or several lines with the same keywords. The parameters of SIZE and LIMITS may differ.
    ///
    /// A server may be greeted again at any time between or within transactions (RFC 5321 4.1.4). Its answer is told
    /// from the answers to all other commands, so it shows whether replies are in step with commands.
    ///
    /// ```
    /// # use smtp_pool::{client::{Session, SessionError, Timeouts}, metrics::Metrics, proto::*};
    /// # use tokio::io::AsyncWriteExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (client, mut server) = tokio::io::duplex(1024);
    /// # let mut session = Session::new(client, Timeouts::default(), Metrics::new().server("mx.example.com"));
    /// # server.write_all(b"220 mx\r\n").await?;
    /// # session.banner().await?;
    /// let ehlo = Command::Ehlo(ClientName::parse("client.example.org")?);
    /// # let greeted = tokio::join!(session.greet(&ehlo), server.write_all(b"250-mx at noon\r\n250 SIZE 10\r\n"));
    /// # greeted.0?;
    /// // after `session.greet(&ehlo).await?`, and MAIL and RCPT
    /// assert_eq!(session.greeted_by(), Some(Verb::Ehlo));
    /// assert!(session.repeats_greeting(&Reply::parse(b"250-mx at one\r\n250 SIZE 20\r\n")?));
    /// assert!(!session.repeats_greeting(&Reply::parse(b"250 2.1.5 Ok\r\n")?));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn repeats_greeting<B: AsRef<[u8]>>(&self, reply: &Reply<B>) -> bool {
        let Some((_, words)) = self.greeting.filter(|_| reply.is_positive()) else { return false };
        if FixedState::default().hash_one(reply.as_bytes()) == words {
            return true;
        }
        let Extensions { size, limits, .. } = self.extensions;
        reply.lines().nth(1).is_some()
            && Extensions { size, limits, ..Extensions::parse(&reply.detach()) } == self.extensions
    }

    /// Sends QUIT and waits for its answer. It does not wait for the server's close_notify and FIN.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn quit(&mut self) -> Result<Reply, SessionError> {
        let reply = self.command(&Command::Quit).await;
        // The answer is there, so a failure to close does not matter.
        let _ = timeout_at(Instant::now() + self.timeouts.quit, self.stream.shutdown()).await;
        reply
    }
}

/// The reply, unless its lines carry different codes.
pub(in crate::client) fn unambiguous(verb: Verb, reply: Reply) -> Result<Reply, SessionError> {
    match reply.has_mixed_codes() {
        true => Err(SessionError::ambiguous(verb, &reply)),
        false => Ok(reply),
    }
}
