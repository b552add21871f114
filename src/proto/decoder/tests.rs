use std::time::Duration;

use cpu_time::ThreadTime;
use proptest::prelude::*;

use super::*;
use crate::proto::properties::{self, decode_all};

fn replies(stream: &[u8]) -> Vec<Reply> {
    decode_all([stream]).0.into_iter().map(|reply| reply.unwrap()).collect()
}

#[test]
fn replies_of_real_servers_are_read() {
    // (octets, code, text, malformed)
    let cases: &[(&[u8], u16, &str, bool)] = &[
        // RFC 5321 4.2: one line, many lines
        (b"250 OK\r\n", 250, "OK", false),
        (
            b"250-First line\r\n250-Second line\r\n250-234 Text\r\n250 The last\r\n",
            250,
            "First line Second line 234 Text The last",
            false,
        ),
        // RFC 5321 4.2: a code without text, with its space and without
        (b"250 \r\n", 250, "", false),
        (b"250\r\n", 250, "", false),
        (b"250-\r\n250\r\n", 250, "", false),
        (b"250-\r\n250-a\r\n250-\r\n250 b\r\n", 250, "a b", false),
        // no space after the code
        (b"250OK\r\n", 250, "OK", false),
        (b"554:no\r\n", 554, ":no", false),
        // tabs, spaces at the end, CR CR LF
        (b"250\tOK\r\n", 250, "OK", false),
        (b"250  OK  \t \r\n", 250, "OK", false),
        (b"250 OK\r\r\n", 250, "OK", false),
        (b"250-a \r\r\n250 b\r\n", 250, "a b", false),
        // bare LF, and both mixed
        (b"250 OK\n", 250, "OK", false),
        (b"250-a\n250-b\r\n250 c\n", 250, "a b c", false),
        // blank lines before a reply and inside
        (b"\r\n\n250 OK\r\n", 250, "OK", false),
        (b"250-a\r\n\r\n250 b\r\n", 250, "a b", true),
        // 8-bit: Latin-1, and GBK as qq.com sends it
        (
            b"550 utilisateur inconnu \xe0 l'h\xf4te\r\n",
            550,
            "utilisateur inconnu \u{fffd} l'h\u{fffd}te",
            false,
        ),
        (b"550 \xd3\xc3\xbb\xa7\r\n", 550, "\u{fffd}\u{fb}\u{fffd}", false),
        ("550 нет такого\r\n".as_bytes(), 550, "нет такого", false),
        // different codes: the one of the first line is shown
        (b"550-no such user\r\n250 OK\r\n", 550, "no such user OK", true),
        (b"250-a\r\n450-b\r\n250 c\r\n", 250, "a b c", true),
        // a line without a code inside a reply
        (
            b"220-mx.example.com\r\n*** welcome ***\r\n220 ready\r\n",
            220,
            "mx.example.com *** welcome *** ready",
            true,
        ),
        // a CR inside a line is text
        (b"250 a\rb\r\n", 250, "a\rb", false),
        // codes that no RFC has
        (b"571 x\r\n", 571, "x", false),
        (b"599 x\r\n", 599, "x", false),
    ];
    for &(octets, code, text, malformed) in cases {
        let shown = octets.escape_ascii();
        let all = replies(octets);
        assert_eq!(all.len(), 1, "{shown}");
        let reply = &all[0];
        let text = text.replace("\u{fb}", &String::from_utf8_lossy(b"\xc3\xbb"));
        assert_eq!(
            (reply.code(), &*reply.text(), reply.is_malformed()),
            (code, &*text, malformed),
            "{shown}"
        );
        properties::reply_chunked(octets, &[1, 2, 3, 5, 8, 13]);
    }
}

