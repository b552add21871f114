//! Who runs a mail exchanger, and how much of us they are to bear: `providers.toml`, or a file of the user's.

use std::{collections::HashMap, num::NonZeroU32, ops::Range, sync::Arc, sync::LazyLock};

use serde::Deserialize;
use toml::Spanned;

use crate::proto::Domain;

/// The limits of a lane: what a provider is asked at the most, by one egress identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderLimits {
    /// Connections at once.
    pub connections: u32,
    /// Recipients in one transaction.
    pub recipients: u32,
    /// Refusals on one connection.
    pub rejections: u32,
    /// Transactions on one connection.
    pub transactions: u32,
    /// Recipients a minute.
    pub per_minute: Option<u32>,
    /// Recipients an hour.
    pub per_hour: Option<u32>,
    /// Recipients a day.
    pub per_day: Option<u32>,
}

/// A provider of mail for many domains.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provider {
    /// Its name, as reports show it.
    pub name: Arc<str>,
    /// What it is asked at the most.
    pub limits: ProviderLimits,
}

/// The providers that are known, by the names of their mail exchangers, and the limits of everybody else.
///
/// ```
/// use smtp_pool::verify::Providers;
///
/// let google = Providers::builtin().of("aspmx.l.google.com").ok_or("not known")?;
/// assert_eq!(&*google.name, "Google");
///
/// let providers = Providers::from_toml(r#"
///     [[provider]]
///     name = "Ours"
///     mx = ["mx.example.net"]
///     connections = 20
///     per_minute = 600
/// "#)?;
/// assert_eq!(providers.of("a.mx.example.net").map(|ours| ours.limits.connections), Some(20));
/// assert!(providers.of("amx.example.net").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Providers {
    default: ProviderLimits,
    known: Vec<Provider>,
    by_suffix: HashMap<Box<str>, usize>,
}

/// The file does not describe providers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ProvidersError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there, by its key.
    pub problem: String,
}

/// The file, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidersFile {
    #[serde(default)]
    default: WrittenLimits,
    #[serde(default)]
    provider: Vec<WrittenProvider>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    connections: Option<NonZeroU32>,
    recipients: Option<NonZeroU32>,
    rejections: Option<NonZeroU32>,
    transactions: Option<NonZeroU32>,
    per_minute: Option<NonZeroU32>,
    per_hour: Option<NonZeroU32>,
    per_day: Option<NonZeroU32>,
}

/// The same keys again: serde cannot flatten what denies unknown fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProvider {
    name: Spanned<String>,
    mx: Spanned<Vec<Spanned<String>>>,
    connections: Option<NonZeroU32>,
    recipients: Option<NonZeroU32>,
    rejections: Option<NonZeroU32>,
    transactions: Option<NonZeroU32>,
    per_minute: Option<NonZeroU32>,
    per_hour: Option<NonZeroU32>,
    per_day: Option<NonZeroU32>,
}

impl ProviderLimits {
    /// Those of a server that nothing is known of, and that nothing else is said about.
    const UNKNOWN: Self = Self {
        connections: 2,
        recipients: 100,
        rejections: 9,
        transactions: 90,
        per_minute: None,
        per_hour: None,
        per_day: None,
    };

    /// Recipients a second in the long run, if any of the rates is limited.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let rates = [(self.per_minute, 60.0), (self.per_hour, 3_600.0), (self.per_day, 86_400.0)];
        let rates = rates.into_iter().filter_map(|(limit, seconds)| Some(f64::from(limit?) / seconds));
        rates.reduce(f64::min)
    }

    fn with(self, written: &WrittenLimits) -> Self {
        let or = |value: Option<NonZeroU32>, default| value.map_or(default, NonZeroU32::get);
        let either = |value: Option<NonZeroU32>, default: Option<u32>| value.map(NonZeroU32::get).or(default);
        Self {
            connections: or(written.connections, self.connections),
            recipients: or(written.recipients, self.recipients),
            rejections: or(written.rejections, self.rejections),
            transactions: or(written.transactions, self.transactions),
            per_minute: either(written.per_minute, self.per_minute),
            per_hour: either(written.per_hour, self.per_hour),
            per_day: either(written.per_day, self.per_day),
        }
    }
}

impl Default for ProviderLimits {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Providers {
    /// The text of the file that is compiled in: a start for one's own, and the description of the format.
    pub const BUILTIN: &str = include_str!("providers.toml");

