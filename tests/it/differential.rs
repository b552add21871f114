//! Compares the decoder with a second reader that was written independently.

use proptest::prelude::*;
use smtp_pool::proto::{DecodeError, Decoder, Reply};

use crate::{naive, peer_address};

fn decode_all(stream: &[u8]) -> Vec<Result<Reply, DecodeError>> {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(stream);
    let mut seen = Vec::new();
    loop {
        match decoder.decode().transpose() {
            None => return seen,
            Some(item) => {
                let last = matches!(&item, Err(error) if !matches!(error, DecodeError::NotAReply(_)));
                seen.push(item);
                if last {
                    return seen;
                }
            }
        }
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![8 => "[2-5][0-5][0-9]", 1 => "[0-9]{0,4}", 1 => "[a-z ]{0,3}"];
    let sep = prop::sample::select(vec![" ", "-", "-", "", "\t"]);
    let text = prop_oneof![
        6 => "[ -~]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (2035usize..2055).prop_map(|n| vec![b'x'; n]),
    ];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\n", "\r\r\n", "\r\n\r\n", ""]);
    let line = (code, sep, text, end)
        .prop_map(|(code, sep, text, end)| [code.as_bytes(), sep.as_bytes(), &text, end.as_bytes()].concat());
    let many = prop_oneof![
        (505usize..515).prop_map(|n| b"250-\r\n".repeat(n)),
        (505usize..515).prop_map(|n| b"\r\n".repeat(n)),
        (31usize..34).prop_map(|n| [b"250-", &[b'x'; 2000][..], b"\r\n"].concat().repeat(n)),
    ];
    prop::collection::vec(prop_oneof![20 => line, 1 => many], 0..12).prop_map(|parts| parts.concat())
}

fn address() -> impl Strategy<Value = String> {
    let local = prop_oneof![4 => "[a-z!#$%&'*+/=?^_`{|}~.é-]{1,9}", 2 => "\"([ -~\té]|\\\\[ -~]){0,6}\"", 1 => "\\PC{0,9}", 1 => "a{63,66}"];
    let host = prop_oneof![
        6 => "[a-zA-Z0-9_.-]{1,12}",
        2 => "([a-z]{1,63}\\.){1,5}[a-z]{1,3}",
        1 => "(xn--)?[a-zü.]{1,9}",
        1 => "\\[[ -~]{0,20}\\]",
        1 => "a{62,65}",
    ];
    let frame = prop::sample::select(vec![
        ("", ""),
        ("", ""),
        ("", ""),
        (" ", ""),
        ("", " "),
        (" <", ">"),
        ("a <", ">"),
    ]);
    (frame, local, host).prop_map(|((open, close), local, host)| format!("{open}{local}@{host}{close}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_readers_see_the_same_replies(stream in stream()) {
        naive::agree(&stream, &decode_all(&stream));
    }

    #[test]
    fn both_parsers_take_the_same_addresses(text in address()) {
        peer_address::agree(&text);
    }
}
