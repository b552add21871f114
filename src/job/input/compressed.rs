//! Decompresses lists: gzip, Zstandard, bzip2 and xz, each with several members and padding.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use super::limits::BUFFER;
use crate::job::format::Compression;

/// The most memory of a decoder of xz, 256 MiB. `xz -9` needs 65 MiB.
const MAX_XZ_KIB: u32 = 256 * 1024;

/// Finds out how a file is compressed by its first octets.
pub(super) fn compression(magic: &[u8]) -> Option<Compression> {
    match magic {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
        // A frame to be skipped may come first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => Some(Compression::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
        _ => None,
    }
}

/// Returns the decompressed input.
pub(super) fn decompressed(
    input: impl BufRead + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    Ok(match compression {
        Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, Gzip::new(input))),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(input)?),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(XzReader::new_mem_limit(input, true, MAX_XZ_KIB)),
    })
}

/// Decodes members of gzip until the end, or until zeros that fill up the last block of a tape.
struct Gzip<R> {
    /// None at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(input: R) -> Self {
        Self { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            match member.read(out)? {
                0 if !out.is_empty() => {}
                read => return Ok(read),
            }
            let Some(member) = self.member.take() else { return Ok(0) };
            let mut input = member.into_inner();
            loop {
                let buffer = input.fill_buf()?;
                let zeros = buffer.iter().take_while(|octet| **octet == 0).count();
                let is_end = buffer.is_empty();
                let is_padding = zeros == buffer.len();
                input.consume(zeros);
                match (is_end, is_padding) {
                    (true, _) => return Ok(0),
                    (false, true) => {}
                    (false, false) => break,
                }
            }
            self.member = Some(GzDecoder::new(input));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(text: &[u8], compression: Compression) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
                gzip.write_all(text).unwrap();
                gzip.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(text, 1).unwrap(),
            Compression::Bzip2 => {
                let mut bzip2 = bzip2::write::BzEncoder::new(vec![], bzip2::Compression::fast());
                bzip2.write_all(text).unwrap();
                bzip2.finish().unwrap()
            }
            // `printf 'ann@x.test\n' | xz`, and the crate has no encoder here.
            Compression::Xz => include_bytes!("../../../tests/lists/text_xz.txt.xz").to_vec(),
        }
    }

    #[test]
    fn several_members_and_padding_are_read() {
        let all = [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz];
        for compression in all {
            let one = packed(b"ann@x.test\n", compression);
            let padding: &[u8] = match compression {
                Compression::Gzip => &[0; 100],
                Compression::Xz => &[0; 8],
                _ => &[],
            };
            for (octets, times) in [(one.clone(), 1), (one.repeat(3), 3), ([&one[..], padding].concat(), 1)] {
                assert_eq!(self::compression(&octets), Some(compression));
                let mut text = String::new();
                let input = decompressed(io::Cursor::new(octets), compression).unwrap();
                BufReader::new(input).read_to_string(&mut text).unwrap();
                assert_eq!(text, "ann@x.test\n".repeat(times), "{compression}");
            }
            // A file that ends too early is an error, and no shorter list.
            let cut = one[..one.len() - 3].to_vec();
            let mut text = Vec::new();
            let input = decompressed(io::Cursor::new(cut), compression).unwrap();
            assert!(BufReader::new(input).read_to_end(&mut text).is_err(), "{compression}");
        }
    }

    #[test]
    fn xz_cannot_ask_for_any_memory() {
        // A header of a block with a dictionary of 4 GiB.
        let mut octets = packed(b"", Compression::Xz);
        let block = 12;
        let size = (usize::from(octets[block]) + 1) * 4;
        let at = (block..block + size).find(|at| octets[*at..].starts_with(&[0x21, 1])).unwrap() + 2;
        octets[at] = 40;
        let sum = crc32(&octets[block..block + size - 4]).to_le_bytes();
        octets[block + size - 4..block + size].copy_from_slice(&sum);
        let mut input = decompressed(io::Cursor::new(octets), Compression::Xz).unwrap();
        assert!(input.read(&mut [0; 8]).is_err());
    }

    fn crc32(octets: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(octets);
        crc.sum()
    }
}
