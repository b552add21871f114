//! A second reader of replies, written only from RFC 5321 4.2 and the documentation of the first. It reads the whole
//! stream at once into vectors, and ignores cost.
//!
//! The test `differential` and the fuzz target `reply_differential` share it.

use smtp_pool::proto::{DecodeError, Reply};

#[derive(Debug, PartialEq)]
enum Item {
    Reply { code: u16, malformed: bool, mixed: bool, lines: Vec<Vec<u8>> },
    NotAReply,
    LineTooLong,
    ReplyTooLong,
    TooManyLines,
}

/// Panics if the library read `stream` in another way than the naive reader.
pub(crate) fn agree(stream: &[u8], seen: &[Result<Reply, DecodeError>]) {
    let seen: Vec<Item> = seen.iter().map(item).collect();
    assert_eq!(seen, read(stream));
}

fn item(seen: &Result<Reply, DecodeError>) -> Item {
    match seen {
        Ok(reply) => Item::Reply {
            code: reply.code(),
            malformed: reply.is_malformed(),
            mixed: reply.has_mixed_codes(),
            lines: reply.lines().filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect(),
        },
        Err(DecodeError::NotAReply(_)) => Item::NotAReply,
        Err(DecodeError::LineTooLong) => Item::LineTooLong,
        Err(DecodeError::ReplyTooLong) => Item::ReplyTooLong,
        Err(DecodeError::TooManyLines) => Item::TooManyLines,
        Err(error) => panic!("a decoder does not say {error:?}"),
    }
}

fn read(stream: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    // The reply that is being read: its code, whether it is malformed, whether its codes differ, its lines, octets and
    // number of lines.
    let (mut code, mut malformed, mut mixed, mut lines) = (None, false, false, Vec::new());
    let (mut octets, mut count) = (0, 0);
    let mut rest = stream;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let (whole, tail) = rest.split_at(end + 1);
        rest = tail;
        octets += whole.len();
        count += 1;
        if whole.len() > 2048 {
            items.push(Item::LineTooLong);
            return items;
        } else if octets > 65536 {
            items.push(Item::ReplyTooLong);
            return items;
        } else if count > 512 {
            items.push(Item::TooManyLines);
            return items;
        }
        let line = whole.trim_ascii_end();
        match (code, code_of(line)) {
            (None, None) if line.is_empty() => {
                // A blank line before a reply does not belong to it.
                octets = 0;
                continue;
            }
            (None, None) => {
                items.push(Item::NotAReply);
                (octets, count) = (0, 0);
                continue;
            }
            (Some(_), None) => {
                malformed = true;
                lines.push(line.to_vec());
                continue;
            }
            (first, Some(this)) => {
                mixed |= first.is_some_and(|first| first != this);
                malformed |= mixed;
                code = first.or(Some(this));
            }
        }
        let text = &line[3..];
        let separated = text.first().is_some_and(|b| b" -\t".contains(b));
        lines.push(text[usize::from(separated)..].to_vec());
        if !text.starts_with(b"-") {
            lines.retain(|line| !line.is_empty());
            let code = code.take().unwrap_or_default();
            items.push(Item::Reply { code, malformed, mixed, lines: std::mem::take(&mut lines) });
            (malformed, mixed, octets, count) = (false, false, 0, 0);
        }
    }
    if rest.len() >= 2048 {
        items.push(Item::LineTooLong);
    }
    items
}

fn code_of(line: &[u8]) -> Option<u16> {
    let digits = line.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits != 3 {
        return None;
    }
    let code = String::from_utf8_lossy(&line[..3]).parse().ok()?;
    (200..=599).contains(&code).then_some(code)
}