#[test]
fn a_line_that_is_no_reply_is_dropped_alone() {
    for garbage in [
        &b"GARBAGE\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"25\r\n",
        b"25x no\r\n",
        b"2500 four digits\r\n",
        b"150 class 1\r\n",
        b"600 class 6\r\n",
        b" 250 OK\r\n",
        b"\xff\xfe\x00\r\n",
    ] {
        let stream = [b"250 before\r\n", garbage, b"251 after\r\n"].concat();
        let (seen, left) = decode_all([&stream[..]]);
        let [Ok(before), Err(DecodeError::NotAReply(line)), Ok(after)] = &seen[..] else {
            panic!("{}: {seen:?}", garbage.escape_ascii());
        };
        assert_eq!((before.code(), after.code(), left), (250, 251, Some(0)));
        assert!(line.is_ascii() || !garbage.is_ascii());
        properties::reply_chunked(&stream, &[3, 14, 15]);
    }
}

#[test]
fn an_error_shows_the_start_of_the_line_and_nothing_that_could_harm_a_terminal() {
    let (seen, _) = decode_all([&[b"\x1b[2J", &[b'x'; 500][..], b"\r\n"].concat()[..]]);
    let Err(DecodeError::NotAReply(line)) = &seen[0] else { panic!("{seen:?}") };
    assert!(line.len() < 100 && line.starts_with("\\u{1b}[2J"), "{line}");
}

#[test]
fn a_line_may_have_2048_octets_and_no_more() {
    let line = |octets: usize| [b"250 ", &vec![b'x'; octets - 6][..], b"\r\n"].concat();
    assert_eq!(replies(&line(MAX_LINE))[0].as_bytes().len(), MAX_LINE);
    assert_eq!(decode_all([&line(MAX_LINE + 1)[..]]).0, [Err(DecodeError::LineTooLong)]);
    // Without waiting for its end, which may never arrive.
    let endless = vec![b'2'; MAX_LINE];
    assert_eq!(decode_all([&endless[..MAX_LINE - 1]]), (vec![], Some(MAX_LINE - 1)));
    assert_eq!(decode_all([&endless[..]]).0, [Err(DecodeError::LineTooLong)]);
    properties::reply_chunked(&line(MAX_LINE), &[2047, 2046]);
    properties::reply_chunked(&line(MAX_LINE + 1), &[2047, 2048]);
}

#[test]
fn a_reply_may_have_64_kib_and_no_more() {
    let reply = |octets: usize| {
        let mut reply = Vec::new();
        let line = [b"250-", &[b'x'; 1018][..], b"\r\n"].concat();
        while reply.len() + 2048 < octets {
            reply.extend_from_slice(&line);
        }
        let rest = octets - reply.len();
        reply.extend([b"250 ", &vec![b'x'; rest - 6][..], b"\r\n"].concat());
        reply
    };
    assert_eq!(replies(&reply(MAX_REPLY))[0].as_bytes().len(), MAX_REPLY);
    assert_eq!(decode_all([&reply(MAX_REPLY + 1)[..]]).0, [Err(DecodeError::ReplyTooLong)]);
    // The limit is per reply: earlier replies do not count.
    let two = [reply(MAX_REPLY), reply(MAX_REPLY)].concat();
    assert_eq!(replies(&two).len(), 2);
    // Not even if they are still in the buffer, as lent replies are.
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(&two);
    for _ in 0..2 {
        assert_eq!(decoder.decode_ref().unwrap().unwrap().as_bytes().len(), MAX_REPLY);
    }
}

#[test]
fn a_reply_may_have_512_lines_and_no_more() {
    let reply = |lines: usize| [b"250-\r\n".repeat(lines - 1), b"250 \r\n".to_vec()].concat();
    assert_eq!(replies(&reply(MAX_LINES))[0].lines().count(), MAX_LINES);
    assert_eq!(decode_all([&reply(MAX_LINES + 1)[..]]).0, [Err(DecodeError::TooManyLines)]);
    assert_eq!(replies(&[reply(MAX_LINES), reply(MAX_LINES)].concat()).len(), 2);
    // Lines without a code and blank lines count as well, so that nothing goes on without end.
    let chatter = [&b"250-a\r\n"[..], &b"b\r\n".repeat(MAX_LINES)].concat();
    assert_eq!(decode_all([&chatter[..]]).0, [Err(DecodeError::TooManyLines)]);
    assert_eq!(decode_all([&b"\r\n".repeat(MAX_LINES + 1)[..]]).0, [Err(DecodeError::TooManyLines)]);
}

