//! Properties that hold for every input. `cargo test` checks them with inputs of proptest, and `fuzz/` with inputs of
//! libFuzzer. Each function panics if its property does not hold.

use std::{collections::VecDeque, mem, net::IpAddr};

use bytes::BytesMut;

use super::{
    Argument, Body, ClientName, Command, CommandError, DecodeError, Decoder, Dialogue, Domain, DotStuffer,
    DotUnstuffer, EnhancedCode, EnvelopeId, Extensions, Host, MAX_LINES, MAX_REPLY, MailParams, Mailbox,
    Mechanism, Notify, OriginalRecipient, RcptParams, Reply, Ret, ReversePath, SaslResponse, State, Verb,
};

/// Cuts `octets` at the given places, each taken modulo the length.
fn cut<'a>(octets: &'a [u8], places: &[u16]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> =
        places.iter().map(|&place| usize::from(place) % (octets.len() + 1)).collect();
    places.extend([0, octets.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &octets[ends[0]..ends[1]]).collect()
}

/// Returns all replies and errors of a stream in chunks. The last item is an exceeded limit or the number of octets
/// left over.
pub fn decode_all<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Result<Reply, DecodeError>>, Option<usize>) {
    decode_by(chunks, Decoder::decode)
}

fn decode_by<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    mut decode: impl FnMut(&mut Decoder) -> Result<Option<Reply>, DecodeError>,
) -> (Vec<Result<Reply, DecodeError>>, Option<usize>) {
    let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
    for chunk in chunks {
        decoder.buffer().extend_from_slice(chunk);
        // Frees memory at any time, without losing data.
        decoder.shrink();
        loop {
            match decode(&mut decoder) {
                Ok(Some(reply)) => seen.push(Ok(reply)),
                Ok(None) => break,
                Err(refused @ DecodeError::NotAReply(_)) => seen.push(Err(refused)),
                Err(limit) => {
                    assert_eq!(decode(&mut decoder), Err(limit.clone()), "a limit is final");
                    seen.push(Err(limit));
                    return (seen, None);
                }
            }
        }
    }
    (seen, Some(decoder.buffered()))
}

/// Returns a decoder function that takes identical replies together.
fn alike() -> impl FnMut(&mut Decoder) -> Result<Option<Reply>, DecodeError> {
    let mut more = Vec::new();
    move |decoder| {
        if let Some(reply) = more.pop() {
            return Ok(Some(reply));
        }
        let Some(head) = decoder.frame()? else { return Ok(None) };
        let count = (1..).find(|&count| !decoder.repeats(count)).unwrap_or_default();
        let reply = decoder.lend_first(head, count).detach();
        more = vec![reply; count];
        Ok(more.pop())
    }
}

/// Checks that any chunking of a stream gives the same sound replies: owned, lent, or identical ones together.
pub fn reply_chunked(stream: &[u8], places: &[u16]) {
    let whole = decode_all([stream]);
    assert_eq!(decode_by(cut(stream, places), alike()), whole, "alike, cut at {places:?}");
    let lent = |decoder: &mut Decoder| Ok(decoder.decode_ref()?.map(|reply| reply.detach()));
    assert_eq!(decode_by(cut(stream, places), lent), whole, "lent, cut at {places:?}");
    assert_eq!(decode_all(cut(stream, places)), whole, "cut at {places:?}");
    // Fuzzing gains more from quick inputs, and 512 octets hold several replies.
    if stream.len() <= if cfg!(fuzzing) { 512 } else { 4096 } {
        assert_eq!(decode_all(stream.chunks(1)), whole, "octet by octet");
    }
    let replies: Vec<&Reply> = whole.0.iter().flatten().collect();
    assert!(replies.iter().map(|reply| reply.as_bytes().len()).sum::<usize>() <= stream.len());
    for reply in replies {
        reply_is_sound(reply);
    }
}

