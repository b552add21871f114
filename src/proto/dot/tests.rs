use super::*;
use crate::proto::properties;
use proptest::prelude::*;

fn stuff<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut stuffer = DotStuffer::new();
    for chunk in chunks {
        stuffer.push(chunk, &mut out);
    }
    stuffer.finish(&mut out);
    out.to_vec()
}

/// Cuts `octets` at the given places.
fn cut<'a>(octets: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(octets.len() + 1)).collect();
    places.extend([0, octets.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &octets[ends[0]..ends[1]]).collect()
}

#[test]
fn stuffs_as_rfc_5321_4_5_2_requires() {
    for (message, wire) in [
        (&b""[..], &b".\r\n"[..]),
        (b"\0", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a\r\n\r\n", b"a\r\n\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"..", b"...\r\n.\r\n"),
        (b"a.b\r\n.c.\r\n", b"a.b\r\n..c.\r\n.\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n.\r\n"),
        // The line ends of CVE-2023-51764, -51765 and -51766, and others that a reader may accept.
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n\r.\n\rb", b"a\r\n\r\n..\r\n\r\nb\r\n.\r\n"),
        (b"a\r\r\n.", b"a\r\n\r\n..\r\n.\r\n"),
        (b"a\r\n\0.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\0\n.\0\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
    ] {
        assert_eq!(stuff([message]).escape_ascii().to_string(), wire.escape_ascii().to_string());
        assert_eq!(stuff(message.chunks(1)), wire, "{} octet by octet", message.escape_ascii());
    }
}

#[test]
fn the_terminator_and_the_crlf_before_it_are_one_piece() {
    for message in [&b"a"[..], b"a\r\n", b"a\n", b"a\r"] {
        let (mut sent, mut last) = (BytesMut::new(), BytesMut::new());
        let mut stuffer = DotStuffer::new();
        stuffer.push(message, &mut sent);
        stuffer.finish(&mut last);
        assert_eq!((&sent[..], &last[..]), (&b"a"[..], &b"\r\n.\r\n"[..]));
    }
}

#[test]
fn unstuffs_strictly() {
    for (wire, message, consumed) in [
        (&b".\r\n"[..], &b""[..], Some(3)),
        (b".\r\n.\r\n", b"", Some(3)),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", Some(6)),
        (b"..\r\n.\r\n", b".\r\n", Some(7)),
        (b".a\r\n.\r\n", b"a\r\n", Some(7)),
        // Nothing else is the end: a dot line that a bare LF or CR begins or ends.
        (b".\n.\r\n", b"\n.\r\n", None),
        (b".\r.\r\n", b"\r.\r\n", None),
        (b"a\n.\r\n", b"a\n.\r\n", None),
        (b"a\r.\r\n", b"a\r.\r\n", None),
        (b".\r\r\n", b"\r\r\n", None),
        (b".\r\r\n.\r\n", b"\r\r\n", Some(7)),
        (b"a\r\r\n.\r\n", b"a\r\r\n", Some(7)),
        (b"a\r\n.\0\r\n", b"a\r\n\0\r\n", None),
        (b"a\r\n.\r", b"a\r\n", None),
    ] {
        let mut out = BytesMut::new();
        assert_eq!(DotUnstuffer::new().push(wire, &mut out), consumed, "{}", wire.escape_ascii());
        assert_eq!(out.escape_ascii().to_string(), message.escape_ascii().to_string());
    }
}

#[test]
fn an_unstuffer_reads_one_message_after_another() {
    let (mut out, mut unstuffer) = (BytesMut::new(), DotUnstuffer::new());
    assert_eq!(unstuffer.push(b"a\r\n.\r\n.b", &mut out), Some(6));
    assert_eq!(unstuffer.push(b".b\r\n.\r\n", &mut out), Some(7));
    assert_eq!(out, "a\r\nb\r\n");
}

/// Generates messages of line ends, dots, NUL and a little text.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop::sample::select(&b"\r\r\n\n..a\0\x85"[..]);
    prop_oneof![4 => prop::collection::vec(octet, 0..40), 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..6)
}

proptest! {
    #[test]
    fn a_message_round_trips_and_never_ends_early(
        message in message(),
        cuts in prop::collection::vec(any::<u16>(), 0..6),
    ) {
        properties::dot_roundtrip(&message, &cuts);
    }

    /// Any chunks of any octets, hostile ones too, are read the same as one chunk.
    #[test]
    fn an_unstuffer_does_not_see_the_cuts(wire in message(), cuts in cuts()) {
        let mut whole = BytesMut::new();
        let end = DotUnstuffer::new().push(&wire, &mut whole);
        let (mut out, mut unstuffer, mut read) = (BytesMut::new(), DotUnstuffer::new(), 0);
        let mut cut_end = None;
        for chunk in cut(&wire, &cuts) {
            cut_end = unstuffer.push(chunk, &mut out).map(|end| read + end);
            read += chunk.len();
            if cut_end.is_some() {
                break;
            }
        }
        prop_assert_eq!((cut_end, out), (end, whole));
    }
}
