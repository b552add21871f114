//! The defaults of the user: configuration files and the environment.
//!
//! The command line has priority over `SMTP_POOL_…`, then `smtp-pool.toml` in the current folder, then
//! `smtp-pool/config.toml` in the folder for configurations of the user. A setting has the name of an option of `verify`,
//! and becomes its default in every command that has it.

use std::{
    env,
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use serde_json::json;
use toml::{Table, Value};

use crate::{
    escape::{Escaped, FileName},
    exit::{EXIT_CODES, ErrorContext, Exit, Failure, Result},
    terminal::Terminal,
};

/// The options that may have a default of the user: those about who asks, which servers, and how.
const KEYS: [&str; 16] = [
    "helo",
    "from",
    "bind",
    "nameserver",
    "port",
    "tls",
    "timeout",
    "max-connections",
    "attempts",
    "retry-after",
    "risky",
    "disposable",
    "free",
    "role",
    "rules",
    "providers",
];
/// The commands whose options get defaults.
const COMMANDS: [&str; 5] = ["verify", "clean", "plan", "probe", "doctor"];
/// The maximum size of a file.
const MAX_OCTETS: u64 = 1 << 20;

/// Print which defaults hold, and where they come from
///
/// A setting has the name of an option, as in `helo = "mail.example.org"` or `providers = "providers.toml"`. The command
/// line has priority over SMTP_POOL_HELO and the like, then smtp-pool.toml in the current folder, then
/// ~/.config/smtp-pool/config.toml.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct ConfigArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  smtp-pool config
  SMTP_POOL_HELO=mail.example.org smtp-pool config --json";

/// A default of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    key: &'static str,
    values: Vec<String>,
    origin: String,
}

/// Reads the defaults. A later one replaces an earlier one of the same name. `command` returns the command line, which the
/// settings are checked with.
///
/// # Errors
/// A file cannot be read, or a setting is wrong.
pub(crate) fn load(command: fn() -> Command) -> Result<Vec<Setting>> {
    let folder = env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")));
    let mut settings = Vec::new();
    for path in folder
        .map(|folder| folder.join("smtp-pool/config.toml"))
        .into_iter()
        .chain([PathBuf::from("smtp-pool.toml")])
    {
        if let Some(text) = read(&path).usage_at(FileName(&path))? {
            let found = parse(&text, &path).map_err(|failure| failure.within(FileName(&path)))?;
            found.into_iter().for_each(|setting| put(&mut settings, setting));
        }
    }
    for key in KEYS {
        let name = format!("SMTP_POOL_{}", key.replace('-', "_").to_uppercase());
        if let Some(value) = env::var(&name).ok().filter(|value| !value.is_empty()) {
            put(&mut settings, Setting { key, values: vec![value], origin: name });
        }
    }
    settings.iter().try_for_each(|setting| check(setting, command()))?;
    Ok(settings)
}

fn put(settings: &mut Vec<Setting>, setting: Setting) {
    settings.retain(|earlier| earlier.key != setting.key);
    settings.push(setting);
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // The folder belongs to another user, as after sudo or su. It holds no configuration of this one.
        Err(_) if path.metadata().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_OCTETS + 1).read_to_string(&mut text)?;
    match text.len() as u64 <= MAX_OCTETS {
        true => Ok(Some(text)),
        false => Err(io::Error::other("the file is longer than 1 MiB")),
    }
}

fn parse(text: &str, path: &Path) -> Result<Vec<Setting>> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let message = error.to_string();
        let mut lines = message.lines();
        Failure::usage(lines.next().unwrap_or_default()).detail(lines)
    })?;
    let setting = |(key, value): (String, Value)| {
        let known = KEYS.into_iter().find(|known| **known == key.replace('_', "-"));
        let key = known.ok_or_else(|| {
            Failure::usage(format_args!("{key}: there is no such setting"))
                .hint(format!("use {}", KEYS.join(", ")))
        })?;
        let values = match value {
            Value::Array(values) => {
                values.into_iter().map(|value| plain(key, value)).collect::<Result<_>>()?
            }
            value => vec![plain(key, value)?],
        };
        Ok(Setting { key, values, origin: FileName(path).to_string() })
    };
    table.into_iter().map(setting).collect()
}

fn plain(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => Err(Failure::usage(format_args!("{key}: not a text or a number"))),
    }
}

