//! Encodes rows, chunks and results: many in one compressed value.
//!
//! One database row per address would cost more time than the verification. So a value holds a thousand entries or
//! more, each in a few octets. Numbers are LEB128, texts follow their length, and repeated host names and replies are
//! omitted.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    error::{JobError, Result},
    store::ResultBatch,
};
use crate::{
    proto::EnhancedCode,
    verify::{Blame, CatchAll, Record, SubStatus, TlsVersion},
};

/// The Zstandard level. Level 1 is fast enough not to limit a run.
const LEVEL: i32 = 1;
/// The largest uncompressed value that is written or read, 256 MiB. Written values are far smaller: results end at
/// [`BATCH`] octets, and a segment of rows ends soon after 8 MiB.
const MAX_VALUE: usize = 1 << 28;
/// A batch of results ends with the entry that reaches this many octets, 1 MiB.
const BATCH: usize = 1 << 20;

/// The most octets of a reply that are read. Jobs of version 1 may hold longer ones.
const MAX_TEXT: usize = 2_048;

pub(super) fn compress(octets: &[u8]) -> Result<Vec<u8>> {
    compress_within(octets, MAX_VALUE)
}

pub(super) fn decompress(octets: &[u8]) -> Result<Vec<u8>> {
    decompress_within(octets, MAX_VALUE)
}

/// Returns the uncompressed size of a value. Fails if it exceeds the limit.
pub(super) fn size(octets: &[u8]) -> Result<usize> {
    size_within(octets, MAX_VALUE)
}

/// Compresses a value. Fails if it is too large to be read back, because the job would be lost.
fn compress_within(octets: &[u8], limit: usize) -> Result<Vec<u8>> {
    if octets.len() > limit {
        return Err(JobError::TooLarge);
    }
    zstd::bulk::compress(octets, LEVEL)
        .map_err(|error| JobError::Io { doing: "the data cannot be compressed", error })
}

fn decompress_within(octets: &[u8], limit: usize) -> Result<Vec<u8>> {
    zstd::bulk::decompress(octets, size_within(octets, limit)?).map_err(|_| JobError::Damaged)
}

/// Returns the size from the frame header, so that a hostile size allocates nothing.
fn size_within(octets: &[u8], limit: usize) -> Result<usize> {
    let size = zstd::zstd_safe::get_frame_content_size(octets).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= limit);
    size.ok_or(JobError::Damaged)
}

/// Appends a number as LEB128.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends the length and the octets.
pub(super) fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    put_number(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

/// Reads numbers and octets from an encoded value.
#[derive(Clone, Debug)]
pub(super) struct OctetReader<'a>(pub(super) &'a [u8]);

impl<'a> OctetReader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn octet(&mut self) -> Result<u8> {
        let Some((octet, rest)) = self.0.split_first() else { return Err(JobError::Damaged) };
        self.0 = rest;
        Ok(*octet)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let octet = self.octet()?;
            number |= u64::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Ok(number);
            }
            shift += 7;
            if shift > 63 {
                return Err(JobError::Damaged);
            }
        }
    }

    pub(super) fn number_as<N: TryFrom<u64>>(&mut self) -> Result<N> {
        N::try_from(self.number()?).map_err(|_| JobError::Damaged)
    }

    pub(super) fn octets(&mut self) -> Result<&'a [u8]> {
        let len = self.number_as()?;
        let Some((octets, rest)) = self.0.split_at_checked(len) else { return Err(JobError::Damaged) };
        self.0 = rest;
        Ok(octets)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        str::from_utf8(self.octets()?).map_err(|_| JobError::Damaged)
    }
}

/// A stored result of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// The final verdict.
    Final(Record),
    /// An interim result: the verdict if the address were not asked again.
    Interim(Record),
    /// Earlier verdicts of the row are void.
    Void,
}

impl Entry {
    /// Returns true if the chunk need not ask the address. An interim result has an entry in `postponed`.
    pub(super) fn is_answer(&self) -> bool {
        !matches!(self, Self::Void)
    }

