//! A job: imported lists and the results of their rows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    draft::JobDraft,
    encoding::EntryEncoder,
    error::{JobError, Result},
    feeder,
    history::{History, LaneSummary, LatencySummary, Totals},
    import::{self, Imported},
    input::{Rows, Shape, Source, question},
    list_file::{ListFile, MatchedBy},
    lock::Lock,
    open::Access,
    progress::JobProgress,
    results::{self, JobRow, RowState},
    schema::StoreFormat,
    sqlite::Sqlite,
    store::{Changes, Span, Store},
    upgrade::upgrade,
};
use crate::verify::Record;

/// The lists that a job was made from, and the kind of run that it was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobInfo {
    /// The lists.
    #[serde(rename = "origins")]
    pub lists: Vec<ListFile>,
    /// Rows of all lists.
    pub rows: u64,
    /// Different addresses among them.
    pub addresses: u64,
    /// Rows that are no address.
    pub invalid: u64,
    /// The kind of run, in the caller's words. A run of another kind gives other verdicts, so it is refused.
    pub kind: String,
    /// When the job was made, in milliseconds since 1970.
    pub created: i64,
}

/// A job on the disk, opened for reading. A run may work on it at the same time.
#[derive(Debug)]
pub struct Job {
    store: Sqlite,
    info: JobInfo,
    spans: Vec<Span>,
}

impl Job {
    /// Makes a job at `path` from the rows of `sources`, all of which are files. It appears at `path` once it is
    /// complete.
    ///
    /// # Errors
    /// Fails if a list cannot be read to its end, or if the job cannot be written.
    pub fn create(path: &Path, sources: &[Source], rows: Rows, kind: &str) -> Result<Self> {
        let _lock = Lock::of(path)?;
        let list_of = |(source, shape): (&Source, &Shape)| match source {
            Source::File(path) => ListFile::of(path, shape.clone()),
            _ => Err(JobError::list(format_args!("{source}: a job is made from files"))),
        };
        // Read the metadata before the content, so that a change during the import counts as a change.
        let mut lists = sources.iter().zip(rows.shapes()).map(list_of).collect::<Result<Vec<_>>>()?;
        for (list, recognition) in lists.iter_mut().zip(rows.recognitions()) {
            list.recognition = Some(recognition.clone());
        }
        let (tracker, digests) = (rows.tracker(), rows.digests());
        let mut draft = JobDraft::new(path)?;
        let imported = import::import(rows, &mut draft.store)?;
        if let Some(failure) = tracker.failure() {
            return Err(failure);
        }
        for (list, digest) in lists.iter_mut().zip(digests) {
            list.hash = Some(digest.hash());
        }
        let Imported { rows, addresses, invalid } = imported;
        let info = JobInfo { lists, rows, addresses, invalid, kind: kind.into(), created: feeder::now() };
        let info = serde_json::to_string(&info).map_err(|_| JobError::Damaged)?;
        let chunks = draft.store.next_chunk()?.to_string();
        let values = vec![("about", info), ("chunks", chunks)];
        draft.store.commit(&Changes { values, ..Changes::default() })?;
        draft.finish()?;
        Self::open(path)
    }

