//! Records in our own format.
//!
//! JSON is written field by field into the buffer, because a serializer would cost as much as all the rest of the
//! command. A test compares it with the serialized [`Record`](smtp_pool::verify::Record).

use std::io::{self, Write};

use jiff::Timestamp;
use smtp_pool::proto::EnhancedCode;

use super::{
    cells::{CsvRow, put_number},
    columns::Columns,
    formula::{self, ListCells},
    row::OutputRow,
};
use crate::json;

/// The fields in their order: those of [`Record`](smtp_pool::verify::Record), and three facts about the address.
pub(super) const FIELDS: [&str; 19] = [
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
    "asked",
];

/// Appends the record as one line of JSON. The columns of the list come first, or last.
pub(super) fn json(
    line: &OutputRow<'_>,
    columns: &Columns,
    columns_first: bool,
    clock: &mut TimeWriter,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let record = line.record;
    let start = out.len();
    if columns_first {
        columns.json(line, &FIELDS, out)?;
    }
    out.extend_from_slice(b",\"address\":");
    // Each member begins with a comma.
    out[start] = b'{';
    json::append_text(out, &record.address)?;
    for (name, word) in [
        (",\"status\":", Some(record.status.as_str())),
        (",\"sub_status\":", Some(record.sub_status.as_str())),
        (",\"blame\":", record.blame.map(|blame| blame.as_str())),
        (",\"catch_all\":", Some(record.catch_all.as_str())),
    ] {
        put(out, name, word, put_word);
    }
    for (name, is) in
        [(",\"role\":", record.role), (",\"disposable\":", record.disposable), (",\"free\":", record.free)]
    {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(flag(is).as_bytes());
    }
    put_text(out, ",\"mx_host\":", record.mx_host.as_deref())?;
    put(out, ",\"smtp_code\":", record.smtp_code, |out, code| put_number(out, code.into()));
    put(out, ",\"enhanced_code\":", record.enhanced_code, |out, code| {
        out.push(b'"');
        put_enhanced(out, code);
        out.push(b'"');
    });
    put_text(out, ",\"reply\":", record.reply.as_deref())?;
    put(out, ",\"attempts\":", Some(record.attempts), |out, attempts| put_number(out, attempts.into()));
    out.extend_from_slice(b",\"tls\":");
    match record.tls {
        Some(version) => write!(out, "\"{version}\"")?,
        None => out.extend_from_slice(b"null"),
    }
    put(out, ",\"duration_ms\":", Some(record.duration_ms), put_number);
    out.extend_from_slice(b",\"checked_at\":\"");
    clock.put(out, record.checked_at);
    out.push(b'"');
    put_text(out, ",\"normal_form\":", line.normal_form().as_deref())?;
    put_text(out, ",\"did_you_mean\":", line.did_you_mean().as_deref())?;
    put_text(out, ",\"asked\":", line.asked.as_deref())?;
    if !columns_first {
        columns.json(line, &FIELDS, out)?;
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends the fields of the record to a row of CSV.
pub(super) fn csv(line: &OutputRow<'_>, cells: ListCells, clock: &mut TimeWriter, row: &mut CsvRow<'_>) {
    let record = line.record;
    row.cell(&cells.apply(record.address.as_bytes()));
    row.word(record.status.as_str());
    row.word(record.sub_status.as_str());
    row.word(record.blame.map_or("", |blame| blame.as_str()));
    row.word(record.catch_all.as_str());
    for is in [record.role, record.disposable, record.free] {
        row.word(flag(is));
    }
    row.cell(&formula::escaped(record.mx_host.as_deref().unwrap_or_default().as_bytes()));
    row.plain(|out| record.smtp_code.into_iter().for_each(|code| put_number(out, code.into())));
    row.plain(|out| record.enhanced_code.into_iter().for_each(|code| put_enhanced(out, code)));
    row.cell(&formula::escaped(record.reply.as_deref().unwrap_or_default().as_bytes()));
    row.number(record.attempts.into());
    row.plain(|out| record.tls.into_iter().for_each(|version| drop(write!(out, "{version}"))));
    row.number(record.duration_ms);
    row.plain(|out| clock.put(out, record.checked_at));
    row.cell(&cells.apply(line.normal_form().as_deref().unwrap_or_default().as_bytes()));
    row.cell(&cells.apply(line.did_you_mean().as_deref().unwrap_or_default().as_bytes()));
    row.cell(&cells.apply(line.asked.as_deref().unwrap_or_default().as_bytes()));
}

fn flag(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

fn put<T>(out: &mut Vec<u8>, name: &str, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    out.extend_from_slice(name.as_bytes());
    match value {
        Some(value) => write(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn put_word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

fn put_text(out: &mut Vec<u8>, name: &str, text: Option<&str>) -> io::Result<()> {
    out.extend_from_slice(name.as_bytes());
    match text {
        Some(text) => json::append_text(out, text),
        None => {
            out.extend_from_slice(b"null");
            Ok(())
        }
    }
}

fn put_enhanced(out: &mut Vec<u8>, code: EnhancedCode) {
    put_number(out, code.class.into());
    out.push(b'.');
    put_number(out, code.subject.into());
    out.push(b'.');
    put_number(out, code.detail.into());
}

/// Writes times with milliseconds, all with the same width. It keeps the text of the last second, because thousands of
/// records follow each other within one.
#[derive(Debug, Default)]
pub(super) struct TimeWriter {
    second: Option<i64>,
    /// The date and the time of that second, up to the point.
    text: String,
}

impl TimeWriter {
    pub(super) fn put(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        let millis = at.as_millisecond();
        let (second, millis) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
        if self.second != Some(second) {
            let whole = Timestamp::from_second(second).unwrap_or(at);
            self.second = Some(second);
            self.text = whole.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        }
        out.extend_from_slice(self.text.as_bytes());
        let digit = |place: i64| b'0' + u8::try_from(millis / place % 10).unwrap_or_default();
        out.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::Value;
    use smtp_pool::{
        metrics::Metrics,
        net::TlsVersion,
        proto::ClientName,
        verify::{Blame, CatchAll, Record, SubStatus, Verifier, VerifierConfig},
    };

    use super::*;

    /// Returns a record of an address without a route.
    fn record() -> Record {
        let mut config = VerifierConfig::new(ClientName::parse("client.example.org").unwrap());
        config.routes.insert("*", Err(smtp_pool::verify::Unreachable::NullMx));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let verifier = Verifier::new(config, Arc::new(Metrics::new())).unwrap();
            verifier.verify_all(["ann@example.com".to_owned()]).next().await.unwrap()
        })
    }

    #[test]
    fn times_have_one_width() {
        let mut clock = TimeWriter::default();
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (7, "1970-01-01T00:00:00.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_700_000_000_120, "2023-11-14T22:13:20.120Z"),
        ] {
            let at = Timestamp::from_millisecond(millis).unwrap();
            let mut out = Vec::new();
            clock.put(&mut out, at);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), at);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-c@.\"\\\\\u{7f}\u{85}\u{202e}é\n+]{0,12}"
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn json_is_that_of_the_serialized_record(
            address in prop_oneof![text(), "[a-zA-Z.+]{1,8}@[a-z]{1,8}\\.com"],
            reply in proptest::option::of(text()),
            host in proptest::option::of(text()),
            code in proptest::option::of(0..999_u16),
            enhanced in proptest::option::of((0..9_u8, any::<u16>(), any::<u16>())),
            tls in proptest::option::of(prop::sample::select(vec![TlsVersion::Tls12, TlsVersion::Tls13])),
            numbers in (any::<u32>(), any::<u64>(), -1_i64 << 40..1 << 42),
            flags in any::<[bool; 3]>(),
        ) {
            let mut record = record();
            record.address = address;
            record.reply = reply.map(Into::into);
            record.mx_host = host.map(Into::into);
            record.smtp_code = code;
            record.enhanced_code =
                enhanced.map(|(class, subject, detail)| EnhancedCode { class, subject, detail });
            record.tls = tls;
            (record.attempts, record.duration_ms) = (numbers.0, numbers.1);
            record.checked_at = Timestamp::from_millisecond(numbers.2).unwrap();
            [record.role, record.disposable, record.free] = flags;
            record.blame = flags[0].then_some(Blame::Us);
            record.catch_all = if flags[1] { CatchAll::Inconclusive } else { CatchAll::NotRun };
            record.sub_status = if flags[2] { SubStatus::Other } else { SubStatus::CatchAll };
            let line = OutputRow::new(&record, 0, b"");
            let mut out = Vec::new();
            json(&line, &Columns::new(&[], &FIELDS, false), flags[0], &mut TimeWriter::default(), &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            prop_assert!(!out.trim_end().chars().any(crate::escape::is_hidden), "{out:?}");
            let mut expected = serde_json::to_value(&record).unwrap();
            expected["normal_form"] = line.normal_form().map_or(Value::Null, |form| form.into_owned().into());
            expected["asked"] = line.asked.clone().map_or(Value::Null, Value::from);
            expected["did_you_mean"] = line.did_you_mean().map_or(Value::Null, Value::from);
            let found: Value = serde_json::from_str(&out).unwrap();
            prop_assert_eq!(&found, &expected);
            // The order is that of the fields.
            let places: Vec<_> = FIELDS.iter().map(|name| out.find(&format!("\"{name}\":"))).collect();
            prop_assert!(places.iter().all(Option::is_some) && found.as_object().unwrap().len() == FIELDS.len());
        }
    }
}