    /// Returns the verdict, and true if it is final.
    pub(super) fn verdict(&self) -> Option<(SubStatus, bool)> {
        match self {
            Self::Final(record) => Some((record.sub_status, true)),
            Self::Interim(record) => Some((record.sub_status, false)),
            Self::Void => None,
        }
    }
}

/// Encodes a sequence of entries.
#[derive(Debug, Default)]
pub(super) struct EntryEncoder {
    pub(super) octets: Vec<u8>,
    pub(super) count: u32,
    row: u32,
    time: i64,
    mx_host: Option<Arc<str>>,
    reply: Option<Arc<str>>,
}

/// The kind of an entry, its first octet.
const FINAL: u8 = 0;
const INTERIM: u8 = 1;
const VOID: u8 = 2;

/// The flags of a record, one octet.
const ROLE: u8 = 1;
const DISPOSABLE: u8 = 2;
const FREE: u8 = 4;
const SAME_HOST: u8 = 8;
const SAME_REPLY: u8 = 16;
const ENHANCED: u8 = 32;
const NO_HOST: u8 = 64;
const NO_REPLY: u8 = 128;

impl EntryEncoder {
    /// Appends a record. The row is counted from the first of its segment. The address is not encoded; the segment
    /// holds it.
    pub(super) fn put(&mut self, row: u32, record: &Record, is_final: bool) {
        self.put_head(row, if is_final { FINAL } else { INTERIM });
        let out = &mut self.octets;
        out.push(sub_status_code(record.sub_status));
        out.push(
            blame_code(record.blame) | catch_all_code(record.catch_all) << 3 | tls_code(record.tls) << 5,
        );
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let same = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            _ => false,
        };
        let same_host = same(&record.mx_host, &self.mx_host);
        let same_reply = same(&record.reply, &self.reply);
        out.push(
            flag(record.role, ROLE)
                | flag(record.disposable, DISPOSABLE)
                | flag(record.free, FREE)
                | flag(same_host, SAME_HOST)
                | flag(same_reply, SAME_REPLY)
                | flag(record.enhanced_code.is_some(), ENHANCED)
                | flag(record.mx_host.is_none(), NO_HOST)
                | flag(record.reply.is_none(), NO_REPLY),
        );
        put_number(out, u64::from(record.attempts));
        put_number(out, record.duration_ms);
        let time = record.checked_at.as_millisecond();
        put_number(out, zigzag(time.wrapping_sub(self.time)));
        self.time = time;
        put_number(out, u64::from(record.smtp_code.unwrap_or(0)));
        if let Some(code) = record.enhanced_code {
            out.push(code.class);
            put_number(out, u64::from(code.subject));
            put_number(out, u64::from(code.detail));
        }
        if let (Some(host), false) = (&record.mx_host, same_host) {
            put_octets(out, host.as_bytes());
            self.mx_host = Some(Arc::clone(host));
        }
        if let (Some(reply), false) = (&record.reply, same_reply) {
            put_octets(out, reply.as_bytes());
            self.reply = Some(Arc::clone(reply));
        }
    }

    /// Appends an entry that voids earlier verdicts of the row.
    pub(super) fn put_void(&mut self, row: u32) {
        self.put_head(row, VOID);
    }

    /// Returns true if the batch is large enough.
    pub(super) fn is_full(&self) -> bool {
        self.octets.len() >= BATCH
    }

    /// Compresses the entries into a batch of the segment.
    pub(super) fn into_batch(self, segment: u32) -> Result<ResultBatch> {
        Ok(ResultBatch { segment, count: self.count, results: compress(&self.octets)? })
    }

    fn put_head(&mut self, row: u32, kind: u8) {
        self.count += 1;
        self.octets.push(kind);
        put_number(&mut self.octets, zigzag(i64::from(row) - i64::from(self.row)));
        self.row = row;
    }
}

/// Decodes the entries that an [`EntryEncoder`] wrote.
#[derive(Debug)]
pub(super) struct EntryDecoder<'a> {
    octets: OctetReader<'a>,
    row: u32,
    time: i64,
    mx_host: Option<Arc<str>>,
    reply: Option<Arc<str>>,
}

