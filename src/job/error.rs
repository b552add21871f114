//! Errors of lists and jobs.

use std::{fmt, io, path::PathBuf};

/// Why a list or a job cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A list is malformed.
    #[error("{fault}")]
    List {
        /// What is wrong.
        fault: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
    /// A file could not be read or written.
    #[error("{doing}")]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the operating system.
        #[source]
        error: io::Error,
    },
    /// Another error, with its location.
    #[error("{place}")]
    Within {
        /// The file, or the line in it.
        place: String,
        /// What is wrong there.
        #[source]
        error: Box<JobError>,
    },
    /// SQLite failed.
    #[error("the store of the job failed")]
    Store(#[source] rusqlite::Error),
    /// The file is not a job. The text says why.
    #[error("this is not a job file: {0}")]
    Foreign(&'static str),
    /// The job has this format number, which only a newer version of this crate knows.
    #[error("the job is of format {0}, which this version of smtp-pool does not know")]
    Newer(i32),
    /// The stored data is inconsistent.
    #[error("the job is damaged")]
    Damaged,
    /// A value is not stored, because it is larger than the store can read back.
    #[error("a value is too large for the store of the job")]
    TooLarge,
    /// The file of the job is damaged. The text names the page and the fault.
    #[error("the job is damaged: {0}")]
    DamagedAt(String),
    /// Another process works on the job. Its process ID, if known.
    #[error("another run works on this job{}", .0.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    Busy(Option<u32>),
    /// A file that this crate did not make has the name of one of the job's files.
    #[error("{} does not belong to a job, so it was not changed", .0.display())]
    InTheWay(PathBuf),
    /// This process cannot read the log of the job, which holds its last results.
    #[error("{} holds the last results and cannot be read here", .0.display())]
    Log(PathBuf),
    /// The job was made from other lists, or a list has changed since.
    #[error("{} is not the list that the job was made from, or it has changed", .0.display())]
    Changed(PathBuf),
    /// The job was made for another kind of run.
    #[error("the job was made {0}")]
    OtherKind(String),
    /// The lists have more rows than a job can number.
    #[error("the lists have more than 4,000,000,000 rows")]
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

    /// Returns what the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::List { hint, .. } => hint.as_deref(),
            Self::Within { error, .. } => error.hint(),
            Self::Newer(_) => {
                Some("use a version of smtp-pool that is at least as new as the one that made it")
            }
            Self::Damaged | Self::DamagedAt(_) => {
                Some("restore an undamaged copy, or make the job again from its list with `verify --restart`")
            }
            Self::InTheWay(_) => Some("move it away, or write to another output"),
            Self::Log(_) => Some(
                "copy the job and that file to a folder that you may write to; or ask its owner to run \
                 `smtp-pool job status` once, which merges the file into the job",
            ),
            _ => None,
        }
    }

    /// Returns true if the input is at fault, not the machine.
    #[must_use]
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Within { error, .. } => error.is_of_input(),
            Self::Store(_) | Self::Damaged | Self::DamagedAt(_) | Self::TooLarge | Self::Busy(_) => false,
            _ => true,
        }
    }
}

/// A value of a wrong type or range means that the file is damaged. It is not a failure of SQLite.
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
                ErrorCode::NotADatabase => Self::Foreign("it is not an SQLite file"),
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

/// Adds to a system error the operation that failed.
pub(super) trait IoContext<T> {
    fn context(self, what: &'static str) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, what: &'static str) -> Result<T> {
        self.map_err(|error| JobError::Io { doing: what, error })
    }
}
