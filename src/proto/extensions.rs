//! The extensions that a server offers: parses the reply to EHLO (RFC 5321 4.1.1.1).

use super::{Mechanism, Reply, grammar};

/// The most SASL mechanisms that are stored. Real servers offer fewer, and the search for duplicates is quadratic.
const MAX_AUTH: usize = 64;

/// The most octets of unknown lines that are stored, since they stay in memory as long as the connection.
const MAX_OTHERS: usize = 4 * 1024;

/// The service extensions that a server offers.
///
/// Keywords are case-insensitive. `AUTH=PLAIN`, leading spaces and repeated keywords are accepted, since servers send
/// them. A keyword with an unreadable parameter counts as offered without it.
///
/// ```
/// use smtp_pool::proto::{Extensions, Reply};
/// let reply = Reply::parse(b"250-mx.example.com\r\n250-PIPELINING\r\n250-size 35882577\r\n250 LIMITS RCPTMAX=50\r\n")?;
/// let offered = Extensions::parse(&reply);
/// assert!(offered.pipelining);
/// assert_eq!(offered.max_message_size(), Some(35_882_577));
/// assert_eq!(offered.limits.rcpt_max, Some(50));
/// # Ok::<(), smtp_pool::proto::DecodeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// PIPELINING: commands may be sent in groups (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME: the server accepts `BODY=8BITMIME` (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8: mailboxes may be UTF-8 (RFC 6531).
    pub smtputf8: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// DSN: the server accepts RET, ENVID, NOTIFY and ORCPT (RFC 3461).
    pub dsn: bool,
    /// CHUNKING: BDAT (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME: `BODY=BINARYMIME`, with CHUNKING (RFC 3030).
    pub binary_mime: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// SIZE: the parameter as sent, or 0 without one (RFC 1870); see [`Self::max_message_size`].
    pub size: Option<u64>,
    /// AUTH: the mechanisms, in upper case (RFC 4954), at most 64. Invalid names are omitted.
    pub auth: Vec<Box<str>>,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
    /// The other lines as sent, up to 4 KiB: the keyword in upper case, and its parameters.
    pub others: Vec<(Box<str>, Box<str>)>,
}

/// The limits that a server announces (RFC 9422 4). None if it announces no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// MAILMAX: transactions on one connection.
    pub mail_max: Option<u32>,
    /// RCPTMAX: RCPT commands in one transaction.
    pub rcpt_max: Option<u32>,
    /// RCPTDOMAINMAX: distinct recipient domains on one connection.
    pub rcpt_domain_max: Option<u32>,
}

impl Extensions {
    /// Parses the reply to EHLO. Its first line is a greeting and is skipped.
    #[must_use]
    pub fn parse(reply: &Reply) -> Self {
        let mut offered = Self::default();
        for line in reply.lines().skip(1) {
            let mut params = Vec::new();
            if let Ok((_, keyword)) = grammar::ehlo_line(line, |param| params.push(param)) {
                offered.add(keyword, &params);
            }
        }
        offered
    }

    /// Returns the largest accepted message, in octets. None if the server names no fixed limit (RFC 1870 4).
    #[must_use]
    pub fn max_message_size(&self) -> Option<u64> {
        self.size.filter(|&size| size > 0)
    }

    /// Returns true if the server offers the SASL mechanism `name`, in any case.
    #[must_use]
    pub fn offers_auth(&self, name: &str) -> bool {
        self.auth.iter().any(|mechanism| mechanism.eq_ignore_ascii_case(name))
    }

    fn add(&mut self, keyword: &[u8], params: &[&[u8]]) {
        let upper = |text: &[u8]| String::from_utf8_lossy(text).to_ascii_uppercase().into_boxed_str();
        let keyword = upper(keyword);
        match &*keyword {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "STARTTLS" => self.starttls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "DSN" => self.dsn = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary_mime = true,
            "REQUIRETLS" => self.require_tls = true,
            "SIZE" => self.size = Some(params.first().and_then(|size| number(size)).unwrap_or(0)),
            "AUTH" => {
                let names = params.iter().filter_map(|name| Mechanism::new(str::from_utf8(name).ok()?).ok());
                for mechanism in names {
                    if self.auth.len() < MAX_AUTH
                        && !self.auth.iter().any(|known| **known == *mechanism.as_str())
                    {
                        self.auth.push(mechanism.as_str().into());
                    }
                }
            }
            "LIMITS" => params.iter().for_each(|param| self.limits.add(param)),
            _ => {
                let params = String::from_utf8_lossy(&params.join(&b' ')).into_owned();
                let known = self.others.iter().map(|(keyword, params)| keyword.len() + params.len());
                if known.sum::<usize>() + keyword.len() + params.len() <= MAX_OTHERS {
                    self.others.push((keyword, params.into_boxed_str()));
                }
            }
        }
    }
}

impl Limits {
    fn add(&mut self, param: &[u8]) {
        let mut parts = param.splitn(2, |&b| b == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next().and_then(number)) else { return };
        // RFC 9422 4: a limit is at least 1, so 0 is ignored.
        let value = u32::try_from(value).ok().filter(|&value| value > 0);
        match name.to_ascii_uppercase().as_slice() {
            b"MAILMAX" => self.mail_max = value,
            b"RCPTMAX" => self.rcpt_max = value,
            b"RCPTDOMAINMAX" => self.rcpt_domain_max = value,
            _ => {}
        }
    }
}

/// Parses digits only. The standard parser would accept a sign too.
fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests;