    /// The providers that are compiled in.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Providers> = LazyLock::new(|| {
            // A test reads it; should it not be read, everybody is treated as a stranger, which is safe.
            Providers::from_toml(Providers::BUILTIN).unwrap_or_else(|_| Providers {
                default: ProviderLimits::UNKNOWN,
                known: Vec::new(),
                by_suffix: HashMap::new(),
            })
        });
        &BUILTIN
    }

    /// Reads a file in the format that the head of [`BUILTIN`](Self::BUILTIN) describes. It replaces the one that is
    /// compiled in.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a limit of 0, a name that is no host name, or two providers for one name; with the
    /// line.
    pub fn from_toml(text: &str) -> Result<Self, ProvidersError> {
        let at = |span: Range<usize>, problem: String| {
            let before = text.get(..span.start).unwrap_or_default();
            ProvidersError { line: before.matches('\n').count() + 1, problem }
        };
        let file: ProvidersFile = toml::from_str(text)
            .map_err(|error| at(error.span().unwrap_or_default(), error.message().replace('\n', ", ")))?;
        let default = ProviderLimits::UNKNOWN.with(&file.default);
        let (mut known, mut by_suffix) = (Vec::<Provider>::new(), HashMap::<Box<str>, usize>::new());
        for written in file.provider {
            let name = written.name.get_ref().trim();
            if name.is_empty() {
                return Err(at(written.name.span(), "name: is empty".into()));
            }
            if written.mx.get_ref().is_empty() {
                return Err(at(written.mx.span(), format!("mx of \"{name}\": is empty")));
            }
            for suffix in written.mx.get_ref() {
                let host = Domain::parse(suffix.get_ref().trim_start_matches('.')).map_err(|error| {
                    at(
                        suffix.span(),
                        format!("mx of \"{name}\": \"{}\" is no host name: {error}", suffix.get_ref()),
                    )
                })?;
                if let Some(other) = by_suffix.insert(host.as_str().into(), known.len()) {
                    let other = known.get(other).map_or(name, |other| &other.name);
                    return Err(at(
                        suffix.span(),
                        format!("mx of \"{name}\": {host} is that of \"{other}\" already"),
                    ));
                }
            }
            let limits = default.with(&WrittenLimits {
                connections: written.connections,
                recipients: written.recipients,
                rejections: written.rejections,
                transactions: written.transactions,
                per_minute: written.per_minute,
                per_hour: written.per_hour,
                per_day: written.per_day,
            });
            known.push(Provider { name: name.into(), limits });
        }
        Ok(Self { default, known, by_suffix })
    }

    /// Whose mail exchanger this is: that of the longest name in the file which the host has or is below of.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&Provider> {
        self.known.get(self.index(host)?)
    }

    /// The limits of everybody else.
    #[must_use]
    pub fn default_limits(&self) -> ProviderLimits {
        self.default
    }

    pub(in crate::verify) fn index(&self, host: &str) -> Option<usize> {
        let mut names = std::iter::successors(Some(host), |name| Some(name.split_once('.')?.1));
        names.find_map(|name| self.by_suffix.get(name)).copied()
    }

    /// The most connections that any lane may have.
    pub(in crate::verify) fn most_connections(&self) -> u32 {
        let known = self.known.iter().map(|provider| provider.limits.connections);
        known.fold(self.default.connections, u32::max)
    }

    pub(in crate::verify) fn get(&self, index: usize) -> Option<&Provider> {
        self.known.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_file_is_read_and_knows_the_great_ones() {
        let providers = Providers::from_toml(Providers::BUILTIN).unwrap();
        assert_eq!(providers.default_limits(), ProviderLimits::UNKNOWN, "the file says what the code says");
        for (host, name) in [
            ("gmail-smtp-in.l.google.com", "Google"),
            ("contoso-com.mail.protection.outlook.com", "Microsoft 365"),
            ("outlook-com.olc.protection.outlook.com", "Outlook.com"),
            ("mta5.am0.yahoodns.net", "Yahoo"),
            ("mx00.gmx.net", "GMX and WEB.DE"),
            ("mx-ha03.web.de", "GMX and WEB.DE"),
            ("mxs.mail.ru", "Mail.ru"),
            ("mx.yandex.ru", "Yandex"),
            ("mx01.mail.icloud.com", "iCloud"),
            ("mxa-00123456.gslb.pphosted.com", "Proofpoint"),
            ("eu-smtp-inbound-1.mimecast.com", "Mimecast"),
        ] {
            assert_eq!(providers.of(host).map(|provider| &*provider.name), Some(name), "{host}");
        }
        assert!(providers.of("mx.example.org").is_none());
    }

    #[test]
    fn errors_name_the_line_and_the_key() {
        let error = |text: &str| Providers::from_toml(text).unwrap_err().to_string();
        let provider = |more: &str| format!("[[provider]]\nname = \"A\"\nmx = [\"a.test\"]\n{more}");
        for (text, line, words) in [
            (provider("conections = 2"), 4, "conections"),
            (provider("connections = 0"), 4, "nonzero"),
            (provider("connections = \"two\""), 4, "string \"two\""),
            (
                provider("[[provider]]\nname = \"B\"\nmx = [\n\"b.test\",\n\"a.test\"]"),
                8,
                "that of \"A\" already",
            ),
            ("[[provider]]\nname = \"A\"\nmx = [\"a..test\"]".into(), 3, "\"a..test\" is no host name"),
            ("[[provider]]\nname = \" \"\nmx = [\"a.test\"]".into(), 2, "name: is empty"),
            ("[[provider]]\nname = \"A\"\nmx = []".into(), 3, "mx of \"A\": is empty"),
            ("[[provider]]\nmx = [\"a.test\"]".into(), 1, "name"),
            ("[default]\nper_hour = 1\n]".into(), 3, ""),
        ] {
            let error = error(&text);
            assert!(error.starts_with(&format!("line {line}: ")) && error.contains(words), "{text}\n{error}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let text = "[default]\nconnections = 3\nper_day = 10\n[[provider]]\nname = \"A\"\nmx = [\"a.test\"]\nrecipients = 1";
        let providers = Providers::from_toml(text).unwrap();
        let limits = providers.of("mx.a.test").unwrap().limits;
        assert_eq!((limits.connections, limits.recipients, limits.per_day), (3, 1, Some(10)));
        assert_eq!(limits.per_second(), Some(10.0 / 86_400.0));
        assert_eq!(
            ProviderLimits { per_minute: Some(6), per_hour: Some(3_600), ..limits }.per_second(),
            limits.per_second()
        );
        assert_eq!(ProviderLimits::default().per_second(), None);
    }
}