impl<'a> EntryDecoder<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { octets: OctetReader(octets), row: 0, time: 0, mx_host: None, reply: None }
    }

    fn entry(&mut self) -> Result<(u32, Entry)> {
        let kind = self.octets.octet()?;
        let row = i64::from(self.row) + unzigzag(self.octets.number()?);
        self.row = u32::try_from(row).map_err(|_| JobError::Damaged)?;
        Ok((
            self.row,
            match kind {
                FINAL => Entry::Final(self.record()?),
                INTERIM => Entry::Interim(self.record()?),
                VOID => Entry::Void,
                _ => return Err(JobError::Damaged),
            },
        ))
    }

    fn record(&mut self) -> Result<Record> {
        let from = &mut self.octets;
        let sub_status = sub_status(from.octet()?)?;
        let bits = from.octet()?;
        let flags = from.octet()?;
        let attempts = from.number_as()?;
        let duration_ms = from.number()?;
        self.time = self.time.wrapping_add(unzigzag(from.number()?));
        let smtp_code = match from.number_as()? {
            0 => None,
            code => Some(code),
        };
        let enhanced_code = match flags & ENHANCED {
            0 => None,
            _ => Some(EnhancedCode {
                class: from.octet()?,
                subject: from.number_as()?,
                detail: from.number_as()?,
            }),
        };
        let mut text = |none, same, before: &mut Option<Arc<str>>| -> Result<Option<Arc<str>>> {
            if flags & none != 0 {
                return Ok(None);
            }
            if flags & same == 0 {
                *before = Some(cut(from.text()?));
            }
            Ok(before.clone())
        };
        Ok(Record {
            address: String::new(),
            status: sub_status.status(),
            sub_status,
            blame: blame(bits & 7)?,
            catch_all: catch_all(bits >> 3 & 3),
            role: flags & ROLE != 0,
            disposable: flags & DISPOSABLE != 0,
            free: flags & FREE != 0,
            mx_host: text(NO_HOST, SAME_HOST, &mut self.mx_host)?,
            smtp_code,
            enhanced_code,
            reply: text(NO_REPLY, SAME_REPLY, &mut self.reply)?,
            attempts,
            tls: tls(bits >> 5 & 3),
            duration_ms,
            checked_at: Timestamp::from_millisecond(self.time).map_err(|_| JobError::Damaged)?,
        })
    }
}

/// Returns at most [`MAX_TEXT`] octets of a text. A hostile file may hold hundreds of mebibytes per row.
fn cut(text: &str) -> Arc<str> {
    match text.len() > MAX_TEXT {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]).into(),
        false => text.into(),
    }
}

impl Iterator for EntryDecoder<'_> {
    type Item = Result<(u32, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.octets.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.octets = OctetReader(&[]);
        }
        Some(entry)
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// The codes in stored jobs. Append new ones, and never reuse a code.
const SUB_STATUSES: [SubStatus; 21] = [
    SubStatus::Accepted,
    SubStatus::MailboxNotFound,
    SubStatus::MailboxDisabled,
    SubStatus::DoesNotAcceptMail,
    SubStatus::NoDnsEntries,
    SubStatus::FailedSyntaxCheck,
    SubStatus::CatchAll,
    SubStatus::MailboxQuotaExceeded,
    SubStatus::RoleBased,
    SubStatus::Disposable,
    SubStatus::Greylisted,
    SubStatus::RateLimited,
    SubStatus::Blocked,
    SubStatus::PolicyRejected,
    SubStatus::MailServerTemporaryError,
    SubStatus::TimeoutExceeded,
    SubStatus::FailedSmtpConnection,
    SubStatus::TlsFailed,
    SubStatus::UnroutableIpAddress,
    SubStatus::ProtocolError,
    SubStatus::Other,
];

