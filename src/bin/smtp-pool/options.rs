//! Options that several commands share, and the files that options name.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use smtp_pool::{
    job::input::{Hints, InputFormat, Source},
    net::{TlsConfig, TlsConnector, TlsPolicy},
    sandbox::World,
    verify::{Classifier, Providers},
};

use crate::{
    escape::FileName,
    exit::{ErrorContext, Failure, Result},
};

/// How lists are read. By default, their content decides.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The format of the lists: text, csv, jsonl, json, xlsx or xls [default: by their content]
    #[arg(long, help_heading = "Input")]
    pub(crate) format: Option<InputFormat>,
    /// The column, or JSON field, with the addresses: its name, or its number from 1. May be repeated [default: by its
    /// cells]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(crate) column: Vec<String>,
    /// What stands between two cells of CSV: comma, semicolon, tab, pipe, caret, or the character itself [default: found
    /// out]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, help_heading = "Input")]
    pub(crate) delimiter: Option<u8>,
    /// Whether a header comes before the rows [default: a row without an address and number is a header]
    #[arg(long, value_enum, value_name = "YES|NO", help_heading = "Input")]
    pub(crate) header: Option<YesNo>,
    /// Do not read this many lines at the start of each list
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Input")]
    pub(crate) skip: u64,
    /// The encoding of the lists, by its name in the WHATWG Encoding Standard, as in windows-1252 or shift_jis [default:
    /// found out]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(crate) encoding: Option<String>,
    /// The sheet of a workbook: its name, or its number from 1 [default: the first that is shown]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(crate) sheet: Option<String>,
}

/// An answer on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    Yes,
    No,
}

/// Parses a delimiter by its name or itself.
fn delimiter(text: &str) -> std::result::Result<u8, String> {
    match (text, text.as_bytes()) {
        ("comma", _) => Ok(b','),
        ("semicolon", _) => Ok(b';'),
        ("tab" | "\\t", _) => Ok(b'\t'),
        ("pipe", _) => Ok(b'|'),
        ("caret", _) => Ok(b'^'),
        (_, [octet]) => Ok(*octet),
        _ => Err("not comma, semicolon, tab, pipe, caret or one ASCII character".into()),
    }
}

/// When to use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    /// Never
    Off,
    /// With STARTTLS where it is offered, with any certificate
    Opportunistic,
    /// With STARTTLS and a valid certificate, or not at all
    Required,
    /// From the first octet, with a valid certificate
    Implicit,
}

impl From<TlsMode> for TlsPolicy {
    fn from(tls: TlsMode) -> Self {
        match tls {
            TlsMode::Off => Self::Off,
            TlsMode::Opportunistic => Self::Opportunistic,
            TlsMode::Required => Self::Required,
            TlsMode::Implicit => Self::Implicit,
        }
    }
}

pub(crate) fn nameserver(text: &str) -> std::result::Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    let bare = || Some(SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, 53));
    with_port.or_else(bare).ok_or_else(|| {
        "not an IP address with or without a port, as in 192.0.2.53 or [2001:db8::53]:5353".into()
    })
}

pub(crate) fn hints(args: &ListArgs) -> Hints {
    let mut hints = Hints::default();
    (hints.format, hints.columns) = (args.format, args.column.clone());
    (hints.delimiter, hints.skip) = (args.delimiter, args.skip);
    hints.header = args.header.map(|answer| answer == YesNo::Yes);
    (hints.encoding, hints.sheet) = (args.encoding.clone(), args.sheet.clone());
    hints
}

/// Returns the path of the job of an output.
pub(crate) fn job_of(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".job");
    path.into()
}

/// The maximum size of a file of rules, providers, names, or of a world: 16 MiB.
const MAX_TEXT: u64 = 16 << 20;

/// Reads a whole file into memory.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    match text.len() as u64 <= MAX_TEXT {
        true => Ok(text),
        false => Err(io::Error::other("the file is longer than 16 MiB")),
    }
}

/// Returns how to use TLS, with the root certificates of `--ca` added.
pub(crate) fn tls_config(policy: TlsPolicy, ca: Option<&Path>) -> Result<TlsConfig> {
    let config = TlsConfig::for_policy(policy);
    let Some(path) = ca else { return Ok(config) };
    let option = format_args!("--ca {}", FileName(path)).to_string();
    let pem = read_text(path).usage_at(&option)?;
    let config = config.add_roots_pem(pem.as_bytes()).usage_at(&option)?;
    // A text between the markers may still be no certificate.
    TlsConnector::new(&config).usage_at(&option)?;
    Ok(config)
}

pub(crate) fn read_world(path: &Path) -> Result<World> {
    from_toml(path, World::from_toml, "`smtp-pool sandbox --print-world` prints a valid file")
}

pub(crate) fn rules(path: &Path) -> Result<Arc<Classifier>> {
    let hint = "`smtp-pool explain --print-rules` prints a valid file, the built-in rules";
    from_toml(path, Classifier::from_toml, hint).map(Arc::new)
}

pub(crate) fn providers(path: &Path) -> Result<Arc<Providers>> {
    let hint = "`smtp-pool plan --print-providers` prints a valid file, the built-in providers";
    from_toml(path, Providers::from_toml, hint).map(Arc::new)
}

/// Reads a file of TOML. The TOML parser points to a fault on several lines, which stand below the message.
fn from_toml<T, E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
    parse: impl FnOnce(&str) -> std::result::Result<T, E>,
    hint: &str,
) -> Result<T> {
    let text = read_text(path).usage_at(FileName(path))?;
    parse(&text).map_err(|error| {
        let message = format!("{:#}", anyhow::Error::new(error));
        let failure = match message.split_once('\n') {
            Some((place, pointer)) if place.contains("TOML parse error") => {
                Failure::usage(place).detail(pointer.lines())
            }
            _ => Failure::usage(&message),
        };
        failure.within(FileName(path)).hint(hint)
    })
}

/// Parses a number of seconds from the command line. It must be at least `least`, and at most a year.
pub(crate) fn seconds(flag: &str, value: f64, least: f64) -> Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if (least..=31_536_000.0).contains(&value) => Ok(duration),
        _ => Err(Failure::usage(format_args!(
            "{flag} {value}: not a number of seconds from {least} to 31536000"
        ))),
    }
}

pub(crate) fn sources(inputs: &[String]) -> Result<Vec<Source>> {
    use std::io::IsTerminal;
    match inputs {
        [] if std::io::stdin().is_terminal() => Err(Failure::usage("no list or address is given")
            .hint("name one, as in smtp-pool verify list.csv; smtp-pool verify --help shows more")),
        [] => Ok(vec![Source::Stdin]),
        inputs => Ok(Source::of_arguments(inputs)?),
    }
}
