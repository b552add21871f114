//! The members of a JSON object in their order, with their values as they are written.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<CowName<'de>, &RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A name, which is borrowed if it has no escapes.
#[derive(Deserialize)]
struct CowName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Returns the members of an object in their order, with their values as written, without white space between the
/// parts of a value. A name that occurs again gets a number. None if this is no object.
pub(super) fn members(octets: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let Members(members) = serde_json::from_slice(octets).ok()?;
    let names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    let mut seen = std::collections::HashSet::new();
    let is_unique = names.iter().all(|name| seen.insert(*name));
    let names = match is_unique {
        true => names.into_iter().map(str::to_owned).collect(),
        false => numbered(&names),
    };
    Some(names.into_iter().zip(members.iter().map(|(_, value)| compact(value.get()))).collect())
}

fn numbered(names: &[&str]) -> Vec<String> {
    let mut taken: std::collections::HashSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        if seen.insert(*name) {
            found.push((*name).to_owned());
            continue;
        }
        let mut numbered = (2_u64..).map(|number| format!("{name}_{number}"));
        found.push(numbered.find(|name| taken.insert(name.clone())).unwrap_or_default());
    }
    found
}

/// Removes white space outside of strings.
fn compact(json: &str) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |octet: &u8| {
        let was_in_string = in_string;
        match (in_string, *octet) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            _ => {}
        }
        was_in_string || !octet.is_ascii_whitespace()
    };
    json.bytes().filter(keep).collect()
}

/// Returns true if this is an object.
pub(super) fn is_object(octets: &[u8]) -> bool {
    octets.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<&RawValue>(octets).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_order_are_kept() {
        let text = "{\"z\": 1.10, \"a\\u0062\":\n[1, {\"x\" : \"a b\\\" c\"}], \"big\":12345678901234567890123, \"e\":1E5}";
        let members: Vec<_> = members(text.as_bytes()).unwrap();
        let shown: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(shown, ["z=1.10", "ab=[1,{\"x\":\"a b\\\" c\"}]", "big=12345678901234567890123", "e=1E5"]);
        assert!(super::members(b"[1]").is_none() && super::members(b"{").is_none());
    }

    #[test]
    fn a_name_that_occurs_again_is_numbered() {
        let members = members(br#"{"a":1,"a":2,"a_2":3}"#).unwrap();
        let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "a_3", "a_2"]);
    }
}
