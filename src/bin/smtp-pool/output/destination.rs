//! Where an output goes, and what it must not replace.
//!
//! An output is written beside its place, under a random name. It gets its name when it is whole. Until then the old output
//! stays. So an error, a full disk or a kill leaves the old output or the new one, and never half of one.
//!
//! A list, a job, a file of options and any file that is no output of smtp-pool are never replaced.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::NamedTempFile;

use crate::{
    escape::FileName,
    exit::{ErrorContext, Failure, Result},
};

/// With what the name of a file ends that is being written.
const DRAFT_SUFFIX: &str = ".smtp-pool";
/// Characters between the name of the output and that.
const RANDOM_CHARS: usize = 6;
/// A draft without a lock that was not written to for so long was left by a killed process.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);
/// Symbolic links that are followed to a file that is not there.
const MAX_LINKS: u32 = 40;

/// What is to be written, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    kind: DestinationKind,
    /// As it was typed.
    path: PathBuf,
    name: String,
    protected: Vec<ProtectedFile>,
    is_output: fn(&Path) -> io::Result<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DestinationKind {
    Stdout,
    /// A device or a pipe, which is written to as it is.
    Special(PathBuf),
    /// A file, there or not, by its path without symbolic links.
    File(PathBuf),
}

/// A file that is not to be written over.
#[derive(Clone, Debug)]
struct ProtectedFile {
    what: &'static str,
    id: Option<Id>,
    /// What it must have, if that is known.
    size: Option<u64>,
    path: PathBuf,
}

/// Whether two paths are names of one file, or would be if it were there.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).ok().and_then(|meta| id(&meta));
    match (id(one), id(other)) {
        (Some(one), Some(other)) => one == other,
        _ => matches!((resolved(one), resolved(other)), (Ok(one), Ok(other)) if one == other),
    }
}

/// What two names of one file have in common, hard links too.
type Id = (u64, u64);

impl Destination {
    /// Finds out what is at `path`; standard output if there is none. `is_output` tells whether a file is an earlier
    /// output, which may be replaced.
    pub(crate) fn new(path: Option<&Path>, is_output: fn(&Path) -> io::Result<bool>) -> Result<Self> {
        let name = path.map_or_else(|| "standard output".into(), |path| FileName(path).to_string());
        let kind = match path {
            None => DestinationKind::Stdout,
            Some(path) => find(path).map_err(|failure| failure.within(format_args!("--output {name}")))?,
        };
        let path = path.unwrap_or(Path::new("-")).into();
        Ok(Self { kind, path, name, protected: Vec::new(), is_output })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file as it was typed, unless it is standard output, a device or a pipe.
    pub(crate) fn file(&self) -> Option<&Path> {
        matches!(self.kind, DestinationKind::File(_)).then_some(&*self.path)
    }

    /// Whether it is a stream, whose reader may close it before the end.
    pub(crate) fn is_stream(&self) -> bool {
        self.file().is_none()
    }

    /// Never writes over this file, under any of its names.
    pub(crate) fn protect(&mut self, what: &'static str, path: &Path) {
        let id = fs::metadata(path).ok().and_then(|meta| id(&meta));
        self.protected.push(ProtectedFile {
            what,
            id,
            size: None,
            path: resolved(path).unwrap_or_else(|_| path.into()),
        });
    }

    /// Never writes over the file that once had this device, inode and size, under any name. If the file is gone, another
    /// may have its inode now, but hardly one of the same size.
    pub(crate) fn protect_moved(&mut self, what: &'static str, id: Id, size: u64) {
        let id = Some(id).filter(|id| *id != (0, 0));
        self.protected.push(ProtectedFile { what, id, size: Some(size), path: PathBuf::new() });
    }

    /// Never writes over what standard input is read from.
    pub(crate) fn protect_stdin(&mut self, what: &'static str) {
        if let Some(meta) = stdio(io::stdin()).filter(Metadata::is_file) {
            self.protected.push(ProtectedFile { what, id: id(&meta), size: None, path: PathBuf::new() });
        }
    }

    /// Makes sure that nothing is lost by writing there.
    ///
    /// # Errors
    /// The file is to be kept, or is no output of smtp-pool.
    pub(crate) fn check(&self) -> Result<()> {
        let is_same =
            |protected: &&ProtectedFile, meta: Option<&Metadata>| match (protected.id, meta.and_then(id)) {
                (Some(of), Some(this)) => {
                    of == this
                        && protected.size.is_none_or(|size| meta.is_some_and(|meta| meta.len() == size))
                }
                _ => matches!(&self.kind, DestinationKind::File(path) if *path == protected.path),
            };
        let refuse = |message: String| {
            Err(Failure::usage(message).within(match &self.kind {
                DestinationKind::Stdout => self.name.clone(),
                _ => format!("--output {}", self.name),
            }))
        };
        let meta = match &self.kind {
            DestinationKind::Stdout => stdio(io::stdout()).filter(Metadata::is_file),
            DestinationKind::File(path) => fs::metadata(path).ok(),
            DestinationKind::Special(_) => return Ok(()),
        };
        if let Some(protected) = self.protected.iter().find(|protected| is_same(protected, meta.as_ref())) {
            let refused = refuse(format!("this is {}", protected.what));
            return refused.map_err(|failure: Failure| failure.hint("write to another file"));
        }
        match (&self.kind, meta) {
            (DestinationKind::File(path), Some(_))
                if !(self.is_output)(path).usage_at(format_args!("--output {}", self.name))? =>
            {
                refuse("there is such a file, and smtp-pool did not write it".into())
                    .map_err(|failure: Failure| failure.hint("write to another file, or move this one away"))
            }
            _ => Ok(()),
        }
    }

    /// Begins to write.
    ///
    /// # Errors
    /// As with [`check`](Self::check), or nothing can be written there.
    pub(crate) fn create(&self) -> Result<OutputDraft> {
        self.check()?;
        let raw = match &self.kind {
            DestinationKind::Stdout => Ok(Raw::Stdout),
            DestinationKind::Special(path) => File::options().write(true).open(path).map(Raw::Special),
            DestinationKind::File(path) => draft(path).map(Raw::OutputDraft),
        };
        Ok(OutputDraft {
            raw: raw.usage_at(format_args!("--output {}", self.name))?,
            destination: self.clone(),
        })
    }
}

/// An output that is being written. Dropped before it is finished, it leaves what was there.
pub(crate) struct OutputDraft {
    raw: Raw,
    destination: Destination,
}

enum Raw {
    Stdout,
    Special(File),
    OutputDraft(NamedTempFile),
}

impl OutputDraft {
    /// Where to write to.
    pub(crate) fn writer(&self) -> io::Result<Box<dyn Write>> {
        Ok(match &self.raw {
            Raw::Stdout => Box::new(io::stdout()),
            Raw::Special(file) => Box::new(file.try_clone()?),
            Raw::OutputDraft(file) => Box::new(file.as_file().try_clone()?),
        })
    }