fn reply_is_sound(reply: &Reply) {
    assert!((200..600).contains(&reply.code()));
    let kinds = [reply.is_positive(), reply.is_intermediate(), reply.is_transient(), reply.is_permanent()];
    assert_eq!(kinds.iter().filter(|&&kind| kind).count(), usize::from(!reply.has_mixed_codes()));
    assert!(reply.as_bytes().ends_with(b"\n") && reply.as_bytes().len() <= MAX_REPLY);
    assert!((1..=MAX_LINES).contains(&reply.lines().count()));
    assert!(!reply.text().contains('\n'));
    assert!(reply.to_string().starts_with(&reply.code().to_string()));
    assert_eq!(Reply::parse(reply.as_bytes()).as_ref(), Ok(reply), "a reply is a whole");
    assert_eq!(reply.detach(), *reply);
    assert_eq!(reply.is_closing(), reply.code() == 421 && !reply.has_mixed_codes());
    assert!(reply.is_malformed() || !reply.has_mixed_codes());
    let shown = format!("{reply:?}");
    assert!(shown.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{shown}");
    assert_eq!(shown.ends_with(", malformed)"), reply.is_malformed());
}

/// Checks that any reply to EHLO gives well-formed extensions, and that case does not matter.
pub fn ehlo(reply: &[u8]) {
    let Ok(reply) = Reply::parse(reply) else { return };
    let offered = Extensions::parse(&reply);
    for (index, mechanism) in offered.auth.iter().enumerate() {
        assert_eq!(Mechanism::new(mechanism).map(|name| name.as_str() == &**mechanism), Ok(true));
        assert!(!offered.auth[..index].contains(mechanism), "{mechanism} twice");
        assert!(offered.offers_auth(&mechanism.to_ascii_lowercase()));
    }
    let limits = [offered.limits.mail_max, offered.limits.rcpt_max, offered.limits.rcpt_domain_max];
    assert!(!limits.contains(&Some(0)), "a limit of nothing would stop all");
    assert_ne!(offered.max_message_size(), Some(0));
    for (keyword, _) in &offered.others {
        assert!(!keyword.is_empty() && !keyword.contains(|c: char| c.is_whitespace() || c.is_lowercase()));
    }
    let Ok(upper) = Reply::parse(&reply.as_bytes().to_ascii_uppercase()) else {
        panic!("case decides over {reply:?}")
    };
    let upper = Extensions { others: offered.others.clone(), ..Extensions::parse(&upper) };
    assert_eq!(upper, offered);
}

/// Checks that an enhanced code is found only where RFC 2034 4 allows it, and that it round-trips.
pub fn enhanced_code(text: &str) {
    let read = text.parse::<EnhancedCode>();
    assert_eq!(read.ok(), naive_enhanced_code(text));
    if let Ok(code) = read {
        assert_eq!(code.to_string().parse(), Ok(code));
    }
    if text.contains(['\r', '\n']) || text.len() > 1000 {
        return;
    }
    let reply = Reply::parse(format!("550 {text}").as_bytes()).expect("550 and a text is a reply");
    let word = text.trim_ascii().split([' ', '\t']).next().unwrap_or_default();
    let at_start = naive_enhanced_code(word.strip_prefix('#').unwrap_or(word));
    assert_eq!(reply.enhanced(), at_start, "{text:?}");
}

fn naive_enhanced_code(word: &str) -> Option<EnhancedCode> {
    let numbers: Vec<&str> = word.split('.').collect();
    let number = |text: &str| {
        let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let [class @ ("2" | "4" | "5"), subject, detail] = numbers[..] else { return None };
    Some(EnhancedCode { class: class.parse().ok()?, subject: number(subject)?, detail: number(detail)? })
}

/// Checks that a text is an address within all limits and round-trips, or that the error position is in the text.
pub fn address_roundtrip(text: &str) {
    match Mailbox::parse(text) {
        Ok(mailbox) => mailbox_is_sound(&mailbox),
        Err(error) => assert!(text.is_char_boundary(error.at()), "{text} {error:?}"),
    }
    #[cfg(feature = "verify")]
    for (at, _) in text.match_indices('@') {
        beside_a_known_domain(text, at);
    }
    let (domain, name) = (Domain::parse(text), ClientName::parse(text));
    for error in [domain.as_ref().err(), name.as_ref().err()].into_iter().flatten() {
        assert!(text.is_char_boundary(error.at()), "{text} {error:?}");
    }
    if let Ok(domain) = domain {
        assert_eq!(name.as_ref(), Ok(&ClientName::from(domain)));
    }
    if let Ok(name) = name {
        assert_eq!(name.as_str().parse().as_ref(), Ok(&name));
        match name.host() {
            Host::Ipv4(ip) => assert_eq!(ClientName::from(IpAddr::from(ip)), name),
            Host::Ipv6(ip) => assert_eq!(ClientName::from(IpAddr::from(ip)), name),
            Host::Domain(domain) => assert_eq!(domain, name.as_str()),
            Host::General { .. } => assert!(name.as_str().starts_with('[')),
        }
    }
}

/// Checks that both ways of parsing agree if the domain is in its wire form.
#[cfg(feature = "verify")]
fn beside_a_known_domain(text: &str, at: usize) {
    let host = &text[at + 1..];
    if Mailbox::parse(&format!("a@{host}")).is_ok_and(|known| known.domain() == host) {
        assert_eq!(Mailbox::parse_at(text, at), Mailbox::parse_lent(text).ok(), "{text}");
    }
}

/// Checks every property of a mailbox.
pub fn mailbox_is_sound(mailbox: &Mailbox) {
    #[cfg(feature = "verify")]
    beside_a_known_domain(mailbox.as_str(), mailbox.local_part().len());
    let again = Mailbox::parse(mailbox.as_str());
    assert_eq!(again.as_ref(), Ok(mailbox));
    assert_eq!(again.as_ref().map(Mailbox::as_str), Ok(mailbox.as_str()));
    assert_eq!(format!("{}@{}", mailbox.local_part(), mailbox.domain()), mailbox.to_string());
    assert_eq!(mailbox.needs_smtputf8(), !mailbox.as_str().is_ascii());
    let path = ReversePath::from(mailbox.clone());
    assert_eq!((path.to_string(), path.needs_smtputf8()), (mailbox.to_string(), mailbox.needs_smtputf8()));
    assert_eq!(path.to_string().parse(), Ok(path));
    assert!(!mailbox.as_str().contains(char::is_control));
    assert_eq!(mailbox.as_str().trim(), mailbox.as_str());
    assert!(mailbox.as_str().len() <= 254 && (1..=64).contains(&mailbox.local_part().len()));
    assert!(mailbox.domain().bytes().all(|octet| octet.is_ascii_graphic()));
    match mailbox.host() {
        Host::Domain(domain) => {
            assert_eq!(Domain::parse(domain).as_ref().map(Domain::as_str), Ok(domain));
            assert!(domain.len() <= 253 && domain.split('.').all(|label| (1..=63).contains(&label.len())));
            assert!(
                domain.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c))
            );
        }
        Host::Ipv4(ip) => assert_eq!(mailbox.domain(), format!("[{ip}]")),
        Host::Ipv6(ip) => assert_eq!(mailbox.domain(), format!("[IPv6:{ip}]")),
        Host::General { tag, content } => assert_eq!(mailbox.domain(), format!("[{tag}:{content}]")),
    }
}

