//! The result for one address: a flat record with a fixed set of fields.

use std::{borrow::Cow, fmt::Display, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Blame, Status, SubStatus};
use crate::{net::TlsVersion, proto::EnhancedCode};

/// The most octets of [`Record::reply`]: 1 KiB. A longer text is cut at a character boundary and ends with `…`, which
/// counts.
pub const MAX_TEXT: usize = 1_024;

/// Marks the end of a text that was cut.
const CUT: &str = "…";

/// The result of verifying one address.
///
/// Serialises to one flat object. An absent value is `null`. Names are those of the fields, and enumerations are in
/// snake case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// The address as given.
    pub address: String,
    /// The verdict in one word.
    pub status: Status,
    /// The reason for the status.
    pub sub_status: SubStatus,
    /// Who caused the refusal or failure. `None` if the address was accepted.
    pub blame: Option<Blame>,
    /// Whether the domain accepts any local part.
    pub catch_all: CatchAll,
    /// Whether the mailbox belongs to a role (`info@`).
    pub role: bool,
    /// Whether the domain offers disposable mailboxes.
    pub disposable: bool,
    /// Whether anyone can get a mailbox at the domain free of charge.
    pub free: bool,
    /// The host name of the mail exchanger that was asked, or was to be asked. `None` if the domain has none.
    pub mx_host: Option<Arc<str>>,
    /// The code of the deciding reply, such as 550. `None` if no reply decided.
    pub smtp_code: Option<u16>,
    /// The enhanced status code of that reply (RFC 3463), if it has one.
    #[serde(serialize_with = "display")]
    pub enhanced_code: Option<EnhancedCode>,
    /// The text of that reply. If no reply decided, a description of the failure. At most [`MAX_TEXT`] octets.
    pub reply: Option<Arc<str>>,
    /// The number of attempts to ask about this address, failed connections included. 0 if no server was tried.
    pub attempts: u32,
    /// The TLS version of the connection. Serialises to `TLSv1.2` or `TLSv1.3`. `None` without TLS.
    #[serde(serialize_with = "display")]
    pub tls: Option<TlsVersion>,
    /// The time from the first question to the deciding answer, in milliseconds. It includes waits between attempts of
    /// one run. A [`Task`](super::Task) that is sent again starts at zero.
    pub duration_ms: u64,
    /// The time of the verdict, in UTC. Serialises with milliseconds, so that all times have the same width.
    #[serde(serialize_with = "millis")]
    pub checked_at: Timestamp,
}

/// Whether a domain accepts any local part, tested with a random one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CatchAll {
    /// The server accepted a random local part. Acceptance proves nothing at this domain.
    Accepted,
    /// The server refused a random local part as unknown.
    Refused,
    /// The answer about a random local part does not decide.
    Inconclusive,
    /// No test was needed, because no address of the domain was accepted, or the test is turned off.
    #[default]
    NotRun,
}

impl CatchAll {
    /// Returns the name, as it is serialised.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Inconclusive => "inconclusive",
            Self::NotRun => "not_run",
        }
    }
}

/// Returns the text, cut to [`MAX_TEXT`] if it is longer. Servers and lists decide the length of a text, and a text
/// lives as long as its record.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    let end = text.floor_char_boundary(MAX_TEXT - CUT.len());
    [&text[..end], CUT].concat().into()
}

fn display<T: Display, S: Serializer>(shown: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match shown {
        Some(shown) => serializer.collect_str(shown),
        None => serializer.serialize_none(),
    }
}

fn millis<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_have_one_width() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (7, "1970-01-01T00:00:00.007Z"),
            (1_700_000_000_120, "2023-11-14T22:13:20.120Z"),
        ] {
            let at = Timestamp::from_millisecond(time).unwrap();
            assert_eq!(millis(&at, serde_json::value::Serializer).unwrap(), text);
        }
    }

    #[test]
    fn a_text_is_cut_at_a_character_boundary() {
        let whole = "x".repeat(MAX_TEXT);
        assert_eq!(shortened(&whole), whole);
        assert_eq!(shortened(&(whole.clone() + "y")), whole[3..].to_owned() + "…");
        let wide = "ü".repeat(MAX_TEXT);
        assert_eq!(shortened(&wide), "ü".repeat((MAX_TEXT - 3) / 2) + "…");
    }

    proptest! {
        #[test]
        fn any_text_is_kept_up_to_the_limit(text in "\\PC{0,40}", times in 1..80_usize) {
            let text = text.repeat(times);
            let kept = shortened(&text);
            prop_assert!(kept.len() <= MAX_TEXT);
            match kept.strip_suffix(CUT) {
                Some(start) if kept != text => prop_assert!(text.starts_with(start) && kept.len() > MAX_TEXT - 4),
                _ => prop_assert_eq!(&*kept, &text),
            }
        }
    }
}
