//! How a session ended.

use std::io;

/// Why no more octets can come.
#[derive(Clone, Copy, Debug)]
pub(super) enum SessionEnd {
    Eof,
    Error(Break),
}

/// How a stream broke.
#[derive(Clone, Copy, Debug)]
pub(super) enum Break {
    Io(io::ErrorKind),
    RuntimeEnded,
}

impl Break {
    pub(super) fn of(error: &io::Error) -> Self {
        if tokio::runtime::is_rt_shutdown_err(error) { Self::RuntimeEnded } else { Self::Io(error.kind()) }
    }
}