/// Makes a command from plain parts. Returns None if its types refuse them.
pub fn command(kind: u8, texts: [&str; 3], number: u64, flags: u8) -> Option<Command> {
    let flag = |bit: u8| flags & (1 << bit) != 0;
    let name = || ClientName::parse(texts[0]).ok();
    Some(match kind % 13 {
        0 => Command::Ehlo(name()?),
        1 => Command::Helo(name()?),
        2 => Command::Lhlo(name()?),
        3 => Command::StartTls,
        4 => {
            let initial = if flag(0) { Some(SaslResponse::new(texts[1].as_bytes()).ok()?) } else { None };
            Command::Auth { mechanism: Mechanism::new(texts[0]).ok()?, initial }
        }
        5 => {
            let params = MailParams {
                size: flag(0).then_some(number),
                body: [None, Some(Body::SevenBit), Some(Body::EightBitMime), Some(Body::BinaryMime)]
                    [usize::from(flags >> 1) % 4],
                smtputf8: flag(3),
                ret: [None, Some(Ret::Full), Some(Ret::Headers)][usize::from(flags >> 4) % 3],
                envid: EnvelopeId::new(texts[1]).ok(),
                require_tls: flag(6),
            };
            Command::Mail { from: texts[0].parse().ok()?, params }
        }
        6 => {
            let notify = match flags % 16 {
                0 => None,
                n if n & 7 == 0 => Some(Notify::Never),
                n => Some(Notify::On { success: n & 1 != 0, failure: n & 2 != 0, delay: n & 4 != 0 }),
            };
            let params = RcptParams { notify, orcpt: OriginalRecipient::new(texts[1], texts[2]).ok() };
            Command::Rcpt { to: Mailbox::parse(texts[0]).ok()?, params }
        }
        7 => Command::Data,
        8 => Command::Bdat { size: number, last: flag(0) },
        9 => Command::Rset,
        10 => Command::Noop,
        11 => Command::Vrfy(Argument::new(texts[0]).ok()?),
        _ => Command::Quit,
    })
}

