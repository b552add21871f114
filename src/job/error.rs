//! What can be wrong with lists and jobs.

use std::{fmt, io, path::PathBuf};

/// Why a list or a job is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A list is not what it should be.
    #[error("{fault}")]
    List {
        /// What is wrong with it.
        fault: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something can not be read or written.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Another error, with its place.
    #[error("{place}")]
    Within {
        /// Which file, or which line of it.
        place: String,
        /// What is wrong there.
        #[source]
        error: Box<JobError>,
    },
    /// The store failed.
    #[error("the store of the job failed")]
    Store(#[source] rusqlite::Error),
    /// The file is no job.
    #[error("no job that can be read here: {0}")]
    Foreign(&'static str),
    /// A newer version of this crate has made the job, in a format of this number.
    #[error("the job is of format {0}, which this version of smtp-pool does not know")]
    Newer(i32),
    /// What the job has stored makes no sense.
    #[error("the job is damaged")]
    Damaged,
    /// A value is larger than what can be read back, so that it is not stored.
    #[error("a value is too large for the store of the job")]
    TooLarge,
    /// The file of the job is damaged: in which page, and how.
    #[error("the job is damaged: {0}")]
    DamagedAt(String),
    /// Another process works on the job: its number, where it is known.
    #[error("another run works on this job{}", .0.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    Busy(Option<u32>),
    /// A file is where one of the job's should be, and this crate did not make it.
    #[error("{} is no file of a job, and is left as it is", .0.display())]
    InTheWay(PathBuf),
    /// The job has a log that holds its last results, and may not be read here.
    #[error("{} holds the last results, and cannot be read here", .0.display())]
    Log(PathBuf),
    /// The job was made from other lists, or from these before they were changed.
    #[error("{} is not as it was when the job was made", .0.display())]
    Changed(PathBuf),
    /// The job was made for another kind of run.
    #[error("the job was made {0}")]
    OtherKind(String),
    /// More rows than a job has numbers for.
    #[error("more than 4,000,000,000 rows")]
    TooMany,
}

impl JobError {
    pub(super) fn list(fault: impl fmt::Display) -> Self {
        Self::List { fault: fault.to_string(), hint: None }
    }

    pub(super) fn hinted(fault: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::List { fault: fault.to_string(), hint: Some(hint.into()) }
    }

    pub(super) fn within(self, place: impl fmt::Display) -> Self {
        Self::Within { place: place.to_string(), error: Box::new(self) }
    }

    /// What the user may do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::List { hint, .. } => hint.as_deref(),
            Self::Within { error, .. } => error.hint(),
            Self::Newer(_) => {
                Some("use a version of smtp-pool that is at least as new as the one that made it")
            }
            Self::Damaged | Self::DamagedAt(_) => {
                Some("take a copy that is whole; or `verify --restart` makes the job anew from its list")
            }
            Self::InTheWay(_) => Some("move it away, or write to another output"),
            Self::Log(_) => Some(
                "copy the job and that file to a folder that you may write to; or let its owner run \
                 `smtp-pool job status` once, which takes the file into the job",
            ),
            _ => None,
        }
    }

    /// Whether it is the input that is at fault, rather than the machine.
    #[must_use]
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Within { error, .. } => error.is_of_input(),
            Self::Store(_) | Self::Damaged | Self::DamagedAt(_) | Self::TooLarge | Self::Busy(_) => false,
            _ => true,
        }
    }
}

/// What does not have the type that it should have is damaged; the store did what it could.
impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::{Error as E, ErrorCode};
        match &error {
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..)
            | E::QueryReturnedNoRows => Self::Damaged,
            E::SqliteFailure(failure, text) => match failure.code {
                ErrorCode::NotADatabase => Self::Foreign("it is no file of SQLite"),
                ErrorCode::DatabaseCorrupt => {
                    Self::DamagedAt(text.clone().unwrap_or_else(|| error.to_string()))
                }
                _ => Self::Store(error),
            },
            _ => Self::Store(error),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, JobError>;

/// Says what was being done when the system said no.
pub(super) trait FileErrorContext<T> {
    fn context(self, what: &'static str) -> Result<T>;
}

impl<T> FileErrorContext<T> for io::Result<T> {
    fn context(self, what: &'static str) -> Result<T> {
        self.map_err(|error| JobError::Io { doing: what, error })
    }
}
