//! ZeroBounce: the answer of `GET /v2/validate`.

use serde_json::{Value, json};
use smtp_pool::verify::{Status, SubStatus};

use crate::output::row::OutputRow;

pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("address", "/address"),
    ("status", "/status"),
    ("sub_status", "/sub_status"),
    ("account", "/account"),
    ("domain", "/domain"),
    ("did_you_mean", "/did_you_mean"),
    ("domain_age_days", "/domain_age_days"),
    ("free_email", "/free_email"),
    ("mx_found", "/mx_found"),
    ("mx_record", "/mx_record"),
    ("smtp_provider", "/smtp_provider"),
    ("firstname", "/firstname"),
    ("lastname", "/lastname"),
    ("gender", "/gender"),
    ("country", "/country"),
    ("region", "/region"),
    ("city", "/city"),
    ("zipcode", "/zipcode"),
    ("processed_at", "/processed_at"),
    ("active_in_days", "/active_in_days"),
];

/// The number of columns that every earlier version has written.
pub(super) const FIRST_COLUMNS: usize = 19;

/// The paths of the fields that are made of the address.
pub(super) const FROM_LIST: &[&str] = &["/address", "/account", "/domain", "/did_you_mean"];

/// Returns the status and sub-status of ZeroBounce.
fn verdict(line: &OutputRow<'_>) -> (&'static str, &'static str) {
    use SubStatus as S;
    let record = line.record;
    match record.sub_status {
        S::Accepted | S::Disposable | S::RoleBased if record.disposable => ("do_not_mail", "disposable"),
        S::Accepted | S::RoleBased if record.role => ("do_not_mail", "role_based"),
        S::Accepted => ("valid", ""),
        S::Disposable => ("do_not_mail", "disposable"),
        S::RoleBased => ("do_not_mail", "role_based"),
        S::CatchAll if record.role => ("do_not_mail", "role_based_catch_all"),
        S::CatchAll => ("catch-all", ""),
        S::MailboxNotFound | S::MailboxDisabled => ("invalid", "mailbox_not_found"),
        S::DoesNotAcceptMail => ("invalid", "does_not_accept_mail"),
        S::NoDnsEntries if line.did_you_mean().is_some() => ("invalid", "possible_typo"),
        S::NoDnsEntries => ("invalid", "no_dns_entries"),
        S::FailedSyntaxCheck => ("invalid", "failed_syntax_check"),
        S::MailboxQuotaExceeded => ("invalid", "mailbox_quota_exceeded"),
        S::UnroutableIpAddress => ("invalid", "unroutable_ip_address"),
        S::Greylisted => ("unknown", "greylisted"),
        S::RateLimited | S::Blocked | S::PolicyRejected => ("unknown", "antispam_system"),
        S::MailServerTemporaryError => ("unknown", "mail_server_temporary_error"),
        S::TimeoutExceeded => ("unknown", "timeout_exceeded"),
        S::FailedSmtpConnection | S::TlsFailed => ("unknown", "failed_smtp_connection"),
        // `ProtocolError`, `Other`, and what is none of these: nothing about the mailbox.
        _ => match record.status {
            Status::Unknown => ("unknown", "exception_occurred"),
            _ => ("unknown", ""),
        },
    }
}

pub(super) fn object(line: &OutputRow<'_>) -> Value {
    let record = line.record;
    let (status, sub_status) = verdict(line);
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    json!({
        "address": record.address,
        "status": status,
        "sub_status": sub_status,
        "free_email": record.free,
        "did_you_mean": line.did_you_mean(),
        "account": text(line.local_part()),
        "domain": text(line.domain()),
        "domain_age_days": null,
        "active_in_days": null,
        "smtp_provider": null,
        "mx_found": line.has_mx().to_string(),
        "mx_record": record.mx_host,
        "firstname": null,
        "lastname": null,
        "gender": null,
        "country": null,
        "region": null,
        "city": null,
        "zipcode": null,
        "processed_at": record.checked_at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    })
}
