//! How much of what the server accepts in one session is used up: MAILMAX and RCPTDOMAINMAX (RFC 9422 4).

use crate::proto::Limits;

/// The most domains that a session remembers. A larger RCPTDOMAINMAX counts as this one.
const MAX_DOMAINS: usize = 1_000;

/// What a session has used of the server's limits.
#[derive(Debug, Default)]
pub(super) struct SessionUsage {
    mails: u32,
    /// The domains of the recipients so far, if the server limits their number.
    domains: Vec<Box<str>>,
}

impl SessionUsage {
    /// Records one MAIL.
    pub(super) fn record_mail(&mut self) {
        self.mails = self.mails.saturating_add(1);
    }

    /// Records the domain of a recipient.
    pub(super) fn record_domain(&mut self, domain: &str, limits: &Limits) {
        if limits.rcpt_domain_max.is_some() && !self.has(domain) && self.domains.len() < MAX_DOMAINS {
            self.domains.push(domain.into());
        }
    }

    /// Returns whether another transaction is within MAILMAX.
    pub(super) fn has_mail_left(&self, limits: &Limits) -> bool {
        limits.mail_max.is_none_or(|max| self.mails < max)
    }

    /// Returns how many domains are left of RCPTDOMAINMAX; none without such a limit.
    pub(super) fn domains_left(&self, limits: &Limits) -> Option<usize> {
        Some((limits.rcpt_domain_max? as usize).min(MAX_DOMAINS).saturating_sub(self.domains.len()))
    }

    /// Returns whether a recipient of this domain was recorded.
    pub(super) fn has(&self, domain: &str) -> bool {
        self.domains.iter().any(|known| known.eq_ignore_ascii_case(domain))
    }
}