    /// Gives the output its name, when all of it is on the disk.
    pub(crate) fn finish(self) -> Result<()> {
        let (Raw::OutputDraft(file), DestinationKind::File(path)) = (self.raw, &self.destination.kind) else {
            return Ok(());
        };
        let failed =
            |error| Err(error).failed_at(format_args!("{}: cannot be written", self.destination.name));
        if let Err(error) = file.as_file().sync_all() {
            return failed(error);
        }
        // Not over what came meanwhile, unless it is an output again: of the same command, say, run twice at once.
        let file = match path.exists() {
            true => file,
            false => match file.persist_noclobber(path) {
                Ok(_) => return Ok(()),
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => error.file,
                Err(error) => return failed(error.error),
            },
        };
        self.destination.check()?;
        copy_permissions(file.as_file(), path);
        file.persist(path).map(drop).or_else(|error| failed(error.error))
    }
}

fn find(path: &Path) -> Result<DestinationKind> {
    // By the names that shells and people use; to open it anew would lose the place in a file that it is appended to.
    if ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].map(Path::new).contains(&path) {
        return Ok(DestinationKind::Stdout);
    }
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(Failure::usage("this is a folder").hint("name a file in it")),
        Ok(meta) if meta.is_file() => {
            Ok(DestinationKind::File(path.canonicalize().usage_at("cannot be opened")?))
        }
        Ok(meta) if is_disk(&meta) => Err(Failure::usage("this is a disk")),
        Ok(_) => Ok(DestinationKind::Special(path.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let resolved = resolved(path).usage_at("there is no such folder")?;
            Ok(DestinationKind::File(resolved))
        }
        Err(error) => Err(error).usage_at("cannot be opened"),
    }
}

/// The path without symbolic links of a file that is there or not. A link that leads to nothing is followed as well.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match path.canonicalize() {
            Ok(real) => return Ok(real),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let folder = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => return Err(ErrorKind::InvalidFilename.into()),
        };
        let folder = folder.canonicalize()?;
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(folder.join(path.file_name().ok_or(ErrorKind::InvalidFilename)?)),
        }
    }
    Err(ErrorKind::NotFound.into())
}

/// Makes a file beside `path`, readable by those who may read other files of this user, or the output before.
fn draft(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{}.", name.chars().take(50).collect::<String>());
    delete_abandoned(folder, &prefix);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(DRAFT_SUFFIX).rand_bytes(RANDOM_CHARS);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Less the umask, as with any other new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder)?;
    // The lock shows that the draft is being written. Where files cannot be locked, no draft is swept.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Deletes drafts of this output that killed processes left.
fn delete_abandoned(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let middle = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .and_then(|rest| rest.strip_suffix(DRAFT_SUFFIX));
        let is_draft =
            |middle: &str| middle.len() == RANDOM_CHARS && middle.chars().all(|c| c.is_ascii_alphanumeric());
        if middle.is_some_and(is_draft) && is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let is_old = || meta.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED_AFTER));
    meta.is_file() && is_old() && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Gives a file the permissions of that which it replaces, and its owner, as far as this process may.
