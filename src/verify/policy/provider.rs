//! Finds the provider of a mail exchanger and its limits: from `providers.toml`, or from a file of the user.

use std::{collections::HashMap, num::NonZeroU32, ops::Range, sync::Arc, sync::LazyLock};

use serde::Deserialize;
use toml::Spanned;

use crate::proto::Domain;

/// The limits of a lane: the most that one egress identity asks a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderLimits {
    /// The most connections at once.
    pub connections: u32,
    /// The most recipients in one transaction.
    pub recipients: u32,
    /// The most refused recipients on one connection.
    pub rejections: u32,
    /// The most transactions on one connection.
    pub transactions: u32,
    /// The most recipients per minute.
    pub per_minute: Option<u32>,
    /// The most recipients per hour.
    pub per_hour: Option<u32>,
    /// The most recipients per day.
    pub per_day: Option<u32>,
}

/// A provider of mail for many domains.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provider {
    /// Its name, as reports show it.
    pub name: Arc<str>,
    /// Its limits.
    pub limits: ProviderLimits,
}

/// The known providers, found by the names of their mail exchangers, and the limits of all other servers.
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

/// The error of a file that does not describe providers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
#[non_exhaustive]
pub struct ProvidersError {
    /// The line, counted from 1.
    pub line: usize,
    /// The problem there, with its key.
    pub problem: String,
}

/// The contents of the file.
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

/// The same keys again: serde cannot flatten a struct that denies unknown fields.
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
    /// The limits of an unknown server without a rule.
    const UNKNOWN: Self = Self {
        connections: 2,
        recipients: 100,
        rejections: 9,
        transactions: 90,
        per_minute: None,
        per_hour: None,
        per_day: None,
    };

    /// Returns the recipients per second in the long run, if any rate is limited.
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
    /// The text of the built-in file. It describes the format and is a template for a file of your own.
    pub const BUILTIN: &str = include_str!("providers.toml");

    /// Returns the built-in providers.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Providers> = LazyLock::new(|| {
            // A test reads the file. If it cannot be parsed, all servers get the default limits, which is safe.
            Providers::from_toml(Providers::BUILTIN).unwrap_or_else(|_| Providers {
                default: ProviderLimits::UNKNOWN,
                known: Vec::new(),
                by_suffix: HashMap::new(),
            })
        });
        &BUILTIN
    }

    /// Parses a file in the format that the head of [`BUILTIN`](Self::BUILTIN) describes. It replaces the built-in one.
    ///
    /// # Errors
    /// Returns the line and the problem. The text is no TOML, or it has an unknown key, a limit of 0, an invalid host
    /// name, or two providers with one name.
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

    /// Returns the provider of a mail exchanger: the one with the longest name in the file that equals or contains
    /// `host`.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&Provider> {
        self.known.get(self.index(host)?)
    }

    /// Returns the limits of all other servers.
    #[must_use]
    pub fn default_limits(&self) -> ProviderLimits {
        self.default
    }

    pub(in crate::verify) fn index(&self, host: &str) -> Option<usize> {
        let mut names = std::iter::successors(Some(host), |name| Some(name.split_once('.')?.1));
        names.find_map(|name| self.by_suffix.get(name)).copied()
    }

    /// Returns the most connections of any lane.
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
    fn the_builtin_file_is_valid_and_has_the_largest_providers() {
        let providers = Providers::from_toml(Providers::BUILTIN).unwrap();
        assert_eq!(providers.default_limits(), ProviderLimits::UNKNOWN, "file and code agree");
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
    fn missing_keys_have_the_defaults() {
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
