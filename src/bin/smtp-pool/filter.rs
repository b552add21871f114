//! Selects rows by verdict, domain and provider.

use std::{collections::HashSet, str::FromStr};

use clap::Args;
use smtp_pool::{
    proto::{Domain, Mailbox},
    verify::{Providers, Record, Status, SubStatus},
};

/// A kind of verdict: all, a status, a sub-status, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictKind {
    All,
    Status(Status),
    SubStatus(SubStatus),
}

impl VerdictKind {
    pub(crate) fn includes(self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Status(status) => record.status == status,
            Self::SubStatus(sub_status) => record.sub_status == sub_status,
        }
    }
}

impl FromStr for VerdictKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let status = |name: &str| serde_json::from_value::<Status>(name.into()).ok();
        let sub_status = |name: &str| serde_json::from_value::<SubStatus>(name.into()).ok();
        if let Some((of, reason)) = name.split_once(':') {
            let (Some(of), Some(reason)) = (status(of), sub_status(reason)) else {
                return Err("not a status and a sub-status of records, as in risky:catch_all".into());
            };
            return match reason.status() == of {
                true => Ok(Self::SubStatus(reason)),
                false => Err(format!("{reason} is never {of}, but {}", reason.status())),
            };
        }
        match (name, status(name), sub_status(name)) {
            ("all", ..) => Ok(Self::All),
            (_, Some(status), _) => Ok(Self::Status(status)),
            (_, _, Some(sub_status)) => Ok(Self::SubStatus(sub_status)),
            _ => Err("there is no such verdict; name a status or a sub-status of a record, as in unknown or greylisted"
                .into()),
        }
    }
}

/// Which rows of a job to select. A row must pass all options that are given.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Select rows with one of these verdicts: a status, a sub-status, or both as in `risky:catch_all`
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub(crate) status: Vec<VerdictKind>,
    /// Select rows with an address at one of these domains
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', value_parser = domain)]
    pub(crate) domain: Vec<Domain>,
    /// Select rows whose mail servers belong to one of these providers, as in `google`; else give the host name of a mail
    /// server
    #[arg(long, value_name = "PROVIDER", value_delimiter = ',')]
    pub(crate) provider: Vec<String>,
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

/// Returns a test of records by these options.
pub(crate) fn selects(args: &FilterArgs) -> impl Fn(&Record) -> bool + use<> {
    let verdicts = args.status.clone();
    let domains: HashSet<String> = args.domain.iter().map(|domain| domain.as_str().to_owned()).collect();
    let providers: HashSet<String> = args.provider.iter().map(|name| name.to_lowercase()).collect();
    move |record| {
        let is_verdict = verdicts.is_empty() || verdicts.iter().any(|kind| kind.includes(record));
        is_verdict
            && (domains.is_empty() || is_at(&record.address, &domains))
            && (providers.is_empty() || is_of(record.mx_host.as_deref(), &providers))
    }
}

fn is_at(address: &str, domains: &HashSet<String>) -> bool {
    Mailbox::parse_lent(address).is_ok_and(|mailbox| domains.contains(mailbox.domain()))
}

fn is_of(host: Option<&str>, providers: &HashSet<String>) -> bool {
    let Some(host) = host else { return false };
    let of = Providers::builtin().of(host);
    of.is_some_and(|provider| providers.contains(&*provider.name.to_lowercase()))
        || providers.contains(&host.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_named_by_status_and_sub_status() {
        let kind = |name: &str| name.parse::<VerdictKind>();
        assert_eq!(kind("all"), Ok(VerdictKind::All));
        assert_eq!(kind("risky"), Ok(VerdictKind::Status(Status::Risky)));
        assert_eq!(kind("catch_all"), Ok(VerdictKind::SubStatus(SubStatus::CatchAll)));
        assert_eq!(kind("risky:catch_all"), Ok(VerdictKind::SubStatus(SubStatus::CatchAll)));
        assert_eq!(kind("risky:accepted").unwrap_err(), "accepted is never risky, but deliverable");
        for wrong in ["", "good", "risky:", ":catch_all", "catch_all:risky", "Risky"] {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn providers_are_known_by_name_and_by_host() {
        let names = |name: &str| HashSet::from([name.to_owned()]);
        let google = Providers::builtin().of("aspmx.l.google.com").unwrap().name.to_lowercase();
        assert!(is_of(Some("aspmx.l.google.com"), &names(&google)));
        assert!(!is_of(Some("mx.example.com"), &names(&google)) && !is_of(None, &names(&google)));
        assert!(is_of(Some("MX.example.com"), &names("mx.example.com")));
        assert!(
            is_at("ann@Example.COM", &names("example.com")) && !is_at("example.com", &names("example.com"))
        );
    }
}
