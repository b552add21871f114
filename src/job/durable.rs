//! A job: lists that were imported, and what is known of their rows.

use std::{
    fs,
    hash::BuildHasher,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use foldhash::HashMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    board::{LaneNote, Standing, Took},
    error::{Doing, JobError, Result},
    feed,
    import::{self, Imported},
    input::{Rows, Shape, Source},
    lock::Lock,
    pack::{Entry, Packer, compress},
    results::{self, JobRow, Known},
    sqlite::{Draft, Sqlite},
    store::{Batch, Changes, Span, Store},
};
use crate::{
    proto::Mailbox,
    verify::{Record, SubStatus},
};

/// A list that a job was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its file.
    pub path: PathBuf,
    /// Its size, in octets.
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970.
    pub modified: u128,
    /// How its rows are written.
    pub shape: Shape,
}

impl Origin {
    fn of(path: &Path, shape: Shape) -> Result<Self> {
        let meta =
            fs::metadata(path).doing("cannot be read").map_err(|error| error.within(path.display()))?;
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            path: path.into(),
            size: meta.len(),
            modified: modified.unwrap_or_default().as_nanos(),
            shape,
        })
    }

    fn is_as(&self, other: &Self) -> bool {
        (self.size, self.modified) == (other.size, other.modified)
    }
}

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
        let origins = sources.iter().zip(rows.shapes()).map(origin).collect::<Result<_>>()?;
        let tracker = rows.tracker();
        let mut draft = Draft::new(path)?;
        let made = import::import(rows, &mut draft.store)
            .and_then(|imported| tracker.failure().map_or(Ok(imported), Err));
        let Imported { rows, addresses, invalid } = match made {
            Ok(imported) => imported,
            Err(error) => {
                draft.discard();
                return Err(error);
            }
        };
        let about = About { origins, rows, addresses, invalid, kind: kind.into(), created: feed::now() };
        let about = serde_json::to_string(&about).map_err(|_| JobError::Damaged)?;
        let chunks = draft.store.next_chunk()?.to_string();
        let values = vec![("about", about), ("chunks", chunks)];
        draft.store.commit(&Changes { values, ..Changes::default() })?;
        draft.finish()?;
        Self::open(path)
    }

    /// Opens a job.
    ///
    /// # Errors
    /// There is none, or none that this version can read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::with(Sqlite::open(path, false)?)
    }

    fn with(store: Sqlite) -> Result<Self> {
        let about = value(&store, "about")?.ok_or(JobError::Foreign)?;
        let spans = store.spans()?;
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

    /// Whether it was made of just these lists, as they are now, for a run of this kind.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, sources: &[Source], kind: &str) -> Result<()> {
        let paths: Vec<&Path> = sources
            .iter()
            .filter_map(|source| match source {
                Source::File(path) => Some(path.as_path()),
                _ => None,
            })
            .collect();
        if paths.len() != self.about.origins.len() {
            let path = paths.first().map_or_else(PathBuf::new, |path| (*path).into());
            return Err(JobError::Changed(path));
        }
        for (path, origin) in paths.into_iter().zip(&self.about.origins) {
            if !Origin::of(path, Shape::Plain)?.is_as(origin) {
                return Err(JobError::Changed(path.into()));
            }
        }
        match self.about.kind == kind {
            true => Ok(()),
            false => Err(JobError::OtherKind(self.about.kind.clone())),
        }
    }

    /// All rows with what is known of them, in their order, some ten thousand at a time.
    pub fn rows(&self) -> impl Iterator<Item = Result<Vec<JobRow>>> + '_ {
        self.spans.iter().map(|span| results::segment(&self.store, *span))
    }

    /// How many rows have which verdict.
    ///
    /// # Errors
    /// The store fails.
    pub fn standing(&self) -> Result<Standing> {
        let mut standing = Standing::default();
        for span in &self.spans {
            for entry in results::entries(&self.store, *span)? {
                let (record, is_final) = entry.as_ref().map_or((None, false), Entry::record);
                standing.count(record, is_final);
            }
        }
        Ok(standing)
    }

    /// How long the operations of the last run took.
    ///
    /// # Errors
    /// The store fails.
    pub fn took(&self) -> Result<Vec<Took>> {
        Ok(value(&self.store, "took")?.unwrap_or_default())
    }

    /// The lanes of the last run: the blocked, and those with the most answers.
    ///
    /// # Errors
    /// The store fails.
    pub fn lanes(&self) -> Result<Vec<LaneNote>> {
        Ok(value(&self.store, "lanes")?.unwrap_or_default())
    }

    /// Takes the verdicts back that `wanted` wants back, and has their addresses asked again: by a run that is going on,
    /// or the next. Tells of how many rows.
    ///
    /// # Errors
    /// The store fails.
    pub fn retry(path: &Path, mut wanted: impl FnMut(&Record) -> bool) -> Result<u64> {
        let Self { mut store, spans, .. } = Self::with(Sqlite::open(path, true)?)?;
        let mut repeats = foldhash::HashSet::default();
        for packed in store.repeats()? {
            repeats.extend(import::repeats(&packed)?.into_iter().map(|(_, repeat)| repeat));
        }
        let mut next_chunk = store.next_chunk()?;
        let mut rows = 0;
        for span in spans {
            let segment = results::segment(&store, span)?;
            let is_wanted = |row: &&JobRow| row.known == Known::Verdict && wanted(&row.record);
            let found: Vec<&JobRow> = segment.iter().filter(is_wanted).collect();
            if found.is_empty() {
                continue;
            }
            rows += found.len() as u64;
            let mut packer = Packer::default();
            for row in &found {
                packer.put_void(row.row - span.first);
            }
            let results = compress(&packer.octets)?;
            let batches = vec![Batch { segment: span.segment, count: packer.count, results }];
            let mut chunks = Vec::new();
            let first: Vec<&&JobRow> = found.iter().filter(|row| !repeats.contains(&row.row)).collect();
            for rows in first.chunks(import::CHUNK) {
                let addresses = rows.iter().map(|row| (row.row - span.first, row.record.address.as_str()));
                chunks.push(import::chunk(next_chunk, span.segment, None, addresses)?);
                next_chunk += 1;
            }
            let values = vec![("chunks", next_chunk.to_string())];
            store.commit(&Changes { batches, chunks, values, ..Changes::default() })?;
        }
        Ok(rows)
    }
}

