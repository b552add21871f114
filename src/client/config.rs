//! Deadlines.

use std::time::Duration;

use crate::proto::Verb;

/// How long to wait for a reply, from its command being due to the last octet of the reply.
///
/// The defaults are the minima of RFC 5321 4.5.3.2. They are long, since a server may be slow for good reasons. A
/// verifier needs shorter ones ([`Timeouts::all`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// TCP connect, over all addresses of the host: 30 s (not in the RFC).
    pub connect: Duration,
    /// TLS handshake: 30 s (not in the RFC).
    pub tls: Duration,
    /// Banner: 5 min (4.5.3.2.1). Postfix' postscreen alone takes 6 s.
    pub banner: Duration,
    /// EHLO, HELO, STARTTLS, AUTH: 5 min (not in the RFC; as MAIL).
    pub greeting: Duration,
    /// MAIL: 5 min (4.5.3.2.2).
    pub mail: Duration,
    /// RCPT: 5 min (4.5.3.2.3).
    pub rcpt: Duration,
    /// DATA: 2 min (4.5.3.2.4).
    pub data: Duration,
    /// The final dot, and BDAT: 10 min (4.5.3.2.6).
    pub message: Duration,
    /// RSET, NOOP, VRFY: 5 min (not in the RFC; as MAIL).
    pub other: Duration,
    /// QUIT: 5 s, since nothing depends on its answer.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            connect: Duration::from_secs(30),
            tls: Duration::from_secs(30),
            banner: minutes(5),
            greeting: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            message: minutes(10),
            other: minutes(5),
            quit: Duration::from_secs(5),
        }
    }
}

/// Thirty years. Longer limits count as this one, which can be added to the time of now.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

impl Timeouts {
    /// Returns the same limit for every step, except that TCP connect and QUIT never take longer than their defaults.
    #[must_use]
    pub fn all(limit: Duration) -> Self {
        let Self { connect, quit, .. } = Self::default();
        let (connect, quit) = (limit.min(connect), limit.min(quit));
        Self {
            connect,
            tls: limit,
            banner: limit,
            greeting: limit,
            mail: limit,
            rcpt: limit,
            data: limit,
            message: limit,
            other: limit,
            quit,
        }
    }

    /// Bounds each limit, so that [`Duration::MAX`] can stand for never.
    pub(crate) fn bounded(mut self) -> Self {
        for limit in self.all_mut() {
            *limit = MAX_TIMEOUT.min(*limit);
        }
        self
    }

    pub(crate) fn all_mut(&mut self) -> [&mut Duration; 10] {
        let Self { connect, tls, banner, greeting, mail, rcpt, data, message, other, quit } = self;
        [connect, tls, banner, greeting, mail, rcpt, data, message, other, quit]
    }

    pub(crate) fn of(&self, verb: Verb) -> Duration {
        match verb {
            Verb::Connect => self.banner,
            Verb::Ehlo | Verb::Helo | Verb::Lhlo | Verb::StartTls | Verb::Auth | Verb::AuthResponse => {
                self.greeting
            }
            Verb::Mail => self.mail,
            Verb::Rcpt => self.rcpt,
            Verb::Data => self.data,
            Verb::Message | Verb::Bdat | Verb::BdatLast => self.message,
            Verb::Rset | Verb::Noop | Verb::Vrfy => self.other,
            Verb::Quit => self.quit,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_limit_of_never_can_be_added_to_now() {
        let mut never = Timeouts::all(Duration::MAX);
        never.all_mut().into_iter().for_each(|limit| *limit = Duration::MAX);
        for limit in never.bounded().all_mut() {
            assert!(Instant::now().checked_add(*limit).is_some_and(|at| at.elapsed().is_zero()));
        }
        assert_eq!(Timeouts::default().bounded(), Timeouts::default());
    }
}
