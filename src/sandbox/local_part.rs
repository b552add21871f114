//! The comparison of local parts by a host.

use std::borrow::Cow;

/// Returns a local part in the form for comparison: without quotes, in lower case.
pub(super) fn canonical(local_part: &str) -> Cow<'_, str> {
    let as_is = |octet: u8| octet.is_ascii() && !octet.is_ascii_uppercase() && octet != b'"';
    if local_part.bytes().all(as_is) {
        return local_part.into();
    }
    let Some(quoted) = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return local_part.to_lowercase().into();
    };
    let mut escaped = false;
    let unquoted = quoted.chars().filter(|&c| {
        escaped = c == '\\' && !escaped;
        !escaped
    });
    unquoted.collect::<String>().to_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_parts_compare_without_case_and_quotes() {
        assert!(matches!(canonical("ann"), Cow::Borrowed("ann")));
        assert_eq!(canonical("Ann"), "ann");
        assert_eq!(canonical(r#""Ann""#), "ann");
        assert_eq!(canonical(r#""john doe""#), "john doe");
        assert_eq!(canonical(r#""a\"b\\c""#), r#"a"b\c"#);
        assert_eq!(canonical("ΔΟΚΙΜΉ"), "δοκιμή");
    }
}