fn copy_permissions(file: &File, from: &Path) {
    let Ok(meta) = fs::metadata(from) else { return };
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let _ = fchown(file, Some(meta.uid()), Some(meta.gid()));
        let _ = file.set_permissions(fs::Permissions::from_mode(meta.permissions().mode() & 0o777));
    }
    #[cfg(not(unix))]
    let _ = file.set_permissions(meta.permissions());
}

#[cfg(unix)]
fn id(meta: &Metadata) -> Option<Id> {
    use std::os::unix::fs::MetadataExt;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn id(_: &Metadata) -> Option<Id> {
    None
}

#[cfg(unix)]
fn is_disk(meta: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_disk(_: &Metadata) -> bool {
    false
}

/// What standard input or output is.
#[cfg(unix)]
fn stdio(stream: impl std::os::fd::AsFd) -> Option<Metadata> {
    File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()
}

#[cfg(not(unix))]
fn stdio<S>(_: S) -> Option<Metadata> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(path: &Path) -> Destination {
        // A file that begins like this is an output.
        Destination::new(Some(path), |path| Ok(fs::read(path)?.starts_with(b"ours"))).unwrap()
    }

    fn write(destination: &Destination, text: &str) -> Result<()> {
        let draft = destination.create()?;
        draft.writer().unwrap().write_all(text.as_bytes()).unwrap();
        draft.finish()
    }

    fn told(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn an_output_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let first = destination(&path).create().unwrap();
        first.writer().unwrap().write_all(b"ours 1").unwrap();
        assert!(!path.exists() && count() == 1);
        drop(first);
        assert_eq!(count(), 0);
        write(&destination(&path), "ours 2").unwrap();
        let second = destination(&path).create().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours 2");
        drop(second);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), count()), ("ours 2", 1));
    }

    #[test]
    fn what_is_no_output_is_left_alone_also_when_it_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        fs::write(&path, "mine").unwrap();
        assert!(told(write(&destination(&path), "ours")).contains("smtp-pool did not write it\n  hint: "));
        fs::remove_file(&path).unwrap();
        let draft = destination(&path).create().unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(told(draft.finish()).contains("smtp-pool did not write it"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_kept_is_found_under_each_of_its_names() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("list"), "ours, and yet a list").unwrap();
        fs::hard_link(at("list"), at("hard")).unwrap();
        symlink("list", at("soft")).unwrap();
        symlink("soft", at("softer")).unwrap();
        fs::create_dir(at("x")).unwrap();
        for name in ["list", "hard", "soft", "softer", "x/../list", "./list"] {
            for protected in ["list", "hard", "softer"] {
                let mut destination = destination(&at(name));
                destination.protect("the list", &at(protected));
                assert!(told(write(&destination, "ours")).contains("this is the list"), "{name}");
            }
        }
        // What is not there yet, and may come.
        let mut destination = destination(&at("x/../out.job-wal"));
        destination.protect("of the job", &at("out.job-wal"));
        assert!(told(write(&destination, "ours")).contains("this is of the job"));
        assert_eq!(fs::read_to_string(at("list")).unwrap(), "ours, and yet a list");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_permissions_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink("new", at("link")).unwrap();
        write(&destination(&at("link")), "ours").unwrap();
        assert!(at("link").is_symlink() && fs::read_to_string(at("new")).unwrap() == "ours");
        let mode = |mode: Option<u32>| {
            if let Some(mode) = mode {
                fs::set_permissions(at("new"), fs::Permissions::from_mode(mode)).unwrap();
            }
            fs::metadata(at("new")).unwrap().permissions().mode() & 0o777
        };
        // With any umask the owner may read and write.
        assert_eq!(mode(None) & 0o711, 0o600);
        mode(Some(0o640));
        write(&destination(&at("link")), "ours again").unwrap();
        assert_eq!((mode(None), fs::read_to_string(at("new")).unwrap().as_str()), (0o640, "ours again"));
        symlink("loop", at("loop")).unwrap();
        assert!(Destination::new(Some(&at("loop")), |_| Ok(true)).is_err());
    }

    #[test]
    fn drafts_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED_AFTER;
        for name in [
            ".out.csv.abcdef.smtp-pool",
            ".out.csv.job.abcdef.smtp-pool",
            ".out.csv.abcdef",
            "abcdef.smtp-pool",
        ] {
            fs::write(at(name), "half").unwrap();
            File::options().append(true).open(at(name)).unwrap().set_modified(long_ago).unwrap();
        }
        fs::write(at(".out.csv.ghijkl.smtp-pool"), "just written").unwrap();
        let other = destination(&at("out.csv")).create().unwrap();
        assert!(!at(".out.csv.abcdef.smtp-pool").exists());
        drop(other);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
