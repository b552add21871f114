//! The columns of the lists, which stand behind the fields of the records: their names, and the place of each list's
//! columns.
//!
//! Everything is computed before the first row. So a row costs only its own columns, however wide the other lists are.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io,
};

use smtp_pool::job::input::Shape;

use super::{cells::CsvRow, formula::ListCells, row::OutputRow};
use crate::json;

/// The CSV column for rows of JSONL, because their fields are not known before the end.
const OBJECT: &str = "input";

/// See the [module](self).
pub(super) struct Columns {
    lists: Vec<List>,
    /// The names of the columns of all lists together, in CSV.
    names: Vec<String>,
    /// The index of the column for objects of JSONL, if any list has them.
    object: Option<usize>,
    /// The names that the records take. Those of the columns differ from them.
    fields: Vec<String>,
}

struct List {
    shape: Shape,
    /// The names of its columns in JSONL.
    names: Vec<String>,
    /// The same names, each as `,"name":`.
    keys: Vec<Vec<u8>>,
    /// The index of each of its fields among all columns, in CSV.
    places: Vec<usize>,
    /// Whether these are the first columns, in their order.
    is_in_order: bool,
}

impl Columns {
    /// Returns the columns for rows of these shapes. `fields` are the names that the records take. In CSV, lists with a
    /// column of the same name share it.
    pub(super) fn new(shapes: &[Shape], fields: &[&str], csv: bool) -> Self {
        let lists = shapes.iter().map(|shape| {
            let names = if csv { Vec::new() } else { unique(shape.names(), fields) };
            let keys = names.iter().map(|name| key(name)).collect();
            List { shape: shape.clone(), names, keys, places: Vec::new(), is_in_order: false }
        });
        let mut columns =
            Self { lists: lists.collect(), names: Vec::new(), object: None, fields: Vec::new() };
        columns.fields.extend(fields.iter().map(|name| (*name).to_owned()));
        if csv {
            columns.join(shapes, fields);
        }
        columns
    }

    fn join(&mut self, shapes: &[Shape], fields: &[&str]) {
        let mut all: Vec<&str> = Vec::new();
        // A list may have the same name more than once.
        let mut known: HashMap<(&str, usize), usize> = HashMap::new();
        for (list, shape) in self.lists.iter_mut().zip(shapes) {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for name in shape.names() {
                let count = counts.entry(name).or_default();
                list.places.push(*known.entry((name, *count)).or_insert_with(|| {
                    all.push(name);
                    all.len() - 1
                }));
                *count += 1;
            }
            list.is_in_order = list.places.iter().copied().eq(0..list.places.len());
        }
        if shapes.contains(&Shape::Jsonl) {
            self.object = Some(all.len());
            all.push(OBJECT);
        }
        self.names = unique(&all, fields);
    }

    /// Returns the names of the columns in CSV.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn list(&self, line: &OutputRow<'_>) -> Option<&List> {
        self.lists.get(line.source as usize)
    }

    /// Writes the columns of a row of CSV. Columns of other lists are empty. Cells beyond the columns of the list come
    /// last.
    pub(super) fn csv(&self, line: &OutputRow<'_>, cells: ListCells, row: &mut CsvRow<'_>) {
        let Some(list) = self.list(line).filter(|_| !self.names.is_empty()) else { return };
        let mut fields = list.shape.texts(line.written);
        // The columns of the first list come in their order.
        if self.object.is_none() && list.is_in_order {
            for _ in &list.places {
                row.cell(&cells.apply(&fields.next().unwrap_or_default()));
            }
            (list.places.len()..self.names.len()).for_each(|_| row.cell(b""));
            return fields.for_each(|field| row.cell(&cells.apply(&field)));
        }
        let mut found: Vec<Cow<'_, [u8]>> = vec![Cow::default(); self.names.len()];
        for place in &list.places {
            found[*place] = fields.next().unwrap_or_default();
        }
        if let (Some(object), Shape::Jsonl) = (self.object, &list.shape) {
            found[object] = line.written.into();
        }
        found.into_iter().chain(fields).for_each(|field| row.cell(&cells.apply(&field)));
    }

    /// Appends the columns of a row, or the fields of its object, to the open object in `out`. Values of an object are
    /// written as the list has them.
    pub(super) fn json<F: AsRef<str>>(
        &self,
        line: &OutputRow<'_>,
        fields: &[F],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Some(list) = self.list(line) else { return Ok(()) };
        let is_taken = |name: &str| fields.iter().any(|field| field.as_ref() == name);
        // An object of another service may have other fields than its table.
        let is_checked = fields.iter().map(AsRef::as_ref).eq(self.fields.iter().map(String::as_str));
        for (column, text) in list.shape.texts(line.written).enumerate() {
            match list.keys.get(column) {
                Some(_) if !is_checked && is_taken(&list.names[column]) => {
                    out.extend_from_slice(&key(&renamed(&list.names[column], is_taken, true)));
                }
                Some(key) => out.extend_from_slice(key),
                // A row may be wider than its header.
                None => {
                    let numbered = format!("column_{}", column + 1);
                    let has = |name: &str| is_taken(name) || list.names.iter().any(|other| other == name);
                    out.extend_from_slice(&key(&renamed(&numbered, has, has(&numbered))));
                }
            }
            json::append_text(out, &String::from_utf8_lossy(&text))?;
        }
        let members = list.shape.members(line.written);
        let has = |name: &str| members.iter().any(|(other, _)| other == name);
        let start = out.len();
        for (name, value) in &members {
            out.extend_from_slice(&key(&renamed(name, |name| is_taken(name) || has(name), is_taken(name))));
            out.extend_from_slice(value);
        }
        json::escape_from(out, start);
        Ok(())
    }
}

