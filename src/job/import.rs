//! Turns rows into segments and chunks: each address once, and the addresses of a domain together.
//!
//! One thread reads, parses and finds repeated addresses. The other groups, encodes and stores. Memory holds a few
//! segments, and a fingerprint of 12 octets for each distinct address.

use std::{
    collections::HashMap as StdHashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::mpsc,
    thread,
};

use foldhash::HashMap;

use super::{
    encoding::{OctetReader, compress, decompress, put_number, put_octets},
    error::{JobError, Result},
    input::Row,
    store::{Chunk, MAX_ROWS, Segment, Span, Store},
};

/// The most rows of a segment.
const SEGMENT_ROWS: usize = MAX_ROWS as usize;
/// The octets of rows after which a segment ends.
const SEGMENT_OCTETS: usize = 8 << 20;
/// Addresses of a chunk. Few enough to be asked soon after the lease, and many enough to keep the cost of each low.
pub(super) const CHUNK_SIZE: usize = 1_024;
/// A domain with at least this many addresses in a segment gets chunks of its own.
const MIN_OWN_CHUNK: usize = 256;
/// The octets of addresses after which a chunk ends.
const CHUNK_OCTETS: usize = 256 << 10;

/// The counts of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    /// Rows of all sources.
    pub(super) rows: u64,
    /// Distinct addresses.
    pub(super) addresses: u64,
    /// Rows that hold no valid address.
    pub(super) invalid: u64,
}

/// Imports all rows.
///
/// # Errors
/// Fails if the store fails or if there are too many rows. The caller checks whether `rows` could be read to its end.
pub(super) fn import(rows: impl Iterator<Item = Row>, store: &mut dyn Store) -> Result<Imported> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<SegmentDraft>(1);
        let writer = scope.spawn(move || {
            let (mut segment, mut chunk) = (0, 0);
            for draft in receiver {
                let (encoded, chunks) = encode(&draft, segment, &mut chunk)?;
                store.add(&encoded, &chunks)?;
                segment += 1;
            }
            Ok(())
        });
        let read = read(rows, &sender);
        drop(sender);
        // A panic of the thread becomes a panic here.
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If the receiver has stopped early, the error is in `written`.
        written.and(read)
    })
}

/// Consecutive rows that are not stored yet.
#[derive(Default)]
struct SegmentDraft {
    source: u32,
    first: u32,
    rows: Vec<Row>,
    /// For each repeat: the row where the address came first, over all sources, and the repeating row, in this
    /// segment.
    repeats: Vec<(u32, u32)>,
    octets: usize,
}

/// Reads the rows, finds repeated addresses, and sends segments to the writer.
fn read(rows: impl Iterator<Item = Row>, sender: &mpsc::SyncSender<SegmentDraft>) -> Result<Imported> {
    let mut seen = Seen::default();
    let mut imported = Imported::default();
    let mut draft = SegmentDraft::default();
    for row in rows {
        let number = u32::try_from(imported.rows).ok().filter(|number| *number < 4_000_000_000);
        let number = number.ok_or(JobError::TooMany)?;
        let full = draft.rows.len() >= SEGMENT_ROWS || draft.octets >= SEGMENT_OCTETS;
        if full || row.source != draft.source {
            let next = SegmentDraft { source: row.source, first: number, ..SegmentDraft::default() };
            send(std::mem::replace(&mut draft, next), sender)?;
        }
        imported.rows += 1;
        match &row.mailbox {
            Some(mailbox) => match seen.first(mailbox.as_str(), number) {
                None => imported.addresses += 1,
                Some(first) => draft.repeats.push((first, number - draft.first)),
            },
            None => imported.invalid += 1,
        }
        draft.octets += row.address.len() + row.written.len();
        draft.rows.push(row);
    }
    send(draft, sender)?;
    Ok(imported)
}

fn send(draft: SegmentDraft, sender: &mpsc::SyncSender<SegmentDraft>) -> Result<()> {
    match draft.rows.is_empty() {
        true => Ok(()),
        // The writer has failed, and returns the error.
        false => sender.send(draft).map_err(|_| JobError::Damaged),
    }
}

/// The addresses so far, as 96 bits of a hash with a secret random seed. Among ten million addresses, a collision has
/// a probability of 10⁻¹⁵.
struct Seen {
    hashers: [foldhash::quality::RandomState; 2],
    /// Sharded, so that the tables do not all grow at the same time.
    shards: Vec<StdHashMap<[u32; 3], u32, BuildHasherDefault<FirstWord>>>,
}

impl Default for Seen {
    fn default() -> Self {
        let shards = (0..64).map(|_| StdHashMap::default()).collect();
        Self { hashers: Default::default(), shards }
    }
}

impl Seen {
    /// Returns the row where the address came first, or None if it is this row.
    fn first(&mut self, address: &str, row: u32) -> Option<u32> {
        let [one, two] = [&self.hashers[0], &self.hashers[1]].map(|hasher| hasher.hash_one(address));
        let key = [one as u32, (one >> 32) as u32, two as u32];
        let shard = &mut self.shards[(two >> 58) as usize];
        match *shard.entry(key).or_insert(row) {
            first if first == row => None,
            first => Some(first),
        }
    }
}

/// Uses the first word of the key as the hash, because the key is a hash already.
#[derive(Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    fn finish(&self) -> u64 {
        self.0
    }

    /// Takes the octets of the last call. The call for the length comes before it.
    fn write(&mut self, octets: &[u8]) {
        if let Some(word) = octets.first_chunk() {
            self.0 = u64::from_ne_bytes(*word);
        }
    }
}