/// Returns the index in [`SUB_STATUSES`]. The match has no wild card, so that the compiler reports a missing one.
fn sub_status_code(sub_status: SubStatus) -> u8 {
    use SubStatus as S;
    match sub_status {
        S::Accepted => 0,
        S::MailboxNotFound => 1,
        S::MailboxDisabled => 2,
        S::DoesNotAcceptMail => 3,
        S::NoDnsEntries => 4,
        S::FailedSyntaxCheck => 5,
        S::CatchAll => 6,
        S::MailboxQuotaExceeded => 7,
        S::RoleBased => 8,
        S::Disposable => 9,
        S::Greylisted => 10,
        S::RateLimited => 11,
        S::Blocked => 12,
        S::PolicyRejected => 13,
        S::MailServerTemporaryError => 14,
        S::TimeoutExceeded => 15,
        S::FailedSmtpConnection => 16,
        S::TlsFailed => 17,
        S::UnroutableIpAddress => 18,
        S::ProtocolError => 19,
        S::Other => 20,
    }
}

fn sub_status(code: u8) -> Result<SubStatus> {
    SUB_STATUSES.get(usize::from(code)).copied().ok_or(JobError::Damaged)
}

fn blame_code(blame: Option<Blame>) -> u8 {
    match blame {
        None => 0,
        Some(Blame::Recipient) => 1,
        Some(Blame::Us) => 2,
        Some(Blame::Policy) => 3,
        Some(Blame::Server) => 4,
        Some(Blame::Network) => 5,
    }
}

fn blame(code: u8) -> Result<Option<Blame>> {
    Ok(match code {
        0 => None,
        1 => Some(Blame::Recipient),
        2 => Some(Blame::Us),
        3 => Some(Blame::Policy),
        4 => Some(Blame::Server),
        5 => Some(Blame::Network),
        _ => return Err(JobError::Damaged),
    })
}

pub(super) fn catch_all_code(catch_all: CatchAll) -> u8 {
    match catch_all {
        CatchAll::NotRun => 0,
        CatchAll::Accepted => 1,
        CatchAll::Refused => 2,
        CatchAll::Inconclusive => 3,
    }
}

pub(super) fn catch_all(code: u8) -> CatchAll {
    match code {
        1 => CatchAll::Accepted,
        2 => CatchAll::Refused,
        3 => CatchAll::Inconclusive,
        _ => CatchAll::NotRun,
    }
}

fn tls_code(tls: Option<TlsVersion>) -> u8 {
    match tls {
        None => 0,
        Some(TlsVersion::Tls12) => 1,
        Some(TlsVersion::Tls13) => 2,
    }
}

