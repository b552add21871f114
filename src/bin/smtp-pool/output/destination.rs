//! The destination of an output, and the files that it must not replace.
//!
//! An output is written beside its place, under a random name, and renamed when it is complete. Until then the old
//! output stays. So after an error, a full disk or a kill there is the old output or the new one, and never a part of
//! one.
//!
//! An output never replaces a list, a job, a file of options, or any other file that smtp-pool did not write.

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

/// The suffix of a file while it is being written.
const DRAFT_SUFFIX: &str = ".smtp-pool";
/// The number of random characters between the name of the output and the suffix.
const RANDOM_CHARS: usize = 6;
/// A draft without a lock that was last written this long ago belongs to a killed process.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);
/// The maximum number of symbolic links to follow to a file that does not exist.
const MAX_LINKS: u32 = 40;

/// The place of an output, and the files that it must not replace.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    kind: DestinationKind,
    /// The name as the user typed it.
    path: PathBuf,
    name: String,
    protected: Vec<ProtectedFile>,
    is_output: fn(&Path) -> io::Result<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DestinationKind {
    Stdout,
    /// A device or a pipe, which is written to directly.
    Special(PathBuf),
    /// A file that may or may not exist, by its path without symbolic links.
    File(PathBuf),
}

/// A file that no output may replace.
#[derive(Clone, Debug)]
struct ProtectedFile {
    what: &'static str,
    id: Option<Id>,
    /// The size that the file must have, if it is known.
    size: Option<u64>,
    path: PathBuf,
}

/// Returns whether two paths name the same file, also if it does not exist yet.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).ok().and_then(|meta| id(&meta));
    match (id(one), id(other)) {
        (Some(one), Some(other)) => one == other,
        _ => matches!((resolved(one), resolved(other)), (Ok(one), Ok(other)) if one == other),
    }
}

/// The device and the inode, which all names of a file share, also hard links.
type Id = (u64, u64);

impl Destination {
    /// Returns the destination at `path`, or standard output if there is none. `is_output` returns whether a file is an
    /// earlier output, which may be replaced.
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

    /// Returns the file as the user typed it, unless it is standard output, a device or a pipe.
    pub(crate) fn file(&self) -> Option<&Path> {
        matches!(self.kind, DestinationKind::File(_)).then_some(&*self.path)
    }

    /// Returns whether the destination is a stream, whose reader may close it before the end.
    pub(crate) fn is_stream(&self) -> bool {
        self.file().is_none()
    }

    /// Protects this file from being replaced, under any of its names.
    pub(crate) fn protect(&mut self, what: &'static str, path: &Path) {
        let id = fs::metadata(path).ok().and_then(|meta| id(&meta));
        self.protected.push(ProtectedFile {
            what,
            id,
            size: None,
            path: resolved(path).unwrap_or_else(|_| path.into()),
        });
    }

    /// Protects the file that once had this device, inode and size, under any name. If that file is gone, a new file
    /// may have its inode, but hardly its size.
    pub(crate) fn protect_moved(&mut self, what: &'static str, id: Id, size: u64) {
        let id = Some(id).filter(|id| *id != (0, 0));
        self.protected.push(ProtectedFile { what, id, size: Some(size), path: PathBuf::new() });
    }

    /// Protects the file that standard input reads.
    pub(crate) fn protect_stdin(&mut self, what: &'static str) {
        if let Some(meta) = stdio(io::stdin()).filter(Metadata::is_file) {
            self.protected.push(ProtectedFile { what, id: id(&meta), size: None, path: PathBuf::new() });
        }
    }

    /// Checks that the output would replace nothing but an earlier output.
    ///
    /// # Errors
    /// The file is protected, or smtp-pool did not write it.
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
                refuse("the file exists, and smtp-pool did not write it".into())
                    .map_err(|failure: Failure| failure.hint("write to another file, or move this file away"))
            }
            _ => Ok(()),
        }
    }

    /// Starts to write.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), or nothing can be written there.
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

/// An output that is being written. If it is dropped before it is finished, the old output stays.
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
    /// Returns the writer of the output.
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
            |error| Err(error).failed_at(format_args!("{} cannot be written", self.destination.name));
        if let Err(error) = file.as_file().sync_all() {
            return failed(error);
        }
        // A file that came meanwhile is replaced only if it is an output, such as one of the same command run twice at
        // once.
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
    // These are the names that shells and people use. A second open would lose the position of a file that is appended
    // to.
    if ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].map(Path::new).contains(&path) {
        return Ok(DestinationKind::Stdout);
    }
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            Err(Failure::usage("this is a folder, not a file").hint("name a file in it"))
        }
        Ok(meta) if meta.is_file() => {
            Ok(DestinationKind::File(path.canonicalize().usage_at("cannot be opened")?))
        }
        Ok(meta) if is_disk(&meta) => {
            Err(Failure::usage("this is a disk, which smtp-pool does not write to"))
        }
        Ok(_) => Ok(DestinationKind::Special(path.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let resolved = resolved(path)
                .usage_at("its folder cannot be opened")
                .map_err(|failure| failure.hint("make the folder, or name another output"))?;
            Ok(DestinationKind::File(resolved))
        }
        Err(error) => Err(error).usage_at("cannot be opened"),
    }
}

/// Returns the path without symbolic links of a file that may or may not exist. Broken links are followed, too.
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

/// Makes a file beside `path`. Its readers are those of other new files of this user, or those of the old output.
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
        // The umask reduces this, as for any new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder)?;
    // The lock shows that a process is writing the draft. On a file system without locks, no draft is deleted.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Deletes the drafts of this output that killed processes left.
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

/// Copies permissions and owner of the replaced file, as far as this process may.
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

/// Returns the metadata of standard input or output.
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
        // A file with this beginning is an output.
        Destination::new(Some(path), |path| Ok(fs::read(path)?.starts_with(b"ours"))).unwrap()
    }

    fn write(destination: &Destination, text: &str) -> Result<()> {
        let draft = destination.create()?;
        draft.writer().unwrap().write_all(text.as_bytes()).unwrap();
        draft.finish()
    }

    fn message(result: Result<()>) -> String {
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
    fn a_foreign_file_is_not_replaced_even_if_it_appears_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        fs::write(&path, "mine").unwrap();
        assert!(message(write(&destination(&path), "ours")).contains("smtp-pool did not write it\n  hint: "));
        fs::remove_file(&path).unwrap();
        let draft = destination(&path).create().unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(message(draft.finish()).contains("smtp-pool did not write it"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_protected_file_is_found_under_each_of_its_names() {
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
                assert!(message(write(&destination, "ours")).contains("this is the list"), "{name}");
            }
        }
        // A file that does not exist yet.
        let mut destination = destination(&at("x/../out.job-wal"));
        destination.protect("of the job", &at("out.job-wal"));
        assert!(message(write(&destination, "ours")).contains("this is of the job"));
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
        // The owner may read and write with any umask.
        assert_eq!(mode(None) & 0o711, 0o600);
        mode(Some(0o640));
        write(&destination(&at("link")), "ours again").unwrap();
        assert_eq!((mode(None), fs::read_to_string(at("new")).unwrap().as_str()), (0o640, "ours again"));
        symlink("loop", at("loop")).unwrap();
        assert!(Destination::new(Some(&at("loop")), |_| Ok(true)).is_err());
    }

    #[test]
    fn drafts_of_killed_processes_are_deleted() {
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