/// Tells of every address whose verdict differs between two jobs, in the order of `after`, then of those that are gone:
/// the verdicts before and after, where there are any. Addresses are the same if they are spelt the same but for the
/// case of the domain.
///
/// # Errors
/// A store fails.
pub fn diff(
    before: &Job,
    after: &Job,
    mut tell: impl FnMut(&str, Option<SubStatus>, Option<SubStatus>),
) -> Result<()> {
    let hasher = foldhash::quality::RandomState::default();
    let key = |address: &str| match Mailbox::parse(address) {
        Ok(mailbox) => hasher.hash_one(mailbox.as_str()),
        Err(_) => hasher.hash_one(address),
    };
    let verdict = |row: &JobRow| (row.known == Known::Verdict).then_some(row.record.sub_status);
    // The verdict, and whether the other job has the address.
    let mut seen: HashMap<u64, (Option<SubStatus>, bool)> = HashMap::default();
    for rows in before.rows() {
        seen.extend(rows?.iter().map(|row| (key(&row.record.address), (verdict(row), false))));
    }
    for rows in after.rows() {
        for row in rows? {
            let now = verdict(&row);
            match seen.get_mut(&key(&row.record.address)) {
                Some((_, true)) => {}
                Some((was, found)) => {
                    *found = true;
                    if *was != now {
                        tell(&row.record.address, *was, now);
                    }
                }
                None => {
                    seen.insert(key(&row.record.address), (None, true));
                    tell(&row.record.address, None, now);
                }
            }
        }
    }
    for rows in before.rows() {
        for row in rows? {
            if let Some((was, found @ false)) = seen.get_mut(&key(&row.record.address)) {
                *found = true;
                tell(&row.record.address, *was, None);
            }
        }
    }
    Ok(())
}

fn value<T: DeserializeOwned>(store: &Sqlite, name: &str) -> Result<Option<T>> {
    let Some(text) = store.value(name)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| JobError::Damaged)
}
