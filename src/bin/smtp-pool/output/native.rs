//! Records in our own format.

use std::io::{self, Write};

use smtp_pool::verify::Record;

use super::{
    columns::Columns,
    formula::{self, ListCells},
    row::OutputRow,
};
use crate::json;

/// The fields in their order: those of [`Record`], and two facts about the address.
pub(super) const FIELDS: [&str; 18] = [
    "address",
    "status",
    "sub_status",
    "blame",
    "catch_all",
    "role",
    "disposable",
    "free",
    "mx_host",
    "smtp_code",
    "enhanced_code",
    "reply",
    "attempts",
    "tls",
    "duration_ms",
    "checked_at",
    "normal_form",
    "did_you_mean",
];

pub(super) fn json(
    line: &OutputRow<'_>,
    columns: &Columns,
    scratch: &mut Vec<u8>,
    sink: &mut impl Write,
) -> io::Result<()> {
    scratch.clear();
    json::append(scratch, line.record)?;
    // More fields of the same object follow.
    scratch.pop();
    for (name, value) in [("normal_form", line.normal_form()), ("did_you_mean", line.did_you_mean())] {
        write!(scratch, ",\"{name}\":")?;
        json::append(scratch, &value)?;
    }
    columns.json(line, &FIELDS, scratch)?;
    scratch.extend_from_slice(b"}\n");
    json::escape(scratch);
    sink.write_all(scratch)
}

pub(super) fn csv<W: Write>(
    line: &OutputRow<'_>,
    cells: ListCells,
    scratch: &mut Vec<u8>,
    csv: &mut csv::Writer<W>,
) -> csv::Result<()> {
    let Record { address, status, sub_status, blame, catch_all, role, disposable, free, .. } = line.record;
    let flag = |is: bool| if is { "true" } else { "false" };
    csv.write_field(cells.apply(address.as_bytes()))?;
    csv.write_field(status.as_str())?;
    csv.write_field(sub_status.as_str())?;
    let mut shown = |value: Option<&dyn std::fmt::Display>, csv: &mut csv::Writer<W>| {
        scratch.clear();
        if let Some(value) = value {
            write!(scratch, "{value}")?;
        }
        csv.write_field(&*scratch)
    };
    shown(blame.as_ref().map(|it| it as _), csv)?;
    csv.write_field(catch_all.as_str())?;
    for is in [role, disposable, free] {
        csv.write_field(flag(*is))?;
    }
    let record = line.record;
    csv.write_field(formula::escaped(record.mx_host.as_deref().unwrap_or_default().as_bytes()))?;
    shown(record.smtp_code.as_ref().map(|it| it as _), csv)?;
    shown(record.enhanced_code.as_ref().map(|it| it as _), csv)?;
    csv.write_field(formula::escaped(record.reply.as_deref().unwrap_or_default().as_bytes()))?;
    shown(Some(&record.attempts), csv)?;
    shown(record.tls.as_ref().map(|it| it as _), csv)?;
    shown(Some(&record.duration_ms), csv)?;
    shown(Some(&record.checked_at), csv)?;
    csv.write_field(cells.apply(line.normal_form().unwrap_or_default().as_bytes()))?;
    csv.write_field(cells.apply(line.did_you_mean().unwrap_or_default().as_bytes()))
}
