//! The columns of a row besides the address.
//!
//! Rows are stored as written, and split into fields only for the output.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::{CsvRecord, QuoteRules},
    object,
};

/// The format of a source's rows, which is needed to split them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shape {
    /// Only the address.
    #[default]
    Plain,
    /// CSV.
    Csv {
        /// The octet between two fields.
        delimiter: u8,
        /// The names of the columns.
        names: Vec<String>,
    },
    /// JSON objects.
    Jsonl,
}

impl Shape {
    /// Returns the names of the columns. Empty unless the source is CSV.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Csv { names, .. } => names,
            Self::Plain | Self::Jsonl => &[],
        }
    }

    /// Returns the fields of a CSV row, in the order of the [`names`](Self::names). Empty for other formats.
    pub fn texts<'a>(&self, written: &'a [u8]) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a> {
        let delimiter = match self {
            Self::Csv { delimiter, .. } => Some(*delimiter),
            Self::Plain | Self::Jsonl => None,
        };
        let record = delimiter.zip(written.split_first());
        let fields = record.map(|(delimiter, (rules, octets))| {
            CsvRecord { number: 0, octets, rules: QuoteRules(*rules), cut: false }.into_fields(delimiter)
        });
        fields.into_iter().flatten()
    }

    /// Returns the members of a JSON object in their order: names, and values as they are written. Empty for other
    /// formats.
    #[must_use]
    pub fn members(&self, written: &[u8]) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Jsonl => object::members(written).unwrap_or_default(),
            Self::Plain | Self::Csv { .. } => Vec::new(),
        }
    }

    /// Returns the named fields of a row, from [`Row::written`](super::Row::written). CSV fields are text. A field
    /// without a name gets its number, as in `column_5`.
    #[must_use]
    pub fn fields<'a>(&'a self, written: &'a [u8]) -> Vec<(Cow<'a, str>, Value)> {
        match self {
            Self::Plain => Vec::new(),
            Self::Csv { names, .. } => {
                let text = |field: Cow<'_, [u8]>| Value::String(String::from_utf8_lossy(&field).into_owned());
                let name = |column: usize| match names.get(column) {
                    Some(name) => Cow::Borrowed(name.as_str()),
                    None => Cow::Owned(format!("column_{}", column + 1)),
                };
                self.texts(written).enumerate().map(|(column, field)| (name(column), text(field))).collect()
            }
            Self::Jsonl => {
                let value = |octets: Vec<u8>| serde_json::from_slice(&octets).unwrap_or_default();
                let members = self.members(written).into_iter();
                members.map(|(name, octets)| (Cow::Owned(name), value(octets))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_into_fields() {
        let names = ["id", "e-mail", "note"].map(String::from).to_vec();
        let shape = Shape::Csv { delimiter: b';', names };
        let fields = |written: &[u8]| {
            let fields = shape.fields(written).into_iter();
            fields.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect::<Vec<_>>()
        };
        let row = fields(b"\x001; a@x.test ;\"x;y\";more");
        assert_eq!(row, ["id=1", "e-mail= a@x.test ", "note=x;y", "column_4=more"]);
        assert_eq!(fields(b"\x01\"1"), ["id=\"1"]);
        assert_eq!(fields(b""), [""; 0]);
        let object = Shape::Jsonl.fields(br#"{"b":[1],"a":null}"#);
        assert_eq!(object, [("b".into(), serde_json::json!([1])), ("a".into(), Value::Null)]);
        assert!(Shape::Jsonl.fields(b"\"ann@x.test\"").is_empty());
    }
}