/// Encodes a segment, and splits its distinct addresses into chunks.
fn encode(draft: &SegmentDraft, segment: u32, next_chunk: &mut u32) -> Result<(Segment, Vec<Chunk>)> {
    let mut rows = Vec::with_capacity(draft.octets + 4 * draft.rows.len());
    for row in &draft.rows {
        put_octets(&mut rows, row.address.as_bytes());
        put_octets(&mut rows, &row.written);
    }
    let mut repeats = Vec::new();
    for (first, row) in &draft.repeats {
        put_number(&mut repeats, u64::from(*first));
        put_number(&mut repeats, u64::from(draft.first + row));
    }
    let span = Span {
        segment,
        source: draft.source,
        first: draft.first,
        rows: u32::try_from(draft.rows.len()).map_err(|_| JobError::TooMany)?,
    };
    let repeats = if repeats.is_empty() { repeats } else { compress(&repeats)? };
    let encoded = Segment { span, rows: compress(&rows)?, repeats };

    let is_repeat: foldhash::HashSet<u32> = draft.repeats.iter().map(|(_, row)| *row).collect();
    let wanted = (0..span.rows).filter(|row| !is_repeat.contains(row));
    let mut cut = ChunkCutter { segment, draft, next_chunk, open: Vec::new(), octets: 0, chunks: Vec::new() };
    let mut scattered = Vec::new();
    for (domain, rows) in by_domain(draft, wanted) {
        if rows.len() < MIN_OWN_CHUNK || domain.is_empty() {
            scattered.extend(rows);
            continue;
        }
        cut.all(&rows, Some(domain))?;
    }
    cut.all(&scattered, None)?;
    Ok((encoded, cut.chunks))
}

/// Returns the rows of each domain, ordered by their first row.
fn by_domain(draft: &SegmentDraft, rows: impl Iterator<Item = u32>) -> Vec<(&str, Vec<u32>)> {
    let mut numbers: HashMap<&str, usize> = HashMap::default();
    let mut groups: Vec<(&str, Vec<u32>)> = Vec::new();
    for row in rows {
        let domain = draft.rows[row as usize].mailbox.as_ref().map_or("", |mailbox| mailbox.domain());
        let number = *numbers.entry(domain).or_insert_with(|| {
            groups.push((domain, Vec::new()));
            groups.len() - 1
        });
        groups[number].1.push(row);
    }
    groups
}

/// Splits the rows of a segment into chunks.
struct ChunkCutter<'a> {
    segment: u32,
    draft: &'a SegmentDraft,
    next_chunk: &'a mut u32,
    open: Vec<u32>,
    octets: usize,
    chunks: Vec<Chunk>,
}

impl ChunkCutter<'_> {
    fn all(&mut self, rows: &[u32], domain: Option<&str>) -> Result<()> {
        for &row in rows {
            self.open.push(row);
            self.octets += self.draft.rows[row as usize].question().len();
            if self.open.len() == CHUNK_SIZE || self.octets >= CHUNK_OCTETS {
                self.cut(domain)?;
            }
        }
        if self.open.is_empty() { Ok(()) } else { self.cut(domain) }
    }

    fn cut(&mut self, domain: Option<&str>) -> Result<()> {
        let rows = std::mem::take(&mut self.open);
        self.octets = 0;
        let addresses = rows.into_iter().map(|row| (row, self.draft.rows[row as usize].question()));
        self.chunks.push(chunk(*self.next_chunk, self.segment, domain, addresses)?);
        *self.next_chunk += 1;
        Ok(())
    }
}

/// Makes a chunk. Rows are counted from the first row of their segment.
pub(super) fn chunk<'a>(
    id: u32,
    segment: u32,
    domain: Option<&str>,
    addresses: impl Iterator<Item = (u32, &'a str)>,
) -> Result<Chunk> {
    let (mut octets, mut count) = (Vec::new(), 0);
    for (row, address) in addresses {
        put_number(&mut octets, u64::from(row));
        put_octets(&mut octets, address.as_bytes());
        count += 1;
    }
    Ok(Chunk { id, segment, domain: domain.map(Into::into), count, addresses: compress(&octets)? })
}

/// Decodes the rows and addresses of a chunk.
pub(super) fn addresses(encoded: &[u8]) -> Result<Vec<(u32, String)>> {
    let octets = decompress(encoded)?;
    let mut from = OctetReader(&octets);
    let mut found = Vec::new();
    while !from.is_empty() {
        check_count(found.len())?;
        found.push((from.number_as()?, from.text()?.to_owned()));
    }
    Ok(found)
}

/// Decodes the repeats of a segment: pairs of the first row of an address and a row that repeats it.
pub(super) fn repeats(encoded: &[u8]) -> Result<Vec<(u32, u32)>> {
    let octets = decompress(encoded)?;
    let mut from = OctetReader(&octets);
    let mut found = Vec::new();
    while !from.is_empty() {
        check_count(found.len())?;
        let (first, row) = (from.number_as()?, from.number_as()?);
        if first >= row {
            return Err(JobError::Damaged);
        }
        found.push((first, row));
    }
    Ok(found)
}

/// Fails if there are more entries than a segment can have rows. So a hostile file cannot fill the memory.
fn check_count(before: usize) -> Result<()> {
    if before < MAX_ROWS as usize { Ok(()) } else { Err(JobError::Damaged) }
}