/// Returns the name as `,"name":`.
fn key(name: &str) -> Vec<u8> {
    let mut key = b",".to_vec();
    // A buffer in memory takes any octets.
    let _ = json::append_text(&mut key, name);
    key.push(b':');
    key
}

/// Returns the name, with `input_` in front as often as needed until no other field has it.
fn renamed(name: &str, taken: impl Fn(&str) -> bool, is_taken: bool) -> Cow<'_, str> {
    let mut found = Cow::Borrowed(name);
    let mut again = is_taken;
    while again {
        found = format!("input_{found}").into();
        again = taken(&found);
    }
    found
}

/// Returns the names so that each occurs once and none is in `fields`. A name in `fields` gets `input_` in front. A
/// repeated name gets a number behind.
fn unique<N: AsRef<str>>(names: &[N], fields: &[&str]) -> Vec<String> {
    let is_field = |name: &str| fields.contains(&name);
    let mut used: HashSet<Cow<'_, str>> =
        names.iter().map(N::as_ref).filter(|name| !is_field(name)).map(Cow::Borrowed).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut numbers: HashMap<Cow<'_, str>, u64> = HashMap::new();
    let mut found = Vec::with_capacity(names.len());
    for name in names.iter().map(N::as_ref) {
        let first = seen.insert(name);
        if first && !is_field(name) {
            found.push(name.to_owned());
            continue;
        }
        let base: Cow<'_, str> = if is_field(name) { format!("input_{name}").into() } else { name.into() };
        if first && !is_field(&base) && used.insert(base.clone()) {
            found.push(base.into_owned());
            continue;
        }
        // The numbers continue from row to row, so that each name is tried once.
        let number = numbers.entry(base.clone()).or_insert(1);
        let numbered = loop {
            *number += 1;
            let numbered = format!("{base}_{number}");
            if !is_field(&numbered) && used.insert(numbered.clone().into()) {
                break numbered;
            }
        };
        found.push(numbered);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const FIELDS: [&str; 2] = ["address", "reply"];

    #[test]
    fn no_name_occurs_twice() {
        let check = |names: &[&str], found: &[&str]| assert_eq!(unique(names, &FIELDS), found, "{names:?}");
        check(&["id", "address", "note"], &["id", "input_address", "note"]);
        check(&["x", "x", "x"], &["x", "x_2", "x_3"]);
        check(&["x", "x", "x_2", "x_2"], &["x", "x_3", "x_2", "x_2_2"]);
        check(
            &["address", "input_address", "address"],
            &["input_address_2", "input_address", "input_address_3"],
        );
        check(&["", ""], &["", "_2"]);
    }

    #[test]
    fn a_hundred_thousand_names_take_linear_time() {
        let started = Instant::now();
        let many: Vec<String> = (0..100_000).map(|n| format!("column_{n}")).collect();
        assert_eq!(unique(&many, &FIELDS), many);
        let same = vec!["x"; 100_000];
        let found = unique(&same, &FIELDS);
        assert_eq!((found[0].as_str(), found[99_999].as_str()), ("x", "x_100000"));
        let between: Vec<String> =
            (0..100_000).map(|n| if n % 2 == 0 { "x".into() } else { format!("x_{n}") }).collect();
        let found: HashSet<String> = unique(&between, &FIELDS).into_iter().collect();
        assert_eq!(found.len(), 100_000);
        // Quadratic time would be minutes.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn a_name_in_an_object_is_not_used_twice() {
        let object = ["address", "input_address", "x"];
        let taken = |name: &str| FIELDS.contains(&name) || object.contains(&name);
        assert_eq!(renamed("address", taken, true), "input_input_address");
        assert_eq!(renamed("x", taken, false), "x");
    }
}
