//! JSON without hidden characters. As in any JSON, C0 control characters are escaped; here also C1, DEL and what a
//! terminal does not show. A parser gets the same text back.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::escape::is_hidden;

/// Returns the value as JSON, without a line end.
pub(crate) fn to_vec(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec(value)?;
    escape(&mut json);
    Ok(json)
}

/// Appends the value to JSON. The caller calls [`escape`] on all of it later.
pub(crate) fn append(json: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    Ok(serde_json::to_writer(json, value)?)
}

/// Appends a text as a JSON string, with hidden characters escaped.
///
/// Nearly all texts are plain ASCII. For them this costs a copy.
pub(crate) fn append_text(json: &mut Vec<u8>, text: &str) -> io::Result<()> {
    // There is no early end, so that the compiler vectorizes the loop.
    let is_plain = |octet: u8| (octet.wrapping_sub(b' ') < 0x5f) & (octet != b'"') & (octet != b'\\');
    if text.bytes().fold(true, |all, octet| all & is_plain(octet)) {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
        return Ok(());
    }
    if !text.chars().any(|c| is_hidden(c) && !c.is_ascii_control() || c == '\u{7f}') {
        return append(json, &text);
    }
    let mut string = serde_json::to_vec(text)?;
    escape(&mut string);
    json.extend_from_slice(&string);
    Ok(())
}

/// [Escapes](escape) the JSON behind `start`.
pub(crate) fn escape_from(json: &mut Vec<u8>, start: usize) {
    if json[start..].is_ascii() && !json[start..].contains(&0x7f) {
        return;
    }
    let mut tail = json.split_off(start);
    escape(&mut tail);
    json.append(&mut tail);
}

/// Escapes hidden characters in the strings of JSON. Only strings have DEL, or characters beyond ASCII.
///
/// Nearly all records are ASCII. For them this is one pass of a few nanoseconds.
pub(crate) fn escape(json: &mut Vec<u8>) {
    // There is no early end, so that the compiler vectorizes the loop.
    if json.iter().fold(0, |most: u8, octet| most.max(*octet)) < 0x7f {
        return;
    }
    let Ok(text) = std::str::from_utf8(json) else { return };
    let hidden = |(_, c): &(usize, char)| is_hidden(*c) && *c != '\n';
    let Some((mut at, _)) = text.char_indices().find(hidden) else { return };
    let mut escaped = Vec::with_capacity(json.len() + 64);
    let mut rest = text;
    while let Some(c) = rest[at..].chars().next() {
        escaped.extend_from_slice(&rest.as_bytes()[..at]);
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
        rest = &rest[at + c.len_utf8()..];
        at = rest.char_indices().find(hidden).map_or(rest.len(), |(at, _)| at);
    }
    escaped.extend_from_slice(rest.as_bytes());
    *json = escaped;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn text(value: &impl Serialize) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn hidden_characters_are_escaped() {
        assert_eq!(text(&"a\u{7f}\u{9b}\u{202e}\n\\"), r#""a\u007f\u009b\u202e\n\\""#);
        assert_eq!(
            text(&json!({ "\u{85}k": ["\u{e0041}", "é中"] })),
            "{\"\\u0085k\":[\"\\udb40\\udc41\",\"é中\"]}"
        );
        let mut lines = "{\"a\":\"\u{85}\"}\n".as_bytes().to_vec();
        escape(&mut lines);
        assert_eq!(lines, b"{\"a\":\"\\u0085\"}\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let odd = "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}a\\\\\"é]{0,12}";
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::from),
            odd.prop_map(Value::from),
            any::<i64>().prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(odd, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_text_is_escaped_as_any_value(text in prop_oneof!["[ -~]{0,40}", "[\\p{Cc}\\p{Cf}a\\\\\"é]{0,12}", any::<String>()]) {
            let mut json = b"before".to_vec();
            append_text(&mut json, &text).unwrap();
            prop_assert_eq!(&json[6..], &to_vec(&text).unwrap()[..]);
        }

        #[test]
        fn nothing_hidden_is_left_and_a_reader_gets_the_same(value in values()) {
            let text = text(&value);
            prop_assert!(!text.chars().any(is_hidden), "{text:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
