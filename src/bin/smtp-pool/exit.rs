//! How the command ends: the exit codes, and errors that name their place and give a hint.

use std::{fmt, process::ExitCode};

use anyhow::anyhow;
use smtp_pool::job::JobError;

use crate::escape::Escaped;

/// The exit codes, as every `--help` tells them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done, whatever the verdicts
  1    something else failed: a file could not be written, a server could not be reached
  2    bad usage, configuration or input; whatever came before the bad input is written
  3    done, but providers did not want us to the end: their addresses are unknown, and may be asked again later
  130  interrupted; whatever was known is kept";

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// Lanes stayed blocked.
    Blocked = 3,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: anyhow::Error,
    /// More lines about it, as a pointer to the place in a file.
    detail: Vec<String>,
    hint: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    fn new(exit: Exit, error: anyhow::Error) -> Self {
        Self { exit, error, detail: Vec::new(), hint: None }
    }

    /// The user can mend it.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, anyhow!("{message}"))
    }

    /// The user cannot, or not here.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, anyhow!("{message}"))
    }

    /// The same, with the place in front.
    pub(crate) fn within(self, place: impl fmt::Display) -> Self {
        Self { error: self.error.context(place.to_string()), ..self }
    }

    /// Adds lines between the message and the hint.
    pub(crate) fn detail<'a>(self, lines: impl Iterator<Item = &'a str>) -> Self {
        Self { detail: lines.map(Into::into).collect(), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The error with all its causes in one line: those of the library never print the next. Details and hint have lines of
/// their own.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(format_args!("{:#}", self.error)).fmt(f)?;
        self.detail.iter().try_for_each(|line| write!(f, "\n    {}", Escaped(line)))?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", Escaped(hint)),
            None => Ok(()),
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let exit = if error.is_of_input() { Exit::Usage } else { Exit::Failed };
        let hint = error.hint().map(Into::into);
        Self { hint, ..Self::new(exit, error.into()) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

/// Names the place of an error: a flag, a file, a line of it.
pub(crate) trait ErrorContext<T> {
    /// The user gave something wrong at `place`.
    fn usage_at(self, place: impl fmt::Display) -> Result<T>;
    /// Something failed at `place`.
    fn failed_at(self, place: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> ErrorContext<T> for std::result::Result<T, E> {
    fn usage_at(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(Exit::Usage, error.into().context(place.to_string())))
    }

    fn failed_at(self, place: impl fmt::Display) -> Result<T> {
        self.usage_at(place).map_err(|failure| Failure { exit: Exit::Failed, ..failure })
    }
}