    /// Opens a job, also where nothing can be written. All pages are checked now. Each row and value is checked when
    /// it is read.
    ///
    /// # Errors
    /// Fails if the file does not exist, cannot be read, is not a job, is of a newer version, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let store = Sqlite::open(path, Access::Read)?;
        store.check_pages()?;
        Self::with(store)
    }

    fn with(store: Sqlite) -> Result<Self> {
        let damaged = |what: &str| JobError::Damaged.within(what);
        let info: JobInfo = value(&store, "about")?.ok_or_else(|| damaged("its head"))?;
        let spans = store.spans()?;
        let rows: u64 = spans.iter().map(|span| u64::from(span.rows)).sum();
        let is_source = |span: &Span| (span.source as usize) < info.lists.len();
        let counts = info.addresses.checked_add(info.invalid);
        if info.rows != rows || counts.is_none_or(|counts| counts > rows) || !spans.iter().all(is_source) {
            return Err(damaged("its rows"));
        }
        Ok(Self { store, info, spans })
    }

    /// Returns what the job was made from.
    #[must_use]
    pub fn info(&self) -> &JobInfo {
        &self.info
    }

    /// Returns the number of rows of each list.
    #[must_use]
    pub fn list_rows(&self) -> Vec<u64> {
        let mut rows = vec![0; self.info.lists.len()];
        for span in &self.spans {
            rows[span.source as usize] += u64::from(span.rows);
        }
        rows
    }

    /// Returns how the rows of each list are written.
    #[must_use]
    pub fn shapes(&self) -> Vec<Shape> {
        self.info.lists.iter().map(|list| list.shape.clone()).collect()
    }

    /// Checks that the job was made from these lists, unchanged, for this kind of run. Returns how the lists were
    /// recognized. [`remember`](Self::remember) makes the next check faster.
    ///
    /// # Errors
    /// Fails if a list or the kind differs, or if a list cannot be read.
    pub fn check(&self, sources: &[Source], kind: &str) -> Result<MatchedBy> {
        let (matched_by, _) = find(&self.info, sources)?;
        match self.info.kind == kind {
            true => Ok(matched_by),
            false => Err(JobError::OtherKind(self.info.kind.clone())),
        }
    }

    /// Records where the lists of a job are now. A job of version 1 also gets their content hashes and becomes a job
    /// of the current version.
    ///
    /// # Errors
    /// Fails if these are not the lists of the job, if it cannot be written, or if another process works on it.
    pub fn remember(path: &Path, sources: &[Source]) -> Result<()> {
        let lock = Lock::of(path)?;
        upgrade(path, &lock)?;
        let store = Sqlite::open(path, Access::Write)?;
        store.check_pages()?;
        let Self { mut store, info, .. } = Self::with(store)?;
        let (_, lists) = find(&info, sources)?;
        let info = JobInfo { lists, ..info };
        let info = serde_json::to_string(&info).map_err(|_| JobError::Damaged)?;
        store.commit(&Changes { values: vec![("about", info)], ..Changes::default() })
    }

    /// Returns all rows with their results, in order, about ten thousand at a time.
    pub fn rows(&self) -> impl Iterator<Item = Result<Vec<JobRow>>> + '_ {
        self.spans.iter().flat_map(|span| results::pieces(&self.store, *span))
    }

    /// Returns the number of rows with each verdict.
    ///
    /// # Errors
    /// Fails if the store fails.
    pub fn progress(&self) -> Result<JobProgress> {
        let mut progress = JobProgress::default();
        for span in &self.spans {
            let mut known = vec![None; span.rows as usize];
            results::scan(&self.store, *span, |row, entry| known[row as usize] = entry.verdict())?;
            known.into_iter().for_each(|known| progress.count(known));
        }
        Ok(progress)
    }

    /// Returns how long the operations of all runs took.
    ///
    /// # Errors
    /// Fails if the store fails.
    pub fn latencies(&self) -> Result<Vec<LatencySummary>> {
        History::of(&self.store)?.latencies()
    }

    /// Returns the lanes of all runs, at most 100: blocked lanes first, then those with the most answers.
    ///
    /// # Errors
    /// Fails if the store fails.
    pub fn lanes(&self) -> Result<Vec<LaneSummary>> {
        Ok(History::of(&self.store)?.lanes)
    }

    /// Returns the totals of all runs.
    ///
    /// # Errors
    /// Fails if the store fails.
    pub fn totals(&self) -> Result<Totals> {
        Ok(History::of(&self.store)?.totals)
    }

    /// Voids the verdicts for which `wanted` returns true, so that the current or the next run asks about their
    /// addresses again. Returns the number of rows.
    ///
    /// # Errors
    /// Fails if the store fails, or if the job is of version 1 and another process works on it.
    pub fn retry(path: &Path, mut wanted: impl FnMut(&Record) -> bool) -> Result<u64> {
        if Sqlite::open(path, Access::Read)?.format() == StoreFormat::Plain {
            upgrade(path, &Lock::of(path)?)?;
        }
        let store = Sqlite::open(path, Access::Write)?;
        store.check_pages()?;
        let Self { mut store, spans, .. } = Self::with(store)?;
        let mut repeats = foldhash::HashSet::default();
        for encoded in store.repeats()? {
            repeats.extend(import::repeats(&encoded)?.into_iter().map(|(_, repeat)| repeat));
        }
        let mut next_chunk = store.next_chunk()?;
        let mut rows = 0;
        for span in spans {
            let (mut encoder, mut first) = (EntryEncoder::default(), Vec::new());
            for piece in results::pieces(&store, span) {
                let is_wanted = |row: &JobRow| row.state == RowState::Verdict && wanted(&row.record);
                for row in piece?.into_iter().filter(is_wanted) {
                    encoder.put_void(row.row - span.first);
                    if !repeats.contains(&row.row) {
                        first.push((row.row - span.first, question(&row.record.address).into_owned()));
                    }
                }
            }
            if encoder.count == 0 {
                continue;
            }
            rows += u64::from(encoder.count);
            let batches = vec![encoder.into_batch(span.segment)?];
            let mut chunks = Vec::new();
            for rows in first.chunks(import::CHUNK_SIZE) {
                let addresses = rows.iter().map(|(row, address)| (*row, address.as_str()));
                chunks.push(import::chunk(next_chunk, span.segment, None, addresses)?);
                next_chunk += 1;
            }
            let values = vec![("chunks", next_chunk.to_string())];
            store.commit(&Changes { batches, chunks, values, ..Changes::default() })?;
        }
        Ok(rows)
    }
}

/// Finds the lists of a job among the sources. Returns how they were recognized, and what to store about them now.
fn find(info: &JobInfo, sources: &[Source]) -> Result<(MatchedBy, Vec<ListFile>)> {
    let paths: Vec<&Path> = sources
        .iter()
        .filter_map(|source| match source {
            Source::File(path) => Some(path.as_path()),
            _ => None,
        })
        .collect();
    if paths.len() != info.lists.len() {
        let path = paths.first().map_or_else(PathBuf::new, |path| (*path).into());
        return Err(JobError::Changed(path));
    }
    let mut all = (MatchedBy::Identity, Vec::new());
    for (path, list) in paths.into_iter().zip(&info.lists) {
        let (by, list) = list.find(path)?.ok_or_else(|| JobError::Changed(path.into()))?;
        all.0 = all.0.max(by);
        all.1.push(list);
    }
    Ok(all)
}

fn value<T: DeserializeOwned>(store: &Sqlite, name: &str) -> Result<Option<T>> {
    let Some(text) = store.value(name)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| JobError::Damaged)
}
