//! How the command ends: the exit codes, and errors that name their place and give a hint.

use std::{fmt, process::ExitCode};

use anyhow::anyhow;
use smtp_pool::job::JobError;

use crate::escape::Escaped;

/// The exit codes, as every `--help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; the verdicts do not matter
  1    something else failed: a file could not be written, or a server could not be reached
  2    wrong usage, configuration or input; everything before the wrong input is written
  3    done, but at least one provider blocked us until the end; its addresses are unknown: ask again later
  4    done, but the projected bounce rate is above that of --gate
  130  interrupted; everything known so far is kept";

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// At least one lane was blocked until the end.
    Blocked = 3,
    /// The projected bounce rate is above the limit of the user.
    Gate = 4,
    /// 128 and the number of SIGINT, as shells report it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that the command shows and then ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: anyhow::Error,
    /// More lines about the error, such as the line of a file with a pointer to the fault.
    detail: Vec<String>,
    hint: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    fn new(exit: Exit, error: anyhow::Error) -> Self {
        Self { exit, error, detail: Vec::new(), hint: None }
    }

    /// Returns an error that the user can correct.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, anyhow!("{message}"))
    }

    /// Returns an error that the user cannot correct, or not here.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, anyhow!("{message}"))
    }

    /// Puts the place in front of the message.
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

/// Displays the error with all its causes on one line. Details and hint have lines of their own. Errors of the library
/// never print their cause themselves.
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

/// Names the place of an error: an option, a file, a line of it.
pub(crate) trait ErrorContext<T> {
    /// Reports wrong input of the user at `place`.
    fn usage_at(self, place: impl fmt::Display) -> Result<T>;
    /// Reports a failure at `place`.
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
