//! What a job keeps, whoever keeps it.
//!
//! The rows of the lists lie in **segments** of some 100,000, as they were written; results lie in batches, each of one
//! segment. So a segment's rows and results can be put together in memory, and a job of any size be read in its order
//! in one go, without an index and without sorting.
//!
//! What is still to be asked lies in **chunks** of some 1,000 addresses, those of a large domain by themselves. A chunk
//! is deleted when all of its addresses have an answer, in the same transaction that keeps the answers. Whoever resumes
//! a job asks again what is in a chunk and has no answer.

use super::error::Result;
use crate::verify::CatchAll;

/// The most rows that a segment has.
pub(super) const MAX_ROWS: u32 = 131_072;

/// Consecutive rows of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its number, from 0.
    pub(super) segment: u32,
    /// Which of the sources the rows are of.
    pub(super) source: u32,
    /// The number of its first row, over all sources.
    pub(super) first: u32,
    /// How many rows it has.
    pub(super) rows: u32,
}

/// A segment with its rows.
#[derive(Debug)]
pub(super) struct Segment {
    /// Which rows.
    pub(super) span: Span,
    /// The rows, packed.
    pub(super) rows: Vec<u8>,
    /// The rows in it that repeat an address of an earlier row, packed.
    pub(super) repeats: Vec<u8>,
}

/// Addresses that are to be asked about.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Its number.
    pub(super) id: u32,
    /// The segment of all of its rows.
    pub(super) segment: u32,
    /// The domain, if all of it is of one.
    pub(super) domain: Option<String>,
    /// How many there are.
    pub(super) count: u32,
    /// The rows and addresses, packed.
    pub(super) addresses: Vec<u8>,
}

/// A chunk without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkHead {
    /// Its number.
    pub(super) id: u32,
    /// The segment of all of its rows.
    pub(super) segment: u32,
    /// The domain, if all of it is of one.
    pub(super) domain: Option<String>,
    /// How many addresses it was made with.
    pub(super) count: u32,
    /// Whether some of them may have an answer.
    pub(super) touched: bool,
}

/// An address that is to be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Postponed {
    /// Its row.
    pub(super) row: u32,
    /// When, in milliseconds since 1970.
    pub(super) due: i64,
    /// How often it has been asked.
    pub(super) attempts: u32,
    /// As it was written.
    pub(super) address: String,
}

/// Results of one segment, packed.
#[derive(Debug)]
pub(super) struct ResultBatch {
    /// Which segment.
    pub(super) segment: u32,
    /// How many.
    pub(super) count: u32,
    /// The results.
    pub(super) results: Vec<u8>,
}

/// What changes together or not at all.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Results to be kept.
    pub(super) batches: Vec<ResultBatch>,
    /// Chunks of which some addresses have an answer now.
    pub(super) touched: Vec<u32>,
    /// Chunks of which all have.
    pub(super) finished: Vec<u32>,
    /// More to be asked.
    pub(super) chunks: Vec<Chunk>,
    /// To be asked again; replaces what was known of the row.
    pub(super) postponed: Vec<Postponed>,
    /// Rows that were to be asked again, and have their answer.
    pub(super) settled: Vec<u32>,
    /// Whether domains accept any local part.
    pub(super) catch_all: Vec<(Box<str>, CatchAll)>,
    /// Values by name.
    pub(super) values: Vec<(&'static str, String)>,
}

/// Where a job is kept. One writer at a time, and any number of readers meanwhile.
pub(super) trait Store: Send {
    /// A value by its name.
    ///
    /// # Errors
    /// The store failed, as with all of these.
    fn value(&self, name: &str) -> Result<Option<String>>;
    /// Adds a segment and its work, while a job is being made.
    fn add(&mut self, segment: &Segment, chunks: &[Chunk]) -> Result<()>;
    /// All segments in their order.
    fn spans(&self) -> Result<Vec<Span>>;
    /// The rows of a segment.
    fn rows(&self, segment: u32) -> Result<Vec<u8>>;
    /// The repeats of all segments.
    fn repeats(&self) -> Result<Vec<Vec<u8>>>;
    /// The chunks from number `from` on, in their order.
    fn chunks(&self, from: u32) -> Result<Vec<ChunkHead>>;
    /// The addresses of a chunk, unless it is finished.
    fn addresses(&self, chunk: u32) -> Result<Option<Vec<u8>>>;
    /// The number for the next chunk.
    fn next_chunk(&self) -> Result<u32>;
    /// What is due at a time, beginning with the longest due, behind the given due time and row.
    fn due(&self, now: i64, after: (i64, u32), limit: u32) -> Result<Vec<Postponed>>;
    /// When the first of what is behind the given due time and row is due.
    fn next_due(&self, after: (i64, u32)) -> Result<Option<i64>>;
    /// Which domains accept any local part, as far as is known.
    fn catch_all(&self) -> Result<Vec<(String, CatchAll)>>;
    /// Tells each batch of the results of a segment, the oldest first. There may be more of them than fit the memory.
    fn results(&self, segment: u32, tell: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
    /// Makes the changes, all or none.
    fn commit(&mut self, changes: &Changes) -> Result<()>;
    /// Has what is due later than `latest`, in milliseconds since 1970, be due then.
    fn bring_forward(&mut self, latest: i64) -> Result<()>;
}
