//! The address in a cell: what is around it, what is wrong in it, and several addresses in one cell.

use std::borrow::Cow;

use memchr::memchr;

use crate::proto::Mailbox;

/// The most addresses of one cell. A cell with more is a fault.
pub(super) const MAX_ADDRESSES: usize = 1_000;
/// The longest cell that is searched for an address, in octets. With names around it, no address is longer.
const MAX_CELL: usize = 8 * 1_024;

/// The address in a cell of a list.
///
/// Spaces, invisible characters and quotes around the address are taken off. So are a name (`Ann <ann@example.com>`),
/// `mailto:`, and a `;`, `,` or `.` at the end. A cell that is an address as it stands is not changed.
///
/// ```
/// use smtp_pool::job::input::CellAddress;
/// let cell = CellAddress::of("Ann <ann@example.com>;");
/// assert_eq!(cell.mailbox.unwrap().as_str(), "ann@example.com");
/// // A comma in place of a dot is not corrected, but a correction is proposed.
/// let cell = CellAddress::of("ann@example,com");
/// assert!(cell.mailbox.is_none());
/// assert_eq!(cell.did_you_mean.as_deref(), Some("ann@example.com"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellAddress<'a> {
    /// The address. None if the cell holds none, or one that is damaged.
    pub mailbox: Option<Mailbox>,
    /// The text of the address without what is around it. The text of the cell if there is no address.
    pub text: Cow<'a, str>,
    /// Why the cell holds no address.
    pub fault: Option<String>,
    /// The address that was probably meant, if the cell holds a damaged one.
    pub did_you_mean: Option<String>,
}

impl<'a> CellAddress<'a> {
    /// Finds the address in a cell.
    #[must_use]
    pub fn of(given: &'a str) -> Self {
        let parsed = Mailbox::parse(given);
        let error = match parsed {
            Ok(mailbox) if given.is_ascii() => return Self::found(mailbox, given.into()),
            Ok(mailbox) => match misleading(given) {
                None => return Self::found(mailbox, given.into()),
                Some(fault) => fault,
            },
            Err(error) => error.to_string(),
        };
        // A space in front marks a text that was found to be faulty.
        if given.len() > MAX_CELL || given.starts_with(' ') {
            return Self { mailbox: None, text: given.into(), fault: Some(error), did_you_mean: None };
        }
        let bare = bare(given);
        let fault = match Mailbox::parse(bare) {
            Ok(mailbox) => match misleading(bare) {
                None => return Self::found(mailbox, bare.into()),
                Some(fault) => fault,
            },
            Err(_) => error,
        };
        Self { mailbox: None, text: given.into(), fault: Some(fault), did_you_mean: meant(bare) }
    }

    fn found(mailbox: Mailbox, text: Cow<'a, str>) -> Self {
        Self { mailbox: Some(mailbox), text, fault: None, did_you_mean: None }
    }

    /// Returns true if the cell holds an address, or something that looks like a damaged one.
    pub(super) fn looks_like(given: &str) -> bool {
        if memchr(b'@', given.as_bytes()).is_none() && !given.contains('＠') {
            return false;
        }
        let is_handle = |text: &str| text.starts_with(['@', '＠']) || text.contains("://");
        CellAddress::of(given).mailbox.is_some() || split(given).len() > 1 || {
            let bare = bare(given);
            let ends = bare.ends_with(['@', '＠']);
            !is_handle(bare) && !ends && bare.len() <= 512 && bare.split_whitespace().count() <= 6
        }
    }
}

/// Returns the text that the verifier gets for a cell: the address, or a text that is none.
pub(in crate::job) fn question(given: &str) -> Cow<'_, str> {
    let cell = CellAddress::of(given);
    match cell.mailbox.is_none() && Mailbox::parse(given).is_ok() {
        // The verifier would ask about it.
        true => format!(" {given}").into(),
        false => cell.text,
    }
}

/// Splits a cell into the addresses that it holds. A cell that is not a sequence of addresses is one part.
pub(super) fn split(cell: &str) -> Vec<&str> {
    let cell = cell.trim();
    if memchr(b'@', cell.as_bytes()).is_none() || Mailbox::parse(cell).is_ok() {
        return vec![cell];
    }
    let levels: [&[char]; 5] = [&[';', '\n', '\r'], &[','], &['|'], &['/'], &[' ', '\t']];
    for separators in levels {
        if !cell.contains(separators) {
            continue;
        }
        let parts = parts(cell, separators);
        if parts.len() > 1 && parts.iter().all(|part| part.contains('@')) {
            let mut all = Vec::new();
            for part in parts {
                all.extend(split(part));
            }
            return all;
        }
    }
    vec![cell]
}

