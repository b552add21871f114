//! What comes out for each address: one flat record, every field always there.

use std::{borrow::Cow, fmt::Display, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Blame, Status, SubStatus};
use crate::{net::TlsVersion, proto::EnhancedCode};

/// The most octets of [`Record::reply`]: 1 KiB. A longer text is cut behind a whole character, and ends with `…`, which
/// counts.
pub const MAX_TEXT: usize = 1_024;

/// What stands in the place of the rest of a text that was cut.
const CUT: &str = "…";

/// All that is known of one address after it was verified.
///
/// Serialises to one flat object; an absent value is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// The address as it was given.
    pub address: String,
    /// The verdict in one word.
    pub status: Status,
    /// Why.
    pub sub_status: SubStatus,
    /// Whose doing it is, unless the address was accepted.
    pub blame: Option<Blame>,
    /// Whether the domain accepts any local part.
    pub catch_all: CatchAll,
    /// Whether the mailbox belongs to a role (`info@`).
    pub role: bool,
    /// Whether the domain hands out throw-away mailboxes.
    pub disposable: bool,
    /// Whether anybody can have a mailbox at the domain for nothing.
    pub free: bool,
    /// The mail exchanger that was asked, or would have been.
    pub mx_host: Option<Arc<str>>,
    /// The code of the reply that decided.
    pub smtp_code: Option<u16>,
    /// Its enhanced status code.
    #[serde(serialize_with = "display")]
    pub enhanced_code: Option<EnhancedCode>,
    /// Its text or, where no reply decided, what went wrong. It has no more than [`MAX_TEXT`] octets.
    pub reply: Option<Arc<str>>,
    /// How often the server was asked, or tried to be connected to, about this address; 0 if it was not tried.
    pub attempts: u32,
    /// The version of TLS in use; serialises to `TLSv1.2` or `TLSv1.3`.
    #[serde(serialize_with = "display")]
    pub tls: Option<TlsVersion>,
    /// From the first question to the deciding answer, waiting between attempts included as far as they are of one run: a
    /// [`Task`](super::Task) that is fed again is timed anew.
    pub duration_ms: u64,
    /// When the verdict was reached, in UTC.
    pub checked_at: Timestamp,
}

/// Whether a domain accepts any local part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchAll {
    /// A random local part was accepted, so that acceptance tells nothing.
    Accepted,
    /// A random local part was refused as unknown.
    Refused,
    /// A random local part was answered in a way that tells nothing.
    Inconclusive,
    /// There was no need to ask: no address of the domain was accepted.
    #[default]
    NotRun,
}

/// The text, cut to [`MAX_TEXT`] if it is longer. Servers and lists decide how long their texts are, and each is kept as
/// long as its record.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_behind_a_whole_character() {
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
