//! The encoding of a list: finds it, and decodes it to UTF-8.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read},
};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{CoderResult, Decoder, Encoding, ISO_2022_JP, MACINTOSH, UTF_8, UTF_16BE, UTF_16LE};

use super::limits::BUFFER;
use crate::job::error::{JobError, Result};

/// An encoding of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// One of the WHATWG Encoding Standard.
    Whatwg(&'static Encoding),
    /// UTF-32, which that standard does not have.
    Utf32 {
        /// Whether the most significant octet comes first.
        big: bool,
    },
}

impl Charset {
    pub(super) const UTF_8: Self = Self::Whatwg(UTF_8);

    /// Finds an encoding by its name.
    ///
    /// # Errors
    /// Fails if there is no such encoding.
    pub(super) fn of_name(name: &str) -> Result<Self> {
        match &*name.to_ascii_lowercase().replace('_', "-") {
            "utf-32le" | "utf-32" => Ok(Self::Utf32 { big: false }),
            "utf-32be" => Ok(Self::Utf32 { big: true }),
            other => Encoding::for_label(other.as_bytes()).map(Self::Whatwg).ok_or_else(|| {
                JobError::hinted(
                    format_args!("--encoding {name}: there is no such encoding"),
                    "use a name of the WHATWG Encoding Standard: utf-8, utf-16le, windows-1252, shift_jis, gb18030",
                )
            }),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whatwg(encoding) => encoding.name(),
            Self::Utf32 { big: false } => "UTF-32LE",
            Self::Utf32 { big: true } => "UTF-32BE",
        }
    }

    /// Returns the byte order mark of the encoding.
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Utf32 { big: false } => b"\xff\xfe\0\0",
            Self::Utf32 { big: true } => b"\0\0\xfe\xff",
            Self::Whatwg(encoding) if encoding == UTF_8 => b"\xef\xbb\xbf",
            Self::Whatwg(encoding) if encoding == UTF_16LE => b"\xff\xfe",
            Self::Whatwg(encoding) if encoding == UTF_16BE => b"\xfe\xff",
            Self::Whatwg(_) => b"",
        }
    }

    /// Returns true if the text begins with the byte order mark of the encoding.
    pub(super) fn has_mark(self, text: &[u8]) -> bool {
        !self.mark().is_empty() && text.starts_with(self.mark())
    }

    /// Returns the input in UTF-8, without a byte order mark. Octets that are not of the encoding become U+FFFD. UTF-8
    /// is passed on as it is.
    pub(super) fn decoded(
        self,
        mut head: Vec<u8>,
        rest: impl Read + Send + 'static,
    ) -> Box<dyn BufRead + Send> {
        if self.has_mark(&head) {
            head.drain(..self.mark().len());
        }
        let input = io::Cursor::new(head).chain(rest);
        match self {
            Self::Whatwg(encoding) if encoding == UTF_8 => Box::new(BufReader::with_capacity(BUFFER, input)),
            Self::Whatwg(encoding) => {
                Box::new(Decoding::new(input, encoding.new_decoder_without_bom_handling()))
            }
            Self::Utf32 { big } => Box::new(BufReader::with_capacity(BUFFER, Utf32::new(input, big))),
        }
    }
}

