//! NeverBounce: the answer of `GET /v4/single/check` with `address_info`.

use serde_json::{Value, json};
use smtp_pool::{
    proto::Host,
    verify::{Status, SubStatus},
};

use crate::output::row::OutputRow;

pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("email", "/address_info/original"),
    ("result", "/result"),
    ("flags", "/flags"),
    ("suggested_correction", "/suggested_correction"),
    ("normalized_email", "/address_info/normalized_email"),
    ("domain", "/address_info/domain"),
];

/// The paths of the fields that are made of the address.
pub(super) const FROM_LIST: &[&str] = &[
    "/address_info/original",
    "/suggested_correction",
    "/address_info/normalized_email",
    "/address_info/domain",
];

fn result(line: &OutputRow<'_>) -> &'static str {
    let record = line.record;
    match record.status {
        Status::Deliverable | Status::Risky if record.disposable => "disposable",
        Status::Deliverable => "valid",
        Status::Undeliverable => "invalid",
        Status::Unknown => "unknown",
        Status::Risky => match record.sub_status {
            SubStatus::CatchAll => "catchall",
            SubStatus::RoleBased => "valid",
            _ => "unknown",
        },
    }
}

fn flags(line: &OutputRow<'_>) -> Vec<&'static str> {
    let record = line.record;
    let has_dns = line.mailbox.is_some() && record.sub_status != SubStatus::NoDnsEntries;
    let dns_failed = record.mx_host.is_none()
        && matches!(
            record.sub_status,
            SubStatus::MailServerTemporaryError | SubStatus::TimeoutExceeded | SubStatus::Other
        );
    let is_name = line.mailbox.as_ref().is_some_and(|mailbox| matches!(mailbox.host(), Host::Domain(_)));
    let flags = [
        ("has_dns", has_dns && !dns_failed),
        ("has_dns_mx", line.has_mx() && !dns_failed),
        ("bad_syntax", line.mailbox.is_none()),
        ("free_email_host", record.free),
        ("role_account", record.role),
        ("disposable_email", record.disposable),
        ("spelling_mistake", line.did_you_mean().is_some()),
        ("bad_dns", line.mailbox.is_some() && !has_dns),
        ("temporary_dns_error", line.mailbox.is_some() && dns_failed),
        ("connect_fails", record.sub_status == SubStatus::FailedSmtpConnection),
        ("accepts_all", line.accepts_all()),
        ("contains_alias", line.local_part().contains('+')),
        ("contains_subdomain", is_name && line.domain().matches('.').count() > 1),
        ("smtp_connectable", line.was_reached()),
    ];
    flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag).collect()
}

pub(super) fn object(line: &OutputRow<'_>) -> Value {
    let domain = line.domain();
    let (local, alias) = line.local_part().split_once('+').unwrap_or((line.local_part(), ""));
    json!({
        "status": "success",
        "result": result(line),
        "flags": flags(line),
        "suggested_correction": line.did_you_mean().unwrap_or_default(),
        "address_info": {
            "original": line.record.address,
            "normalized_email": line.normal_form().unwrap_or_default(),
            "addr": local,
            "alias": alias,
            "host": domain,
            "fqdn": domain,
            "domain": domain,
            "tld": domain.rsplit_once('.').map_or("", |(_, tld)| tld),
        },
        "execution_time": line.record.duration_ms,
    })
}
