//! Reads JSON Lines and JSON arrays: objects with the address in a field, or bare strings.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, BufRead},
};

use serde_json::Value;

use super::{
    Row,
    elements::{Element, Elements},
    layout::{CellCheck, is_address},
    limits::MAX_OBJECT,
    lines::{Line, Lines},
    names, object,
    row::RowBatch,
};
use crate::job::error::{IoContext, Result};

/// The names of fields that are tried in an object without the chosen field, in order.
const FIELDS: [&str; 6] = ["email", "address", "e-mail", "email_address", "mail", "recipient"];
/// The objects that are looked at to find the field, and the octets after which no further one is.
const SAMPLE: usize = 1_000;
const SAMPLE_OCTETS: usize = 1 << 20;

/// The values of a list in JSON.
pub(super) enum Values {
    /// One value a line.
    Lines(Lines<Box<dyn BufRead + Send>>),
    /// The elements of an array.
    Elements(Elements<Box<dyn BufRead + Send>>),
}

impl Values {
    fn next(&mut self) -> io::Result<Option<Element>> {
        match self {
            Self::Lines(lines) => Ok(lines.next_filled()?.map(|Line { number, octets, cut, .. }| Element {
                number,
                octets,
                cut,
            })),
            Self::Elements(elements) => elements.next(),
        }
    }
}

/// Reads the rows of a list in JSON.
pub(super) struct Json {
    values: Values,
    /// The number of lines at the start that are no rows.
    skipped: u64,
    /// The values that were looked at.
    ahead: VecDeque<Element>,
    /// The fields with addresses.
    fields: Vec<String>,
    /// True if the user named the fields, so that no other name is tried.
    are_named: bool,
    batch: RowBatch,
}

impl Json {
    /// Reads the first values, and finds the field with the addresses. `sample` is the number of octets of the list
    /// that can be read without waiting for more.
    pub(super) fn new(
        values: Values,
        skipped: u64,
        sample: &[u8],
        wanted: &[String],
    ) -> Result<(Self, CellCheck)> {
        let (ahead, batch) = (VecDeque::new(), RowBatch::default());
        let mut json =
            Self { values, skipped, ahead, fields: wanted.to_vec(), are_named: !wanted.is_empty(), batch };
        let (mut octets, mut check) = (0, CellCheck::default());
        // The reader must not wait for a value that is not there yet.
        let is_ready = |octets: usize| octets < sample.len().min(SAMPLE_OCTETS);
        while json.ahead.len() < SAMPLE && is_ready(octets) {
            let Some(element) = json.values.next().context("cannot be read")? else { break };
            octets += element.octets.len() + 2;
            json.ahead.push_back(element);
        }
        if wanted.is_empty() {
            json.fields = vec![json.best_field()];
        }
        for element in &json.ahead {
            match json.cells(element) {
                Ok(cells) => cells.iter().for_each(|cell| check.add(cell)),
                // An object without an address is like an empty cell.
                Err(_) if object::is_object(&element.octets) => {}
                Err(_) => check.add(&String::from_utf8_lossy(&element.octets)),
            }
        }
        Ok((json, check))
    }

    /// Returns the fields with addresses.
    pub(super) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Returns the field with the most addresses; among those in which at least half are, one with a usual name.
    fn best_field(&self) -> String {
        let mut fields: Vec<(String, usize, usize)> = Vec::new();
        for element in self.ahead.iter().filter(|element| element.octets.len() <= MAX_OBJECT) {
            let Ok(Value::Object(object)) = serde_json::from_slice(&element.octets) else { continue };
            for (name, value) in object.into_iter().take(1_000) {
                let Some(text) = value.as_str().filter(|text| !text.trim().is_empty()) else { continue };
                let at = fields.iter().position(|(field, ..)| *field == name).unwrap_or_else(|| {
                    fields.push((name, 0, 0));
                    fields.len() - 1
                });
                fields[at].1 += 1;
                fields[at].2 += usize::from(is_address(text.trim()));
            }
            if fields.len() > 10_000 {
                break;
            }
        }
        let good = fields.iter().filter(|(_, filled, valid)| *valid > 0 && 2 * valid >= *filled);
        let best = good.min_by_key(|(name, _, valid)| {
            (names::rank(name).unwrap_or(usize::MAX), std::cmp::Reverse(*valid))
        });
        best.map_or_else(|| FIELDS[0].into(), |(name, ..)| name.clone())
    }

    /// Returns the cells with addresses of a value. The error says why there is none.
    fn cells(&self, element: &Element) -> std::result::Result<Vec<String>, String> {
        if element.cut || element.octets.len() > MAX_OBJECT {
            return Err("longer than 1 MiB".into());
        }
        match serde_json::from_slice(&element.octets) {
            Ok(Value::String(address)) => Ok(vec![address]),
            Ok(Value::Object(object)) => {
                let mut cells = Vec::new();
                let mut found = None;
                for field in &self.fields {
                    match object.get(field).or_else(|| self.other(&object)) {
                        Some(Value::String(address)) => cells.push(address.clone()),
                        Some(Value::Array(all)) if all.iter().all(Value::is_string) => {
                            cells.extend(all.iter().filter_map(Value::as_str).map(str::to_owned));
                        }
                        Some(Value::Null) => found = found.or(Some(format!("the field `{field}` is null"))),
                        Some(_) => found = found.or(Some(format!("the field `{field}` is not a string"))),
                        None => found = found.or(Some(format!("there is no field `{field}`"))),
                    }
                }
                if cells.is_empty() { Err(found.unwrap_or_default()) } else { Ok(cells) }
            }
            Ok(_) => Err("neither a JSON object nor a string".into()),
            Err(error) => Err(format!("not JSON: {error}")),
        }
    }

    /// Finds a usual field in an object without the chosen one, without regard to case.
    fn other<'a>(&self, object: &'a serde_json::Map<String, Value>) -> Option<&'a Value> {
        if self.are_named {
            return None;
        }
        let by_case = |field: &str| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(field));
        FIELDS
            .into_iter()
            .find_map(|field| object.get(field).or_else(|| by_case(field).map(|(_, value)| value)))
    }

    fn rows(&self, element: Element) -> RowBatch {
        let number = element.number;
        match self.cells(&element) {
            Ok(cells) => RowBatch::new(number, cells, element.octets),
            // The fields of a row without an address are kept.
            Err(fault) if element.octets.len() <= MAX_OBJECT && object::is_object(&element.octets) => {
                RowBatch::faulty(number, String::new(), fault, element.octets)
            }
            Err(fault) => {
                let text = String::from_utf8_lossy(&element.octets).into_owned();
                RowBatch::faulty(number, text, fault, Vec::new())
            }
        }
    }
}

impl Iterator for Json {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok(row));
            }
            let element = match self.ahead.pop_front() {
                Some(element) => element,
                None => match self.values.next() {
                    Ok(element) => element?,
                    Err(error) => return Some(Err(error)),
                },
            };
            if element.number > self.skipped {
                self.batch = self.rows(element);
            }
        }
    }
}

pub(super) fn looks_like(line: &[u8]) -> bool {
    let line: Cow<'_, [u8]> = line.trim_ascii().into();
    let is_address = || serde_json::from_slice::<String>(&line).is_ok_and(|text| text.contains('@'));
    line.starts_with(b"{") || is_address()
}
