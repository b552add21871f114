//! Reads JSON Lines: objects with the address in a field, or bare strings.

use std::io;

use serde_json::{Map, Value};

use super::{Row, lines::Lines};

/// The longest line that is parsed, 1 MiB. Parsed, it takes up to thirty times as much memory.
const MAX_OBJECT: usize = 1 << 20;
/// The field names that are tried, in order.
const FIELDS: [&str; 6] = ["email", "address", "e-mail", "email_address", "mail", "recipient"];

/// Reads the rows of a JSON Lines list.
pub(super) struct Jsonl {
    lines: Lines,
    field: Option<String>,
}

impl Jsonl {
    pub(super) fn new(lines: Lines, field: Option<&str>) -> Self {
        Self { lines, field: field.map(Into::into) }
    }

    fn address(&self, line: &[u8]) -> Result<String, String> {
        match serde_json::from_slice(line) {
            Ok(Value::String(address)) => Ok(address),
            Ok(Value::Object(mut object)) => self.field(&mut object),
            Ok(_) => Err("neither a JSON object nor a string".into()),
            Err(error) => Err(format!("not JSON: {error}")),
        }
    }

    fn field(&self, object: &mut Map<String, Value>) -> Result<String, String> {
        let (name, value) = match &self.field {
            Some(field) => (&**field, object.remove(field)),
            None => FIELDS
                .into_iter()
                .find_map(|field| Some((field, Some(object.remove(field)?))))
                .or_else(|| by_case(object))
                .unwrap_or((FIELDS[0], None)),
        };
        match value {
            Some(Value::String(address)) => Ok(address),
            Some(_) => Err(format!("the field `{name}` is not a string")),
            None => Err(format!("there is no field `{name}`")),
        }
    }
}

/// Finds a field without regard to case, which is slower than the exact name.
fn by_case(object: &mut Map<String, Value>) -> Option<(&'static str, Option<Value>)> {
    let found = |field: &str| object.keys().find(|key| key.eq_ignore_ascii_case(field)).cloned();
    let (field, key) = FIELDS.into_iter().find_map(|field| Some((field, found(field)?)))?;
    Some((field, object.remove(&key)))
}

impl Iterator for Jsonl {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next_filled() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        let address = match line.octets.len() <= MAX_OBJECT {
            true => self.address(&line.octets),
            false => Err("longer than 1 MiB".into()),
        };
        let row = match address {
            Ok(address) => Row::new(line.number, address.into_bytes()).with_written(line.octets),
            Err(fault) => Row::of_line(line).with_fault(fault),
        };
        Some(Ok(row))
    }
}

pub(super) fn looks_like(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let is_address = || serde_json::from_slice::<String>(line).is_ok_and(|text| text.contains('@'));
    line.starts_with(b"{") || is_address()
}