/// Returns the longest line of a command, CR LF included.
///
/// It is 512 octets (RFC 5321 4.5.3.1.4) plus the extra of a parameter. ORCPT adds 500 octets and its name (RFC 3461
/// 4.2). AUTH may have 12,288 in all (RFC 4954 4). The parameters of MAIL fit in the 512.
fn max_line(command: &Command) -> usize {
    match command {
        Command::Auth { .. } => SaslResponse::MAX_LINE,
        Command::Rcpt { params: RcptParams { orcpt: Some(_), .. }, .. } => 512 + 500,
        _ => 512,
    }
}

/// Checks that a command is one line within its limit, and that a server parses it back.
pub fn command_encode(command: &Command) {
    let mut wire = BytesMut::from("RSET\r\n");
    command.encode(&mut wire);
    let wire = &wire["RSET\r\n".len()..];
    let line = wire.strip_suffix(b"\r\n").expect("CR LF at the end");
    assert!(!line.iter().any(|octet| b"\r\n\0".contains(octet)), "{}", wire.escape_ascii());
    assert!(wire.len() <= max_line(command), "{} octets", wire.len());
    assert_eq!(Command::parse(wire).as_ref(), Ok(command), "{}", wire.escape_ascii());
    assert_eq!(Command::parse(line).as_ref(), Ok(command), "{}", wire.escape_ascii());
    let shown = format!("{command:?}");
    assert!(shown.starts_with(&command.verb().to_string()), "{shown}");
    assert!(matches!(command, Command::Auth { .. }) || shown.as_bytes() == line, "{shown}");
    if let Command::Auth { mechanism, initial: Some(initial) } = command
        && initial.decode().len() > 8
    {
        let secret = line.rsplit(|&b| b == b' ').next().unwrap_or_default().escape_ascii().to_string();
        // The name of the mechanism is shown, and may equal the secret.
        let shown = shown.replace(mechanism.as_str(), "");
        assert!(!shown.contains(&secret), "{shown}");
    }
}

/// Checks that any line is refused with a valid code, or gives a sound command.
pub fn command_decode(line: &[u8]) {
    match Command::parse(line) {
        Ok(command) => command_encode(&command),
        Err(error @ CommandError::Address(_)) => assert_eq!(error.code(), 553),
        Err(error) => assert!([500, 501, 555].contains(&error.code())),
    }
}

/// Splits octets into lines at CR, LF and CRLF, as a lenient reader does. Deliberately naive.
fn lax_lines(octets: &[u8]) -> Vec<Vec<u8>> {
    let text: String = octets.iter().copied().map(char::from).collect();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(|line| line.chars().map(|c| c as u8).collect()).collect()
}

/// Returns a message as it arrives: without NUL, and with CRLF after every line.
fn normalised(message: &[u8]) -> Vec<u8> {
    let message: Vec<u8> = message.iter().copied().filter(|octet| *octet != 0).collect();
    let mut lines = lax_lines(&message);
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}

/// Checks that a message arrives complete at a strict reader and does not end early at a lenient one, in any chunks.
pub fn dot_roundtrip(message: &[u8], places: &[u16]) {
    let stuffed = |chunks: Vec<&[u8]>| {
        let (mut stuffer, mut wire) = (DotStuffer::new(), BytesMut::new());
        chunks.into_iter().for_each(|chunk| stuffer.push(chunk, &mut wire));
        stuffer.finish(&mut wire);
        wire
    };
    let wire = stuffed(vec![message]);
    assert_eq!(stuffed(cut(message, places)), wire, "cut at {places:?}");

    let pipelined = [&wire[..], b"RSET\r\n"].concat();
    let (mut unstuffer, mut received, mut read) = (DotUnstuffer::new(), BytesMut::new(), 0);
    for chunk in cut(&pipelined, places) {
        match unstuffer.push(chunk, &mut received) {
            None => read += chunk.len(),
            Some(end) => {
                read += end;
                break;
            }
        }
    }
    assert_eq!(read, wire.len(), "the strict reader ends at the end of {}", wire.escape_ascii());
    assert_eq!(received, normalised(message));

    // A text that was not stuffed is also read the same in any chunks.
    let unstuffed = |chunks: Vec<&[u8]>| {
        let (mut unstuffer, mut received) = (DotUnstuffer::new(), BytesMut::new());
        let ended = chunks.into_iter().any(|chunk| unstuffer.push(chunk, &mut received).is_some());
        (ended, received)
    };
    assert_eq!(unstuffed(cut(message, places)), unstuffed(vec![message]), "cut at {places:?}");

    let lines = lax_lines(&wire);
    let (body, end) = lines.split_at(lines.len() - 2);
    assert_eq!(end, [b".".to_vec(), vec![]]);
    assert!(!body.contains(&b".".to_vec()), "the lax reader ends early in {}", wire.escape_ascii());
    assert!(!wire.contains(&0));
}

