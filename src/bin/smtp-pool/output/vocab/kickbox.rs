//! Kickbox: the answer of `GET /v2/verify`.

use serde_json::{Value, json};
use smtp_pool::verify::{Status, SubStatus};

use crate::output::row::OutputRow;

pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("email", "/email"),
    ("result", "/result"),
    ("reason", "/reason"),
    ("role", "/role"),
    ("free", "/free"),
    ("disposable", "/disposable"),
    ("accept_all", "/accept_all"),
    ("did_you_mean", "/did_you_mean"),
    ("sendex", "/sendex"),
    ("user", "/user"),
    ("domain", "/domain"),
    ("success", "/success"),
    ("message", "/message"),
];

/// The paths of the fields that are made of the address.
pub(super) const FROM_LIST: &[&str] = &["/email", "/did_you_mean", "/user", "/domain"];

fn reason(sub_status: SubStatus) -> &'static str {
    use SubStatus as S;
    match sub_status {
        S::Accepted => "accepted_email",
        S::FailedSyntaxCheck => "invalid_email",
        S::NoDnsEntries | S::DoesNotAcceptMail => "invalid_domain",
        S::MailboxNotFound | S::MailboxDisabled => "rejected_email",
        S::RoleBased | S::Disposable => "low_quality",
        S::CatchAll | S::MailboxQuotaExceeded => "low_deliverability",
        S::FailedSmtpConnection | S::TlsFailed | S::UnroutableIpAddress => "no_connect",
        S::TimeoutExceeded => "timeout",
        S::ProtocolError => "invalid_smtp",
        S::Greylisted | S::RateLimited | S::Blocked | S::PolicyRejected | S::MailServerTemporaryError => {
            "unavailable_smtp"
        }
        // What is none of these says nothing about the mailbox.
        _ => "unexpected_error",
    }
}

/// Returns a score for `sendex`, which is Kickbox's own measure of quality: one step for each result.
fn sendex(status: Status) -> f64 {
    match status {
        Status::Deliverable => 1.0,
        Status::Risky => 0.5,
        Status::Unknown | Status::Undeliverable => 0.0,
    }
}

pub(super) fn object(line: &OutputRow<'_>) -> Value {
    let record = line.record;
    json!({
        "result": record.status.as_str(),
        "reason": reason(record.sub_status),
        "role": record.role,
        "free": record.free,
        "disposable": record.disposable,
        "accept_all": line.accepts_all(),
        "did_you_mean": line.did_you_mean(),
        "sendex": sendex(record.status),
        "email": line.mailbox.as_ref().map_or(&*record.address, |mailbox| mailbox.as_str()),
        "user": line.local_part(),
        "domain": line.domain(),
        "success": true,
        "message": null,
    })
}