fn tls(code: u8) -> Option<TlsVersion> {
    match code {
        1 => Some(TlsVersion::Tls12),
        2 => Some(TlsVersion::Tls13),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verify::{MAX_TEXT, shortened};

    fn record() -> Record {
        Record {
            address: String::new(),
            status: SubStatus::Accepted.status(),
            sub_status: SubStatus::Accepted,
            blame: None,
            catch_all: CatchAll::NotRun,
            role: false,
            disposable: false,
            free: false,
            mx_host: None,
            smtp_code: Some(250),
            enhanced_code: None,
            reply: None,
            attempts: 1,
            tls: None,
            duration_ms: 7,
            checked_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn records() -> impl Strategy<Value = Record> {
        let text = || prop::option::of(prop::sample::select(vec!["", "a.test", "Ok", "ü\u{fffd}"]));
        let codes = (prop::option::of(1..1000_u16), prop::option::of((0..9_u8, any::<(u16, u16)>())));
        let small = (0..21_u8, 0..6_u8, 0..4_u8, 0..3_u8, any::<[bool; 3]>());
        let numbers = (any::<u32>(), any::<u64>(), -1_000_000_000_000..4_000_000_000_000_i64);
        (small, text(), text(), codes, numbers).prop_map(|(small, host, reply, codes, numbers)| {
            let sub_status = sub_status(small.0).unwrap();
            let [role, disposable, free] = small.4;
            let enhanced =
                |(class, (subject, detail)): (u8, (u16, u16))| EnhancedCode { class, subject, detail };
            Record {
                address: String::new(),
                status: sub_status.status(),
                sub_status,
                blame: blame(small.1).unwrap(),
                catch_all: catch_all(small.2),
                role,
                disposable,
                free,
                mx_host: host.map(Arc::from),
                smtp_code: codes.0,
                enhanced_code: codes.1.map(enhanced),
                reply: reply.map(Arc::from),
                attempts: numbers.0,
                tls: tls(small.3),
                duration_ms: numbers.1,
                checked_at: Timestamp::from_millisecond(numbers.2).unwrap(),
            }
        })
    }

    fn entries() -> impl Strategy<Value = Vec<(u32, Entry)>> {
        let known = prop_oneof![
            records().prop_map(Entry::Final),
            records().prop_map(Entry::Interim),
            Just(Entry::Void),
        ];
        prop::collection::vec((any::<u32>(), known), 0..20)
    }

    proptest! {
        #[test]
        fn encoded_entries_are_decoded(entries in entries()) {
            let mut encoder = EntryEncoder::default();
            for (row, known) in &entries {
                match known {
                    Entry::Final(record) => encoder.put(*row, record, true),
                    Entry::Interim(record) => encoder.put(*row, record, false),
                    Entry::Void => encoder.put_void(*row),
                }
            }
            let octets = decompress(&compress(&encoder.octets).unwrap()).unwrap();
            let found: Vec<_> = EntryDecoder::new(&octets).map(std::result::Result::unwrap).collect();
            prop_assert_eq!(found, entries);
        }

        /// The writer and the reader have one limit: a value is written only if it can be read back.
        #[test]
        fn the_writer_and_the_reader_have_one_limit(limit in 0..300_usize, over in -3..3_i64) {
            let len = (limit as i64 + over).max(0) as usize;
            let value = vec![7; len];
            match compress_within(&value, limit) {
                Ok(octets) => {
                    prop_assert!(len <= limit);
                    prop_assert_eq!(&decompress_within(&octets, limit).unwrap(), &value);
                }
                Err(error) => prop_assert!(len > limit && matches!(error, JobError::TooLarge)),
            }
            let octets = compress_within(&value, usize::MAX).unwrap();
            prop_assert_eq!(decompress_within(&octets, limit).is_ok(), len <= limit);
        }

        /// Replies of any length give batches that are not much too large and that are read back.
        #[test]
        fn batches_of_any_replies_are_read_back(lens in prop::collection::vec(0..2_000_usize, 1..40), times in 1..80_u32) {
            let record = |len: usize, n: u32| {
                let reply = format!("{n}{}", "x".repeat(len));
                Record { reply: Some(shortened(&reply).into()), ..record() }
            };
            let (mut encoder, mut batches, mut row) = (EntryEncoder::default(), Vec::new(), 0);
            for n in 0..times {
                for len in &lens {
                    encoder.put(row, &record(*len, n), true);
                    row += 1;
                    if encoder.is_full() {
                        batches.push(std::mem::take(&mut encoder).into_batch(0).unwrap());
                    }
                }
            }
            batches.push(encoder.into_batch(0).unwrap());
            let (mut found, mut counted) = (0, 0);
            for batch in &batches {
                let octets = decompress(&batch.results).unwrap();
                prop_assert!(octets.len() < BATCH + 2 * MAX_TEXT);
                counted += batch.count;
                for entry in EntryDecoder::new(&octets) {
                    let (at, entry) = entry.unwrap();
                    let (len, n) = (lens[at as usize % lens.len()], at / lens.len() as u32);
                    prop_assert_eq!(at, found);
                    prop_assert_eq!(entry, Entry::Final(record(len, n)));
                    found += 1;
                }
            }
            prop_assert_eq!((found, counted), (row, row));
        }

        #[test]
        fn damaged_values_are_errors_and_no_panics(octets: Vec<u8>) {
            let entries = EntryDecoder::new(&octets).count();
            prop_assert!(entries <= octets.len());
            prop_assert!(decompress(&octets).is_err() || octets.len() > 4);
        }
    }

    #[test]
    fn every_code_has_its_sub_status() {
        for (code, sub_status) in SUB_STATUSES.into_iter().enumerate() {
            assert_eq!(usize::from(sub_status_code(sub_status)), code);
        }
    }
}