const VERBS: [Verb; 17] = [
    Verb::Connect,
    Verb::Ehlo,
    Verb::Helo,
    Verb::Lhlo,
    Verb::StartTls,
    Verb::Auth,
    Verb::AuthResponse,
    Verb::Mail,
    Verb::Rcpt,
    Verb::Data,
    Verb::Message,
    Verb::Bdat,
    Verb::BdatLast,
    Verb::Rset,
    Verb::Noop,
    Verb::Vrfy,
    Verb::Quit,
];
const CODES: [u16; 12] = [220, 250, 250, 250, 354, 334, 235, 421, 450, 550, 503, 221];

/// Checks that replies answer commands in order, and that the owed replies are the sent commands minus the received
/// replies.
///
/// Each octet is a step: the lower half is a command, the upper half a reply, with two codes at its end.
pub fn dialogue(steps: &[u8], pipelining: bool) {
    let mut dialogue = Dialogue::new();
    dialogue.set_pipelining(pipelining);
    let mut model = VecDeque::from([Verb::Connect]);
    let mut closed = false;
    for &step in steps {
        if step < 128 {
            let verb = VERBS[usize::from(step) % VERBS.len()];
            let before = (dialogue.state(), dialogue.owed());
            match dialogue.send(verb) {
                // Over LMTP the message is answered once for each recipient (RFC 2033 4.2).
                Ok(()) => model.extend((before.1..dialogue.owed()).map(|_| verb)),
                Err(_) => assert_eq!((dialogue.state(), dialogue.owed()), before, "refused, yet noted"),
            }
            assert!(pipelining || model.iter().all(|&verb| verb == model[0]), "one at a time: {model:?}");
        } else {
            let code = CODES[usize::from(step) % CODES.len()];
            // The remaining steps are replies whose lines carry two codes.
            let mixed = usize::from(step) - 128 >= 9 * CODES.len();
            let text = if mixed { format!("{code}-a\r\n599 b") } else { code.to_string() };
            let reply = Reply::parse(text.as_bytes()).expect("a code is a reply");
            let before = dialogue.state();
            assert_eq!(dialogue.receive(&reply).ok(), model.pop_front());
            let after = dialogue.state();
            assert!(mixed || code != 421 || after == State::Closed, "421 is the end anywhere");
            let accepts_nothing =
                after == before || matches!(after, State::Mail | State::Ready | State::Closed);
            assert!(!mixed || accepts_nothing, "two codes lead from {before:?} to {after:?}");
        }
        assert_eq!((dialogue.owed(), dialogue.due()), (model.len(), model.front().copied()));
        assert!(!dialogue.is_idle() || (model.is_empty() && dialogue.state() == State::Ready));
        if dialogue.state() == State::Tls && model.is_empty() {
            assert!(VERBS.iter().all(|&verb| dialogue.clone().send(verb).is_err()), "the handshake is next");
            dialogue.secured();
            dialogue.set_pipelining(pipelining);
            assert_eq!((dialogue.state(), dialogue.owed()), (State::Connected, 0));
        }
        dialogue.shrink();
        assert!(!closed || dialogue.state() == State::Closed, "the end is final");
        if dialogue.state() == State::Closed && !mem::replace(&mut closed, true) {
            assert!(VERBS.iter().all(|&verb| dialogue.clone().send(verb).is_err()), "nothing after the end");
        }
    }
}
