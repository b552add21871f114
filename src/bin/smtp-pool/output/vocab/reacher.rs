//! Reacher: the answer of `POST /v0/check_email`, and the columns of its CSV.

use serde_json::{Value, json};
use smtp_pool::verify::{Status, SubStatus};

use crate::output::row::OutputRow;

pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("input", "/input"),
    ("is_reachable", "/is_reachable"),
    ("misc.is_disposable", "/misc/is_disposable"),
    ("misc.is_role_account", "/misc/is_role_account"),
    ("misc.gravatar_url", "/misc/gravatar_url"),
    ("mx.accepts_mail", "/mx/accepts_mail"),
    ("smtp.can_connect", "/smtp/can_connect_smtp"),
    ("smtp.has_full_inbox", "/smtp/has_full_inbox"),
    ("smtp.is_catch_all", "/smtp/is_catch_all"),
    ("smtp.is_deliverable", "/smtp/is_deliverable"),
    ("smtp.is_disabled", "/smtp/is_disabled"),
    ("syntax.is_valid_syntax", "/syntax/is_valid_syntax"),
    ("syntax.domain", "/syntax/domain"),
    ("syntax.username", "/syntax/username"),
    ("error", "/smtp/error/message"),
];

/// The paths of the fields that are made of the address.
pub(super) const FROM_LIST: &[&str] = &["/input", "/syntax/domain", "/syntax/username"];

pub(super) fn object(line: &OutputRow<'_>) -> Value {
    let record = line.record;
    let is_reachable = match record.status {
        Status::Undeliverable => "invalid",
        Status::Risky => "risky",
        Status::Unknown => "unknown",
        // Reacher has no such option: these two are always risky.
        Status::Deliverable if record.role || record.disposable => "risky",
        Status::Deliverable => "safe",
    };
    let records: Vec<String> = record.mx_host.iter().map(|host| format!("{host}.")).collect();
    let smtp = match record.status {
        Status::Unknown => json!({
            "error": { "type": "SmtpError", "message": record.reply.as_deref().unwrap_or(record.sub_status.as_str()) }
        }),
        _ => json!({
            "can_connect_smtp": line.was_reached(),
            "has_full_inbox": record.sub_status == SubStatus::MailboxQuotaExceeded,
            "is_catch_all": line.accepts_all(),
            "is_deliverable": line.was_accepted(),
            "is_disabled": record.sub_status == SubStatus::MailboxDisabled,
        }),
    };
    json!({
        "input": record.address,
        "is_reachable": is_reachable,
        "misc": {
            "is_disposable": record.disposable,
            "is_role_account": record.role,
            "is_b2c": record.free,
            "gravatar_url": null,
            "haveibeenpwned": null,
        },
        "mx": { "accepts_mail": line.has_mx(), "records": records },
        "smtp": smtp,
        "syntax": {
            "address": line.mailbox.as_ref().map(|mailbox| mailbox.as_str()),
            "domain": line.domain(),
            "is_valid_syntax": line.mailbox.is_some(),
            "username": line.local_part(),
            "normalized_email": line.normal_form(),
            "suggestion": line.did_you_mean(),
        },
    })
}
