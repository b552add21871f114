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
    Store(#[from] rusqlite::Error),
    /// The file is no job, or is of another version of this crate.
    #[error("no job that can be read here")]
    Foreign,
    /// What the job has stored makes no sense.
    #[error("the job is damaged")]
    Damaged,
    /// Another process works on the job.
    #[error("another run works on this job")]
    Busy,
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
            _ => None,
        }
    }

    /// Whether it is the input that is at fault, rather than the machine.
    #[must_use]
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Within { error, .. } => error.is_of_input(),
            Self::Store(_) | Self::Damaged | Self::Busy => false,
            _ => true,
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, JobError>;

/// Says what was being done when the system said no.
pub(super) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T> {
        self.map_err(|error| JobError::Io { doing: what, error })
    }
}