/// Checks a setting as if it stood on the command line.
fn check(setting: &Setting, command: Command) -> Result<()> {
    let options = setting.values.iter().map(|value| format!("--{}={value}", setting.key));
    let line = ["smtp-pool".to_owned(), "verify".to_owned()].into_iter().chain(options);
    match command.try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err(Failure::usage(first).within(&setting.origin))
        }
    }
}

/// Makes the settings the defaults of the options.
pub(crate) fn apply(command: Command, settings: &[Setting]) -> Command {
    COMMANDS.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| settings.iter().fold(below, with_default))
    })
}

fn with_default(command: Command, setting: &Setting) -> Command {
    let of_key = |argument: &&clap::Arg| argument.get_long() == Some(setting.key);
    let Some(id) = command.get_arguments().find(of_key).map(|argument| argument.get_id().clone()) else {
        return command;
    };
    // Clap keeps defaults as long as the process runs.
    let values: Vec<&'static str> = setting.values.iter().map(|value| &*value.clone().leak()).collect();
    command.mut_arg(id, |argument| argument.default_values(values))
}

/// Prints the settings.
pub(crate) fn run(args: &ConfigArgs, settings: &[Setting], command: &Command) -> Result<Exit> {
    let verify = command.find_subcommand("verify");
    let built_in = |key: &str| -> Vec<String> {
        let arguments = verify.iter().flat_map(|verify| verify.get_arguments());
        let argument = arguments.into_iter().find(|argument| argument.get_long() == Some(key));
        let values = argument.map(|argument| argument.get_default_values()).unwrap_or_default();
        values
            .iter()
            .map(|value| value.to_string_lossy().into_owned())
            .filter(|value| !value.is_empty())
            .collect()
    };
    let lines = KEYS.map(|key| match settings.iter().find(|setting| setting.key == key) {
        Some(Setting { values, origin, .. }) => (key, values.clone(), origin.as_str()),
        None => (key, built_in(key), "default"),
    });
    let mut out = Terminal::out().buffered();
    let written = match args.json {
        true => {
            let object: serde_json::Map<_, _> = lines
                .into_iter()
                .map(|(key, values, origin)| (key.to_owned(), json!({ "values": values, "from": origin })))
                .collect();
            out.json(&object)
        }
        false => lines.into_iter().try_for_each(|(key, values, origin)| {
            let value = if values.is_empty() { "-".into() } else { values.join(",") };
            out.line(format_args!("{key:<16} {:<32} {origin}", Escaped(value).to_string()))
        }),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).failed_at("standard output"),
        _ => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    #[test]
    fn a_file_sets_options_by_their_names() {
        let path = Path::new("smtp-pool.toml");
        let text = "helo = 'mail.example.org'\nmax_connections = 8\nretry-after = [60, 300.5]\n";
        let found = parse(text, path).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.key, it.values.join(","))).collect();
        assert!(found.contains(&("helo", "mail.example.org".into())), "{found:?}");
        assert!(
            found.contains(&("max-connections", "8".into()))
                && found.contains(&("retry-after", "60,300.5".into()))
        );
        for (wrong, part) in [
            ("hello = 'x'", "hello: there is no such setting"),
            ("output = 'x'", "output: there is no such setting"),
            ("helo = true", "helo: not a text or a number"),
            ("helo = ", "TOML parse error"),
        ] {
            let failure = parse(wrong, path).unwrap_err().to_string();
            assert!(failure.contains(part), "{failure}");
        }
    }

    #[test]
    fn each_setting_is_an_option_that_takes_its_value() {
        let line = command();
        let verify = line.find_subcommand("verify").unwrap();
        for key in KEYS {
            assert!(verify.get_arguments().any(|argument| argument.get_long() == Some(key)), "{key}");
        }
        let setting = |key, value: &str| Setting { key, values: vec![value.into()], origin: "here".into() };
        assert!(check(&setting("port", "2525"), command()).is_ok());
        assert!(check(&setting("port", "x"), command()).unwrap_err().to_string().contains("here"));
        let settings = [setting("port", "2525"), setting("helo", "mail.example.org")];
        let matches = apply(command(), &settings).try_get_matches_from(["smtp-pool", "verify", "a@x.test"]);
        let matches = matches.unwrap();
        let (_, verify) = matches.subcommand().unwrap();
        assert_eq!(verify.get_one::<u16>("port"), Some(&2525));
        assert_eq!(verify.get_one::<String>("helo").unwrap(), "mail.example.org");
    }
}