/// Splits at separators outside of quotes and angle brackets, and drops empty parts.
fn parts<'a>(cell: &'a str, separators: &[char]) -> Vec<&'a str> {
    let (mut quoted, mut angle) = (false, false);
    // A quote or bracket without its other half protects nothing.
    let (quotes, angles) =
        (cell.matches('"').count().is_multiple_of(2), cell.matches('<').count() == cell.matches('>').count());
    let is_separator = |c: char| {
        match c {
            '"' if quotes => quoted = !quoted,
            '<' if angles && !quoted => angle = true,
            '>' if angles && !quoted => angle = false,
            _ => {}
        }
        !quoted && !angle && separators.contains(&c)
    };
    cell.split(is_separator).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Takes off what is around an address.
fn bare(given: &str) -> &str {
    let mut text = given;
    // Each pass takes off at least one character.
    for _ in 0..16 {
        let before = text;
        text = text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c) || c == '\u{feff}');
        text = text.trim_end_matches([';', ',', '.']).trim_start_matches([';', ',']);
        if let Some(inner) = text.strip_suffix('>').and_then(|text| text.rfind('<').map(|at| &text[at + 1..]))
        {
            text = inner;
        }
        if let Some(address) = strip_prefix_ignoring_case(text, "mailto:") {
            text = address.split('?').next().unwrap_or(address);
        }
        for (open, close) in QUOTES {
            if let Some(inner) = text.strip_prefix(open).and_then(|text| text.strip_suffix(close)) {
                text = inner;
            }
        }
        if text == before {
            break;
        }
    }
    text
}

/// Quotes and brackets that stand around an address.
const QUOTES: [(char, char); 10] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('“', '”'),
    ('„', '“'),
    ('‘', '’'),
    ('«', '»'),
    ('»', '«'),
    ('(', ')'),
    ('[', ']'),
];

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Returns true for a character that takes no room and no part in an address.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || c.is_control()
}

/// Returns why a valid address is not the one that a reader sees.
fn misleading(address: &str) -> Option<String> {
    let mut before = None;
    let mut rest = address.chars().peekable();
    while let Some(c) = rest.next() {
        let is_joiner = matches!(c, '\u{200c}' | '\u{200d}');
        // Persian and Indic words have joiners between letters.
        let joins = is_joiner
            && before.is_some_and(|c: char| !c.is_ascii() && c.is_alphanumeric())
            && rest.peek().is_some_and(|c| !c.is_ascii());
        if is_invisible(c) && !joins {
            return Some(format!("the invisible character U+{:04X} inside", u32::from(c)));
        }
        if narrow(c) != c {
            return Some(format!("the character U+{:04X} in place of {:?}", u32::from(c), narrow(c)));
        }
        if c == char::REPLACEMENT_CHARACTER {
            return Some("a character that was lost".into());
        }
        // Signs of other scripts join the letter before them.
        if c.is_alphanumeric() || !c.is_ascii() {
            before = Some(c);
        } else {
            before = None;
        }
    }
    None
}

/// Returns the usual form of a full-width character, a space or a quotation mark.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3002}' | '\u{ff61}' => '.',
        '\u{3000}' | '\u{a0}' => ' ',
        '‘' | '’' => '\'',
        '“' | '”' | '„' | '«' | '»' => '"',
        c => c,
    }
}