/// Finds the encoding of a text by its first octets. `complete` means that they are the whole text.
pub(super) fn detect(head: &[u8], complete: bool) -> Charset {
    let utf32 = [false, true].map(|big| Charset::Utf32 { big });
    let utf16 = [UTF_16LE, UTF_16BE].map(Charset::Whatwg);
    // The mark of UTF-32LE begins with that of UTF-16LE.
    let marked = utf32.into_iter().chain([Charset::UTF_8]).chain(utf16);
    if let Some(charset) = marked.into_iter().find(|charset| charset.has_mark(head)) {
        return charset;
    }
    if let Some(charset) = by_zeros(head) {
        return charset;
    }
    if [&b"\x1b$B"[..], b"\x1b$@", b"\x1b(J"]
        .iter()
        .any(|escape| memchr::memmem::find(head, escape).is_some())
    {
        return Charset::Whatwg(ISO_2022_JP);
    }
    if is_utf8(head) {
        return Charset::UTF_8;
    }
    // Programs for the old Macintosh end lines with CR.
    if head.contains(&b'\r') && !head.contains(&b'\n') {
        return Charset::Whatwg(MACINTOSH);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(head, complete);
    Charset::Whatwg(detector.guess(top_level(head).as_deref(), Utf8Detection::Deny))
}

/// Finds UTF-16 and UTF-32 without a mark by the zeros in ASCII, which each address has.
fn by_zeros(head: &[u8]) -> Option<Charset> {
    let mut zeros = [0_usize; 4];
    for four in head.chunks_exact(4) {
        for (count, octet) in zeros.iter_mut().zip(four) {
            *count += usize::from(*octet == 0);
        }
    }
    let quarters = head.len() / 4;
    if quarters == 0 {
        return None;
    }
    let (few, many) = (quarters / 50, quarters / 10);
    match zeros {
        [a, b, c, d] if a <= few && b > many && c >= quarters - few && d == quarters => {
            Some(Charset::Utf32 { big: false })
        }
        [a, b, c, d] if a == quarters && b >= quarters - few && c > many && d <= few => {
            Some(Charset::Utf32 { big: true })
        }
        [a, b, c, d] if a + c <= 2 * few && b > many && d > many => Some(Charset::Whatwg(UTF_16LE)),
        [a, b, c, d] if b + d <= 2 * few && a > many && c > many => Some(Charset::Whatwg(UTF_16BE)),
        _ => None,
    }
}

/// Returns true for UTF-8, also if a few characters are damaged or the last one is cut.
fn is_utf8(head: &[u8]) -> bool {
    let (mut valid, mut broken) = (0, 0);
    for chunk in head.utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    let is_cut = head.utf8_chunks().last().is_some_and(|last| {
        let end = last.invalid();
        // The start of a character, whose end is not in the head.
        !end.is_empty() && std::str::from_utf8(end).is_err_and(|error| error.error_len().is_none())
    });
    broken == 0 || broken == 1 && is_cut && valid > 0 || valid > 10 * broken
}

/// Returns the most frequent top-level domain of two letters, which tells the language.
fn top_level(head: &[u8]) -> Option<Vec<u8>> {
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    for at in memchr::memchr_iter(b'@', head) {
        let domain = &head[at + 1..head.len().min(at + 255)];
        let end = domain.iter().position(|octet| !octet.is_ascii_alphanumeric() && !b"-.".contains(octet));
        let domain = &domain[..end.unwrap_or(domain.len())];
        if let Some(dot) = domain.iter().rposition(|octet| *octet == b'.')
            && let last @ [a, b] = &domain[dot + 1..]
            && a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic()
        {
            *counts.entry(last.to_ascii_lowercase()).or_default() += 1;
        }
    }
    counts.into_iter().max_by(|one, other| (one.1, &other.0).cmp(&(other.1, &one.0))).map(|(last, _)| last)
}

/// Decodes by `encoding_rs`.
struct Decoding<R> {
    input: R,
    decoder: Decoder,
    raw: Vec<u8>,
    /// The part of `raw` that is not decoded yet.
    start: usize,
    end: usize,
    ended: bool,
    finished: bool,
    /// The decoded text, and how much of it was given.
    text: Vec<u8>,
    len: usize,
    given: usize,
}

impl<R: Read> Decoding<R> {
    fn new(input: R, decoder: Decoder) -> Self {
        let (raw, text) = (vec![0; BUFFER / 2], vec![0; BUFFER]);
        let (ended, finished) = (false, false);
        Self { input, decoder, raw, start: 0, end: 0, ended, finished, text, len: 0, given: 0 }
    }
}

impl<R: Read> BufRead for Decoding<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.given == self.len && !self.finished {
            if self.start == self.end && !self.ended {
                (self.start, self.end) = (0, self.input.read(&mut self.raw)?);
                self.ended = self.end == 0;
            }
            let raw = &self.raw[self.start..self.end];
            // The buffer holds any character, so each pass takes or gives at least one octet.
            let (result, read, written, _) = self.decoder.decode_to_utf8(raw, &mut self.text, self.ended);
            self.start += read;
            self.finished = self.ended && result == CoderResult::InputEmpty;
            (self.given, self.len) = (0, written);
        }
        Ok(&self.text[self.given..self.len])
    }

    fn consume(&mut self, count: usize) {
        self.given += count;
    }
}

impl<R: Read> Read for Decoding<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// Decodes UTF-32.
struct Utf32<R> {
    input: R,
    big: bool,
    raw: Vec<u8>,
    ended: bool,
    text: Vec<u8>,
    given: usize,
}