#[test]
fn octets_after_a_reply_count_as_buffered() {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(b"220 go ahead\r\n250 injected\r\n");
    assert_eq!(decoder.decode().unwrap().unwrap().code(), 220);
    assert_eq!(decoder.buffered(), b"250 injected\r\n".len());
    // A blank line after a reply counts: a connection with it is not idle.
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(b"250 OK\r\n\r\n");
    assert!(decoder.decode().unwrap().is_some());
    assert_eq!(decoder.buffered(), 2);
}

/// Returns the CPU time of decoding `stream` octet by octet: the best of several, since other processes use the
/// machine too.
fn octet_by_octet(stream: &[u8]) -> Duration {
    let once = || {
        let started = ThreadTime::now();
        assert_eq!(decode_all(stream.chunks(1)).0.len(), 1);
        started.elapsed()
    };
    (0..5).map(|_| once()).min().unwrap()
}

#[test]
fn a_reply_that_drips_in_costs_linear_time() {
    // The lines have the maximum length, so that scanning a line again for each octet would show.
    let stream = |lines: usize| {
        let line = |sep: &[u8]| [b"250", sep, &[b'x'; 2000], b"\r\n"].concat();
        [line(b"-").repeat(lines - 1), line(b" ")].concat()
    };
    let (small, large) = (octet_by_octet(&stream(3)), octet_by_octet(&stream(30)));
    // Ten times the octets: about 10 in linear time, 100 in quadratic.
    assert!(large < small * 40, "{small:?} for 6 KiB, {large:?} for 60 KiB");
}

#[test]
fn an_empty_decoder_gives_its_memory_back_and_no_other_does() {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(b"250 OK\r\n250");
    decoder.buffer().reserve(8192);
    assert!(decoder.decode().unwrap().is_some());
    decoder.shrink();
    assert_eq!(&decoder.buffer()[..], b"250");
    decoder.buffer().extend_from_slice(b" OK\r\n");
    assert!(decoder.decode().unwrap().is_some());
    decoder.shrink();
    assert_eq!(decoder.buffer().capacity(), 0);
}

#[test]
fn pipelined_replies_share_the_one_buffer_they_came_in() {
    let flight = b"250 2.1.5 Ok\r\n".repeat(100);
    let mut decoder = Decoder::new();
    let mut starts = Vec::new();
    for _ in 0..50 {
        decoder.buffer().reserve(8 * 1024);
        decoder.buffer().extend_from_slice(&flight);
        let start = decoder.buffer().as_ptr();
        for n in 0..100 {
            let reply = decoder.decode().unwrap().unwrap();
            assert_eq!(reply.as_bytes().as_ptr(), start.wrapping_add(14 * n), "reply {n} was copied");
        }
        starts.push(start);
    }
    // Once the replies are dropped, their memory is reused.
    starts.sort_unstable();
    starts.dedup();
    assert!(starts.len() <= 8, "{} buffers for 50 flights", starts.len());
}

/// Generates octets near the grammar: whole replies, broken ones, and others.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![6 => "[2-5][0-5][0-9]", 1 => "[0-9]{1,4}", 1 => "[a-z]{0,3}"];
    let sep = prop::sample::select(vec![" ", " ", "-", "-", "", "\t", "  "]);
    let text = prop_oneof![
        4 => "([245]\\.[0-9]{1,3}\\.[0-9]{1,4}[ :]?)?[ -~]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (2030usize..2060).prop_map(|n| vec![b'x'; n]),
    ];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r\r\n", " \r\n", "\r", ""]);
    let line = (code, sep, text, end)
        .prop_map(|(code, sep, text, end)| [code.as_bytes(), sep.as_bytes(), &text, end.as_bytes()].concat());
    let many = (1usize..600).prop_map(|n| b"250-\r\n".repeat(n));
    let part = prop_oneof![30 => line, 1 => many, 2 => Just(b"\r\n".to_vec())];
    prop_oneof![
        4 => prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #[test]
    fn any_chunking_gives_the_replies_of_one_shot(
        stream in stream(),
        places in prop::collection::vec(any::<u16>(), 0..8),
    ) {
        properties::reply_chunked(&stream, &places);
    }
}
