//! The log on standard error: `-v` and `RUST_LOG`.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use clap::ColorChoice;
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::{
        FormatFields,
        format::{self, Writer},
    },
};

use crate::escape::Escaped;

/// Logs to standard error if the user asks for it. Returns whether it does.
pub(crate) fn start(verbose: u8, color: ColorChoice) -> bool {
    let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match (&asked, verbose) {
        (Some(filter), _) => filter,
        (None, 0) => return false,
        (None, 1) => "smtp_pool=debug",
        (None, _) => "smtp_pool=trace,hickory_resolver=debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(has_colors(color))
        .fmt_fields(fields())
        .init();
    true
}

/// Returns whether the log has colours. `NO_COLOR` with any text turns them off (no-color.org).
fn has_colors(color: ColorChoice) -> bool {
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
        }
    }
}

/// Returns the format of the fields of events and spans. Only these may hold text from servers.
fn fields() -> impl for<'writer> FormatFields<'writer> {
    format::debug_fn(|out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| match field.name() {
        "message" => write!(out, "{}", Escaped(format_args!("{value:?}"))),
        name => write!(out, "{name}={}", Escaped(format_args!("{value:?}"))),
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_field_forges_a_line_or_steers_a_terminal() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .fmt_fields(fields())
            .finish();
        let odd = "x\nforged\u{1b}[2J\u{9b}\u{202e}";
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("connection", server = %odd).entered();
            tracing::info!(host = odd, reply = %odd, error = ?odd, "said {odd}");
        });
        let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let shown = r"x\nforged\x1b[2J\u{9b}\u{202e}";
        assert!(log.contains(&format!("connection{{server={shown}}}: ")), "{log}");
        assert!(log.contains(&format!(" said {shown} host=")), "{log}");
        assert!(log.contains(&format!(" reply={shown} ")), "{log}");
        assert_eq!(log.find('\n'), Some(log.len() - 1), "{log}");
        assert!(!log.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{log}");
    }
}
