//! The columns of a row besides the address.
//!
//! Rows are stored as written, and split into fields only for the output.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::CsvRecord;

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
        let fields = record.map(|(delimiter, (literal, octets))| {
            CsvRecord { number: 0, octets, literal: *literal != 0, cut: false }.into_fields(delimiter)
        });
        fields.into_iter().flatten()
    }

    /// Returns the named fields of a row, from [`Row::written`](super::Row::written). CSV fields are text, at most
    /// one for each of the [`names`](Self::names). Fields without a name are omitted.
    #[must_use]
    pub fn fields<'a>(&'a self, written: &'a [u8]) -> Vec<(Cow<'a, str>, Value)> {
        match self {
            Self::Plain => Vec::new(),
            Self::Csv { names, .. } => {
                let text = |field: Cow<'_, [u8]>| Value::String(String::from_utf8_lossy(&field).into_owned());
                let named = |(name, field): (&'a String, _)| (Cow::Borrowed(name.as_str()), text(field));
                names.iter().zip(self.texts(written)).map(named).collect()
            }
            Self::Jsonl => match serde_json::from_slice(written) {
                Ok(Value::Object(object)) => {
                    object.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect()
                }
                _ => Vec::new(),
            },
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
        assert_eq!(fields(b"\x001; a@x.test ;\"x;y\";more"), ["id=1", "e-mail=a@x.test", "note=x;y"]);
        assert_eq!(fields(b"\x01\"1"), ["id=\"1"]);
        assert_eq!(fields(b""), [""; 0]);
        let object = Shape::Jsonl.fields(br#"{"b":[1],"a":null}"#);
        assert_eq!(object, [("a".into(), Value::Null), ("b".into(), serde_json::json!([1]))]);
        assert!(Shape::Jsonl.fields(b"\"ann@x.test\"").is_empty());
    }
}
