//! Local-part: Dot-string / Quoted-string (RFC 5321 4.1.2, RFC 6531 3.3).

use super::error::{AddressError, AddressErrorKind as Kind};

/// The most octets of a local part (RFC 5321 4.5.3.1.1).
const MAX: usize = 64;

/// Octets of atext. Those of UTF-8 are atext, except 0xC2, which may begin a C1 control.
const ATEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = match octet as u8 {
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^'..=b'~' => true,
            0xC2 => false,
            octet => octet.is_ascii_alphanumeric() || !octet.is_ascii(),
        };
        octet += 1;
    }
    table
};

/// Returns the length of the local part at the start of `input`, up to the `@`.
pub(super) fn scan(input: &str) -> Result<usize, AddressError> {
    let octets = input.as_bytes();
    let end = if octets.first() == Some(&b'"') { quoted_string(octets) } else { dot_string(octets) }?;
    if end > MAX {
        return Err(AddressError::new(Kind::LocalPartTooLong, input.floor_char_boundary(MAX)));
    }
    // White space in ASCII is not atext. White space of Unicode is atext, but comes from careless copying.
    if !octets[0].is_ascii() && input.starts_with(char::is_whitespace) {
        return Err(AddressError::new(Kind::SurroundingWhitespace, 0));
    }
    Ok(end)
}

fn dot_string(octets: &[u8]) -> Result<usize, AddressError> {
    let (mut atom, mut end) = (0, 0);
    loop {
        let fault = match octets.get(end) {
            Some(&octet) if ATEXT[octet as usize] => {
                end += 1;
                continue;
            }
            Some(b'.') if end > atom => {
                end += 1;
                atom = end;
                continue;
            }
            Some(b'@') if end > atom => return Ok(end),
            Some(0xC2) if !is_c1(octets, end) => {
                end += 1;
                continue;
            }
            Some(b'@') if end == 0 => Kind::EmptyLocalPart,
            // The dot is at fault, not the `@` after it.
            Some(b'@') => return Err(AddressError::new(Kind::EmptyAtom, end - 1)),
            Some(b'.') => Kind::EmptyAtom,
            Some(_) => return Err(AddressError::at_char(octets, end, Kind::LocalPartChar)),
            None if end == 0 => Kind::Empty,
            None => Kind::MissingAt,
        };
        return Err(AddressError::new(fault, end));
    }
}

fn quoted_string(octets: &[u8]) -> Result<usize, AddressError> {
    let mut end = 1;
    loop {
        match octets[end..] {
            [b'"', b'@', ..] => return Ok(end + 1),
            [b'"'] => return Err(AddressError::new(Kind::MissingAt, end + 1)),
            [b'"', ..] => return Err(AddressError::at_char(octets, end + 1, Kind::TextAfterQuote)),
            [b'\\', b' '..=b'~', ..] => end += 2,
            [b'\\', _, ..] => return Err(AddressError::at_char(octets, end + 1, Kind::QuotedPair)),
            [] | [b'\\'] => return Err(AddressError::new(Kind::UnterminatedQuote, 0)),
            [0..0x20 | 0x7F, ..] => return Err(AddressError::new(Kind::Control, end)),
            [0xC2, ..] if is_c1(octets, end) => return Err(AddressError::new(Kind::Control, end)),
            _ => end += 1,
        }
    }
}

/// Returns true if U+0080 to U+009F is at `at`.
fn is_c1(octets: &[u8], at: usize) -> bool {
    matches!(octets[at..], [0xC2, 0x80..0xA0, ..])
}