/// Returns the address that was probably meant by a damaged one.
fn meant(damaged: &str) -> Option<String> {
    if damaged.len() > 512 {
        return None;
    }
    let visible: String = damaged.chars().filter(|c| !is_invisible(*c)).map(narrow).collect();
    let visible = bare(&visible);
    let is_valid = |text: &String| Mailbox::parse(text).is_ok() && misleading(text).is_none();
    // One word of several may be the address.
    let mut words = visible.split_whitespace().map(bare).filter(|word| word.contains('@'));
    let word = words.next().filter(|_| words.next().is_none());
    let (local, domain) = visible.rsplit_once('@').unwrap_or((visible, ""));
    let local = local.trim_end_matches('@').replace(char::is_whitespace, "");
    let domain = domain.replace(char::is_whitespace, "").replace([',', ';', ':'], ".").replace("..", ".");
    [
        Some(visible.to_owned()),
        word.map(str::to_owned),
        Some(format!("{local}@{domain}")),
        Some(format!("{}@{domain}", local.replace(',', ".").replace("..", "."))),
    ]
    .into_iter()
    .flatten()
    .find(|text| is_valid(text) && text != damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_an_address_is_taken_off() {
        for given in [
            "ann@x.test",
            "Ann <ann@x.test>",
            "\"Doe, Ann\" <ann@x.test>;",
            "mailto:ann@x.test?subject=hi",
            "<MAILTO:ann@x.test>",
            "'ann@x.test'",
            "“ann@x.test”",
            "\"ann@x.test\",",
            "ann@x.test.",
            "ann@x.test;",
            "\u{feff}ann@x.test\u{200b}",
            "\u{a0}ann@x.test\u{a0} ",
            "(ann@x.test)",
        ] {
            let cell = CellAddress::of(given);
            assert_eq!((&*cell.text, cell.mailbox.is_some()), ("ann@x.test", true), "{given:?}");
            assert_eq!(question(given), "ann@x.test");
        }
        // These are addresses as they stand.
        for given in ["o'hara@x.test", "'x@x.test", "\"a b\"@x.test", "jörg@bücher.test", "用户@例子.test"]
        {
            assert_eq!((&*question(given), CellAddress::of(given).fault), (given, None));
        }
    }

    #[test]
    fn what_is_wrong_inside_is_never_asked() {
        for (given, meant) in [
            ("ann@x,test", Some("ann@x.test")),
            ("a\u{200b}nn@x.test", Some("ann@x.test")),
            ("ann@x\u{ad}y.test", Some("ann@xy.test")),
            ("ａｎｎ@x.test", Some("ann@x.test")),
            ("ann＠x.test", Some("ann@x.test")),
            ("ann@x。test", Some("ann@x.test")),
            ("ann @x.test", Some("ann@x.test")),
            ("ann@@x.test", Some("ann@x.test")),
            ("ann@x..test", Some("ann@x.test")),
            ("home ann@x.test", Some("ann@x.test")),
            ("Ann <a\u{200b}nn@x.test>", Some("ann@x.test")),
            ("n/a", None),
            ("", None),
            ("an\u{fffd}n@x.test", None),
        ] {
            let cell = CellAddress::of(given);
            assert!(cell.mailbox.is_none() && cell.fault.is_some(), "{given:?}");
            assert_eq!(cell.did_you_mean.as_deref(), meant, "{given:?}");
            assert!(Mailbox::parse(&question(given)).is_err(), "{given:?}");
        }
        // A joiner between letters of Persian is a part of the word.
        assert!(misleading("نامه\u{200c}ای@x.test").is_none());
    }

    #[test]
    fn several_addresses_are_split() {
        let check = |cell: &str, parts: &[&str]| assert_eq!(split(cell), parts, "{cell:?}");
        check("ann@x.test; bob@x.test", &["ann@x.test", "bob@x.test"]);
        check("ann@x.test,bob@x.test ", &["ann@x.test", "bob@x.test"]);
        check("ann@x.test bob@x.test", &["ann@x.test", "bob@x.test"]);
        check("ann@x.test/bob@x.test", &["ann@x.test", "bob@x.test"]);
        check("ann@x.test\nbob@x.test;", &["ann@x.test", "bob@x.test"]);
        check("Doe, Ann <a@x.test>; Roe, Bob <b@x.test>", &["Doe, Ann <a@x.test>", "Roe, Bob <b@x.test>"]);
        check(
            "\"Doe, Ann\" <a@x.test>, \"Roe; Bob\" <b@x.test>",
            &["\"Doe, Ann\" <a@x.test>", "\"Roe; Bob\" <b@x.test>"],
        );
        check("ann@x,test", &["ann@x,test"]);
        check("Doe, Ann <a@x.test>", &["Doe, Ann <a@x.test>"]);
        check("\"a, b\"@x.test", &["\"a, b\"@x.test"]);
        check("ann@x.test;", &["ann@x.test;"]);
    }

    #[test]
    fn damaged_addresses_look_like_addresses() {
        for cell in
            ["ann@x.test", "ann@x,test", "Ann <ann@x>", "ann＠x.test", "a@x.test; b@x.test", "ann @ x.test"]
        {
            assert!(CellAddress::looks_like(cell), "{cell}");
        }
        for cell in
            ["", "@ann", "https://medium.test/@ann", "ann", "n/a", "we meet @ noon, as we said on the phone"]
        {
            assert!(!CellAddress::looks_like(cell), "{cell}");
        }
    }
}
