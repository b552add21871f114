//! A job: lists that were imported, and what is known of their rows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    draft::Draft,
    encoding::Packer,
    error::{JobError, Result},
    feeder,
    history::{History, LaneNote, Took, Totals},
    import::{self, Imported},
    input::{Rows, Shape, Source},
    list_file::{KnownBy, Origin},
    lock::Lock,
    open::Access,
    progress::Standing,
    results::{self, JobRow, Known},
    schema::Format,
    sqlite::Sqlite,
    store::{Changes, Span, Store},
    upgrade::renew,
};
use crate::verify::Record;

/// What a job was made of, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The lists.
    pub origins: Vec<Origin>,
    /// Rows of all lists.
    pub rows: u64,
    /// Different addresses among them.
    pub addresses: u64,
    /// Rows that are no address.
    pub invalid: u64,
    /// What it was made for, in the words of its maker. A run of another kind would give verdicts of another kind.
    pub kind: String,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
}

/// A job on the disk, to be read while somebody may be working on it.
#[derive(Debug)]
pub struct Job {
    store: Sqlite,
    about: About,
    spans: Vec<Span>,
}

impl Job {
    /// Makes a job at `path` from the rows of `sources`, all of which are files. It is there when it is whole.
    ///
    /// # Errors
    /// A list cannot be read to its end, or the job cannot be written.
    pub fn create(path: &Path, sources: &[Source], rows: Rows, kind: &str) -> Result<Self> {
        let _lock = Lock::of(path)?;
        let origin = |(source, shape): (&Source, &Shape)| match source {
            Source::File(path) => Origin::of(path, shape.clone()),
            _ => Err(JobError::list(format_args!("{source}: a job is made from files"))),
        };
        // Before they are read: what is changed meanwhile has been changed.
        let mut origins = sources.iter().zip(rows.shapes()).map(origin).collect::<Result<Vec<_>>>()?;
        let (tracker, digests) = (rows.tracker(), rows.digests());
        let mut draft = Draft::new(path)?;
        let imported = import::import(rows, &mut draft.store)?;
        if let Some(failure) = tracker.failure() {
            return Err(failure);
        }
        for (origin, digest) in origins.iter_mut().zip(digests) {
            origin.hash = Some(digest.hash());
        }
        let Imported { rows, addresses, invalid } = imported;
        let about = About { origins, rows, addresses, invalid, kind: kind.into(), created: feeder::now() };
        let about = serde_json::to_string(&about).map_err(|_| JobError::Damaged)?;
        let chunks = draft.store.next_chunk()?.to_string();
        let values = vec![("about", about), ("chunks", chunks)];
        draft.store.commit(&Changes { values, ..Changes::default() })?;
        draft.finish()?;
        Self::open(path)
    }

