//! The storage interface of a job.
//!
//! The rows of the lists are stored as written, in **segments** of at most 131,072 rows. Results are stored in
//! batches, each of one segment. So the rows and results of one segment fit in memory. A job of any size is read in
//! order in one pass, without an index or sorting.
//!
//! The addresses still to be asked are stored in **chunks** of about 1,000. Large domains have chunks of their own. A
//! chunk is deleted once all its addresses have answers, in the transaction that stores the answers. A resumed run
//! asks the addresses of the remaining chunks that have no answer.

use super::error::Result;
use crate::verify::CatchAll;

/// The most rows of a segment.
pub(super) const MAX_ROWS: u32 = 131_072;

/// The position of a segment: consecutive rows of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The segment number, from 0.
    pub(super) segment: u32,
    /// The number of the source, from 0.
    pub(super) source: u32,
    /// The number of the first row, over all sources.
    pub(super) first: u32,
    /// The number of rows.
    pub(super) rows: u32,
}

/// A segment with its rows.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its position.
    pub(super) span: Span,
    /// The encoded rows.
    pub(super) rows: Vec<u8>,
    /// The encoded repeats: rows whose address an earlier row has.
    pub(super) repeats: Vec<u8>,
}

/// Addresses that are to be asked.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The chunk number.
    pub(super) id: u32,
    /// The segment that holds all its rows.
    pub(super) segment: u32,
    /// The domain, if all addresses have the same one.
    pub(super) domain: Option<String>,
    /// The number of addresses.
    pub(super) count: u32,
    /// The encoded rows and addresses.
    pub(super) addresses: Vec<u8>,
}

/// A chunk without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkHead {
    /// The chunk number.
    pub(super) id: u32,
    /// The segment that holds all its rows.
    pub(super) segment: u32,
    /// The domain, if all addresses have the same one.
    pub(super) domain: Option<String>,
    /// The number of addresses when the chunk was made.
    pub(super) count: u32,
    /// True if some addresses may already have an answer.
    pub(super) touched: bool,
}

/// An address that is to be asked again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Postponed {
    /// The row number, over all sources.
    pub(super) row: u32,
    /// The due time, in milliseconds since 1970.
    pub(super) due: i64,
    /// The number of attempts so far.
    pub(super) attempts: u32,
    /// The address as written.
    pub(super) address: String,
}

/// Encoded results of one segment.
#[derive(Debug)]
pub(super) struct ResultBatch {
    /// The segment number.
    pub(super) segment: u32,
    /// The number of results.
    pub(super) count: u32,
    /// The encoded results.
    pub(super) results: Vec<u8>,
}

/// The changes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New results.
    pub(super) batches: Vec<ResultBatch>,
    /// Chunks of which some addresses now have an answer.
    pub(super) touched: Vec<u32>,
    /// Chunks of which all addresses now have an answer.
    pub(super) finished: Vec<u32>,
    /// New chunks to be asked.
    pub(super) chunks: Vec<Chunk>,
    /// Addresses to be asked again. They replace the entries of the same rows.
    pub(super) postponed: Vec<Postponed>,
    /// Rows of postponed addresses that now have a final answer.
    pub(super) resolved: Vec<u32>,
    /// Catch-all answers by domain.
    pub(super) catch_all: Vec<(Box<str>, CatchAll)>,
    /// Values by name.
    pub(super) values: Vec<(&'static str, String)>,
}

/// The storage of a job. It allows one writer and any number of readers at the same time.
///
/// Every method fails if the storage fails or its data is damaged.
pub(super) trait Store: Send {
    /// Returns a value by its name.
    fn value(&self, name: &str) -> Result<Option<String>>;
    /// Adds a segment and its chunks, while a job is being made.
    fn add(&mut self, segment: &Segment, chunks: &[Chunk]) -> Result<()>;
    /// Returns the positions of all segments, in order.
    fn spans(&self) -> Result<Vec<Span>>;
    /// Returns the encoded rows of a segment.
    fn rows(&self, segment: u32) -> Result<Vec<u8>>;
    /// Returns the encoded repeats of all segments.
    fn repeats(&self) -> Result<Vec<Vec<u8>>>;
    /// Returns the chunks from number `from` on, in order.
    fn chunks(&self, from: u32) -> Result<Vec<ChunkHead>>;
    /// Returns the encoded addresses of a chunk. None if it is finished.
    fn addresses(&self, chunk: u32) -> Result<Option<Vec<u8>>>;
    /// Returns the number for the next chunk.
    fn next_chunk(&self) -> Result<u32>;
    /// Returns the postponed addresses due at `now`, in order of due time and row. It starts after the given pair.
    fn due(&self, now: i64, after: (i64, u32), limit: u32) -> Result<Vec<Postponed>>;
    /// Returns the first due time after the given due time and row.
    fn next_due(&self, after: (i64, u32)) -> Result<Option<i64>>;
    /// Returns the known catch-all answers by domain.
    fn catch_all(&self) -> Result<Vec<(String, CatchAll)>>;
    /// Calls `report` with each result batch of a segment, oldest first. The batches together may exceed the memory.
    fn results(&self, segment: u32, report: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
    /// Applies all changes, or none.
    fn commit(&mut self, changes: &Changes) -> Result<()>;
    /// Makes tasks due at `latest`, in milliseconds since 1970, if their due time is later.
    fn bring_forward(&mut self, latest: i64) -> Result<()>;
}
