//! Completions of shells, and manual pages. Both come from the arguments themselves.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    escape::FileName,
    exit::{EXIT_CODES, ErrorContext, Exit, Failure, Result},
    output::Destination,
};

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS, after_long_help = format!("{COMPLETIONS}\n\n{EXIT_CODES}"))]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Write the manual pages: one of smtp-pool, and one of each command
#[derive(Debug, Args)]
#[command(after_help = MANUAL, after_long_help = format!("{MANUAL}\n\n{EXIT_CODES}"))]
pub(crate) struct ManualArgs {
    /// The folder. It is made if it does not exist. Earlier pages are replaced, and no other file
    pub(crate) folder: PathBuf,
}

const COMPLETIONS: &str = "\
Examples:
  smtp-pool completions bash > ~/.local/share/bash-completion/completions/smtp-pool
  smtp-pool completions zsh > \"${fpath[1]}/_smtp-pool\"
  smtp-pool completions fish > ~/.config/fish/completions/smtp-pool.fish";
const MANUAL: &str = "\
Examples:
  smtp-pool manual ~/.local/share/man/man1";

/// The first octets of each page.
const HEAD: &[u8] = b".ie \\n(.g .ds Aq \\(aq";

pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "smtp-pool", &mut script);
    write(None, &script)
}

pub(crate) fn manual(args: &ManualArgs, command: Command) -> Result<Exit> {
    let folder = &args.folder;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made
            .usage_at(FileName(folder))
            .map_err(|failure: Failure| failure.hint("name a folder, in a folder that exists"))?,
    }
    let mut pages = Vec::new();
    render(command, None, &mut pages).failed_at("the manual pages")?;
    pages
        .iter()
        .try_for_each(|(name, page)| write(Some(&folder.join(format!("{name}.1"))), page).map(drop))?;
    Ok(Exit::Done)
}

/// Renders the page of a command, and those of its commands.
fn render(command: Command, parent: Option<&str>, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let name = match parent {
        Some(parent) => format!("{parent}-{}", command.get_name()),
        None => command.get_name().to_owned(),
    };
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        render(below.clone(), Some(&name), pages)?;
    }
    let mut page = Vec::new();
    Man::new(command.display_name(name.clone())).render(&mut page)?;
    pages.push((name, page));
    Ok(())
}

fn write(path: Option<&Path>, octets: &[u8]) -> Result<Exit> {
    let draft = Destination::new(path, is_page)?.create()?;
    let written = draft.writer().and_then(|mut file| {
        file.write_all(octets)?;
        file.flush()
    });
    match written {
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        written => written.failed_at("the output cannot be written")?,
    }
    draft.finish()?;
    Ok(Exit::Done)
}

fn is_page(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD.len() as u64).read_to_end(&mut head)?;
    Ok(head.is_empty() || head == HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    #[test]
    fn each_command_has_a_page_that_is_recognised() {
        let mut pages = Vec::new();
        render(command(), None, &mut pages).unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["smtp-pool", "smtp-pool-verify", "smtp-pool-clean", "smtp-pool-job-results"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        for (name, page) in &pages {
            let path = dir.path().join(name);
            fs::write(&path, page).unwrap();
            assert!(is_page(&path).unwrap(), "{name}: {}", String::from_utf8_lossy(&page[..40]));
        }
    }

    #[test]
    fn each_shell_completes_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "smtp-pool", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("json-progress") && script.contains("max-connections"), "{shell}");
        }
    }
}