    /// Opens a job, also where nothing can be written. Each of its pages is checked now, and each row and value when it is
    /// read.
    ///
    /// # Errors
    /// Why it cannot be opened: there is none, it may not be read, it is another file, of a newer version, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let store = Sqlite::open(path, Access::Read)?;
        store.check_pages()?;
        Self::with(store)
    }

    fn with(store: Sqlite) -> Result<Self> {
        let damaged = |what: &str| JobError::Damaged.within(what);
        let about: About = value(&store, "about")?.ok_or_else(|| damaged("its head"))?;
        let spans = store.spans()?;
        let rows: u64 = spans.iter().map(|span| u64::from(span.rows)).sum();
        let is_source = |span: &Span| (span.source as usize) < about.origins.len();
        let counts = about.addresses.checked_add(about.invalid);
        if about.rows != rows || counts.is_none_or(|counts| counts > rows) || !spans.iter().all(is_source) {
            return Err(damaged("its rows"));
        }
        Ok(Self { store, about, spans })
    }

    /// What it was made of.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// How the rows of each list are written.
    #[must_use]
    pub fn shapes(&self) -> Vec<Shape> {
        self.about.origins.iter().map(|origin| origin.shape.clone()).collect()
    }

    /// Whether it was made of just these lists, as they are now, for a run of this kind. Tells by what the lists were
    /// known: [`remember`](Self::remember) makes that quicker the next time.
    ///
    /// # Errors
    /// What differs, or a list cannot be read.
    pub fn check(&self, sources: &[Source], kind: &str) -> Result<KnownBy> {
        let (known_by, _) = find(&self.about, sources)?;
        match self.about.kind == kind {
            true => Ok(known_by),
            false => Err(JobError::OtherKind(self.about.kind.clone())),
        }
    }

    /// Notes where the lists of a job are now, and their content where the job is of version 1, which becomes one of this
    /// version.
    ///
    /// # Errors
    /// They are not the lists of the job; or it cannot be written, or another process works on it.
    pub fn remember(path: &Path, sources: &[Source]) -> Result<()> {
        let lock = Lock::of(path)?;
        renew(path, &lock)?;
        let store = Sqlite::open(path, Access::Write)?;
        store.check_pages()?;
        let Self { mut store, about, .. } = Self::with(store)?;
        let (_, origins) = find(&about, sources)?;
        let about = About { origins, ..about };
        let about = serde_json::to_string(&about).map_err(|_| JobError::Damaged)?;
        store.commit(&Changes { values: vec![("about", about)], ..Changes::default() })
    }

    /// All rows with what is known of them, in their order, some ten thousand at a time.
    pub fn rows(&self) -> impl Iterator<Item = Result<Vec<JobRow>>> + '_ {
        self.spans.iter().flat_map(|span| results::pieces(&self.store, *span))
    }

    /// How many rows have which verdict.
    ///
    /// # Errors
    /// The store fails.
    pub fn standing(&self) -> Result<Standing> {
        let mut standing = Standing::default();
        for span in &self.spans {
            let mut known = vec![None; span.rows as usize];
            results::scan(&self.store, *span, |row, entry| known[row as usize] = entry.verdict())?;
            known.into_iter().for_each(|known| standing.count(known));
        }
        Ok(standing)
    }

    /// How long the operations of all runs took.
    ///
    /// # Errors
    /// The store fails.
    pub fn took(&self) -> Result<Vec<Took>> {
        History::of(&self.store)?.took()
    }

    /// The lanes of all runs: the blocked, and those with the most answers.
    ///
    /// # Errors
    /// The store fails.
    pub fn lanes(&self) -> Result<Vec<LaneNote>> {
        Ok(History::of(&self.store)?.lanes)
    }

    /// What all runs come to.
    ///
    /// # Errors
    /// The store fails.
    pub fn totals(&self) -> Result<Totals> {
        Ok(History::of(&self.store)?.totals)
    }

    /// Takes the verdicts back that `wanted` wants back, and has their addresses asked again: by a run that is going on,
    /// or the next. Tells of how many rows.
    ///
    /// # Errors
    /// The store fails, or the job is of version 1 and another process works on it.
    pub fn retry(path: &Path, mut wanted: impl FnMut(&Record) -> bool) -> Result<u64> {
        if Sqlite::open(path, Access::Read)?.format() == Format::Plain {
            renew(path, &Lock::of(path)?)?;
        }
        let store = Sqlite::open(path, Access::Write)?;
        store.check_pages()?;
        let Self { mut store, spans, .. } = Self::with(store)?;
        let mut repeats = foldhash::HashSet::default();
        for packed in store.repeats()? {
            repeats.extend(import::repeats(&packed)?.into_iter().map(|(_, repeat)| repeat));
        }
        let mut next_chunk = store.next_chunk()?;
        let mut rows = 0;
        for span in spans {
            let (mut packer, mut first) = (Packer::default(), Vec::new());
            for piece in results::pieces(&store, span) {
                let is_wanted = |row: &JobRow| row.known == Known::Verdict && wanted(&row.record);
                for row in piece?.into_iter().filter(is_wanted) {
                    packer.put_void(row.row - span.first);
                    if !repeats.contains(&row.row) {
                        first.push((row.row - span.first, row.record.address));
                    }
                }
            }
            if packer.count == 0 {
                continue;
            }
            rows += u64::from(packer.count);
            let batches = vec![packer.into_batch(span.segment)?];
            let mut chunks = Vec::new();
            for rows in first.chunks(import::CHUNK) {
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

/// Finds the lists of a job among the sources: by what they are known, and how they are noted now.
fn find(about: &About, sources: &[Source]) -> Result<(KnownBy, Vec<Origin>)> {
    let paths: Vec<&Path> = sources
        .iter()
        .filter_map(|source| match source {
            Source::File(path) => Some(path.as_path()),
            _ => None,
        })
        .collect();
    if paths.len() != about.origins.len() {
        let path = paths.first().map_or_else(PathBuf::new, |path| (*path).into());
        return Err(JobError::Changed(path));
    }
    let mut all = (KnownBy::Place, Vec::new());
    for (path, origin) in paths.into_iter().zip(&about.origins) {
        let (by, origin) = origin.find(path)?.ok_or_else(|| JobError::Changed(path.into()))?;
        all.0 = all.0.max(by);
        all.1.push(origin);
    }
    Ok(all)
}

fn value<T: DeserializeOwned>(store: &Sqlite, name: &str) -> Result<Option<T>> {
    let Some(text) = store.value(name)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| JobError::Damaged)
}