impl<R: Read> Utf32<R> {
    fn new(input: R, big: bool) -> Self {
        Self { input, big, raw: Vec::new(), ended: false, text: Vec::new(), given: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.text.clear();
        self.given = 0;
        while self.text.is_empty() && !self.ended {
            let kept = self.raw.len();
            self.raw.resize(kept + BUFFER / 4, 0);
            let read = self.input.read(&mut self.raw[kept..]);
            self.raw.truncate(kept + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
            let (fours, rest) = self.raw.as_chunks::<4>();
            let decode = if self.big { u32::from_be_bytes } else { u32::from_le_bytes };
            let decoded =
                fours.iter().map(|four| char::from_u32(decode(*four)).unwrap_or(char::REPLACEMENT_CHARACTER));
            let lost = (self.ended && !rest.is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            let text: String = decoded.chain(lost).collect();
            self.text = text.into_bytes();
            self.raw = rest.to_vec();
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf32<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() {
            self.fill()?;
        }
        let count = (&self.text[self.given..]).read(out)?;
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Encodes a text. UTF-16 and UTF-32 have no encoder in `encoding_rs`.
    pub(in crate::job::input) fn encoded(text: &str, charset: Charset) -> Vec<u8> {
        match charset {
            Charset::Utf32 { big } => {
                let octets =
                    |c: char| if big { u32::from(c).to_be_bytes() } else { u32::from(c).to_le_bytes() };
                text.chars().flat_map(octets).collect()
            }
            Charset::Whatwg(encoding) if encoding == UTF_16LE => {
                text.encode_utf16().flat_map(u16::to_le_bytes).collect()
            }
            Charset::Whatwg(encoding) if encoding == UTF_16BE => {
                text.encode_utf16().flat_map(u16::to_be_bytes).collect()
            }
            Charset::Whatwg(encoding) => encoding.encode(text).0.into_owned(),
        }
    }

    fn decoded(octets: &[u8], charset: Charset) -> String {
        let mut text = String::new();
        // One octet after the other, as a slow pipe gives them.
        struct Slow(io::Cursor<Vec<u8>>);
        impl Read for Slow {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let len = out.len().min(1);
                self.0.read(&mut out[..len])
            }
        }
        let (head, rest) = octets.split_at(octets.len().min(5));
        let rest = Slow(io::Cursor::new(rest.to_vec()));
        charset.decoded(head.to_vec(), rest).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn encodings_are_found_and_decoded() {
        for (name, text) in [
            ("UTF-8", "name,email\nJörg,joerg@x.test\n"),
            ("UTF-16LE", "name,email\nJörg,joerg@x.test\n"),
            ("UTF-16BE", "name,email\nJörg,joerg@x.test\n"),
            ("UTF-32LE", "name,email\n李,li@x.test\n"),
            ("UTF-32BE", "name,email\n李,li@x.test\n"),
            ("windows-1252", "Name;E-Mail\nJörg Müller;joerg@firma.de\nRenée Größe;renee@firma.de\n"),
            ("Shift_JIS", "名前,メール\n山田太郎,yamada@x.jp\n鈴木花子,suzuki@y.jp\n佐藤さん,sato@y.jp\n"),
            ("EUC-JP", "名前,メールアドレス\n山田太郎,yamada@x.jp\n鈴木花子,suzuki@y.jp\n"),
            ("GBK", "姓名,邮箱\n王小明先生,wang@x.cn\n张伟,zhang@y.cn\n李娜女士,li@y.cn\n"),
            ("Big5", "姓名,電子郵件\n王小明,wang@x.tw\n陳大文,chen@y.tw\n"),
            ("EUC-KR", "이름,이메일\n김철수,kim@x.kr\n이영희,lee@y.kr\n"),
            ("windows-1251", "Имя;Почта\nИван Петров;ivan@x.ru\nОльга;olga@y.ru\n"),
            ("ISO-2022-JP", "名前,メール\n山田太郎,yamada@x.jp\n"),
        ] {
            let charset = Charset::of_name(name).unwrap();
            let octets = encoded(text, charset);
            assert_eq!(decoded(&octets, charset), text, "{name}");
            assert_eq!(detect(&octets, true).name(), name);
            let marked = [charset.mark(), &octets].concat();
            assert_eq!((detect(&marked, true).name(), decoded(&marked, charset)), (name, text.to_owned()));
        }
        let mac = encoded("Name,E-Mail\rJörg,joerg@x.test\r", Charset::Whatwg(MACINTOSH));
        assert_eq!(detect(&mac, true).name(), "macintosh");
    }

    #[test]
    fn a_damaged_or_cut_character_leaves_utf8() {
        let text = "Jörg,joerg@x.test\n".repeat(20);
        assert_eq!(detect(&text.as_bytes()[..20], false), Charset::UTF_8);
        assert_eq!(detect(&text.as_bytes()[..2], false).name(), "windows-1252");
        let broken = [text.as_bytes(), b"J\xf6rg,joerg@x.test\n"].concat();
        assert_eq!(detect(&broken, true), Charset::UTF_8);
        assert_eq!(detect(b"", true), Charset::UTF_8);
    }

    #[test]
    fn other_names_are_refused() {
        assert_eq!(Charset::of_name("latin1").unwrap().name(), "windows-1252");
        assert_eq!(Charset::of_name("UTF_32BE").unwrap().name(), "UTF-32BE");
        assert!(Charset::of_name("klingon").unwrap_err().hint().is_some());
    }
}
