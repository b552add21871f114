//! The lists of a job: where they were, and what was in them.
//!
//! A list is known by its content. To read it again each time would cost the time of the disk. So a list with the same path,
//! device, inode, size and times of change is taken for the same. Another list is the same if its hash is.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    digest::Digest,
    error::{FileErrorContext, Result},
    input::Shape,
};

/// A file that was written to so shortly before it was looked at, in nanoseconds, may have been written to once more
/// without another time: some file systems know seconds only.
const TICK: u128 = 2_500_000_000;
const BUFFER: usize = 256 * 1024;

/// A list that a job was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFile {
    /// Its file, as it was named.
    #[serde(with = "lossy")]
    pub path: PathBuf,
    /// Its size, in octets.
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970.
    pub modified: u128,
    /// How its rows are written.
    pub shape: Shape,
    /// The BLAKE3 hash of its octets as they lie on the disk, in hexadecimal. None in jobs of version 1.
    #[serde(default)]
    pub hash: Option<String>,
    /// Where it was found. None in jobs of version 1.
    #[serde(default, rename = "place")]
    pub identity: Option<FileIdentity>,
}

/// Where a list was found, and when its file last changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The path without symbolic links.
    #[serde(with = "lossy")]
    pub path: PathBuf,
    /// The device and inode; zeros where the system has none.
    pub file: (u64, u64),
    /// When the file or its inode last changed, in nanoseconds since 1970; 0 where the system does not tell.
    pub changed: u128,
    /// When this was looked up, in nanoseconds since 1970.
    pub seen: u128,
}

/// By what a list was known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchedBy {
    /// It is where it was, and was not written to.
    Identity,
    /// What is in it.
    Content,
    /// Its size and the time of its last change, which is all that a job of version 1 knows.
    Time,
}

impl ListFile {
    /// Looks a list up, whose content is not known yet.
    pub(super) fn of(path: &Path, shape: Shape) -> Result<Self> {
        let failed = |error: io::Error| {
            Err::<Self, _>(error).context("cannot be read").map_err(|error| error.within(path.display()))
        };
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) => return failed(error),
        };
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return failed(error),
        };
        let (file, changed) = identity(&meta);
        let modified = meta.modified().map_or(0, nanoseconds);
        let identity = FileIdentity { path: real, file, changed, seen: nanoseconds(SystemTime::now()) };
        Ok(Self {
            path: path.into(),
            size: meta.len(),
            modified,
            shape,
            hash: None,
            identity: Some(identity),
        })
    }

    /// Tells by what the list that is at `path` now is known to be this one, and how it would be noted now. None if it is
    /// another.
    pub(super) fn find(&self, path: &Path) -> Result<Option<(MatchedBy, Self)>> {
        let mut now = Self::of(path, self.shape.clone())?;
        let Some(hash) = &self.hash else {
            let is_same = (self.size, self.modified) == (now.size, now.modified);
            if is_same {
                now.hash = Some(hash_of(path)?);
            }
            return Ok(is_same.then_some((MatchedBy::Time, now)));
        };
        if self.is_where_it_was(&now) {
            return Ok(Some((MatchedBy::Identity, self.clone())));
        }
        if self.size != now.size || hash_of(path)? != *hash {
            return Ok(None);
        }
        now.hash.clone_from(&self.hash);
        Ok(Some((MatchedBy::Content, now)))
    }

    fn is_where_it_was(&self, now: &Self) -> bool {
        let (Some(then), Some(there)) = (&self.identity, &now.identity) else { return false };
        let last = self.modified.max(then.changed);
        (self.size, self.modified, &then.path, then.file, then.changed)
            == (now.size, now.modified, &there.path, there.file, there.changed)
            && last.saturating_add(TICK) < then.seen
    }
}

#[cfg(unix)]
fn identity(meta: &fs::Metadata) -> ((u64, u64), u128) {
    use std::os::unix::fs::MetadataExt;
    let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    ((meta.dev(), meta.ino()), u128::try_from(changed).unwrap_or_default())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> ((u64, u64), u128) {
    Default::default()
}

fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Returns the hash of a file.
fn hash_of(path: &Path) -> Result<String> {
    let hash = || -> io::Result<String> {
        let (digest, mut file) = (Digest::default(), File::open(path)?);
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(digest.hash()),
                Ok(len) => digest.update(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    hash().context("cannot be read").map_err(|error| error.within(path.display()))
}

/// Paths that are not UTF-8 are kept as far as they are.
mod lossy {
    use super::{Cow, Deserialize, Deserializer, Path, PathBuf, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(Cow::<str>::deserialize(deserializer)?.into_owned().into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn touch(path: &Path, time: SystemTime) {
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn noted(path: &Path) -> ListFile {
        let mut origin = ListFile::of(path, Shape::Plain).unwrap();
        origin.hash = Some(hash_of(path).unwrap());
        // As if it had been there for long.
        origin.identity.as_mut().unwrap().seen += 2 * TICK;
        origin
    }

    fn known(origin: &ListFile, path: &Path) -> Option<MatchedBy> {
        origin.find(path).unwrap().map(|(by, _)| by)
    }

    #[test]
    fn a_list_is_known_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let (list, copy) = (dir.path().join("list"), dir.path().join("copy"));
        fs::write(&list, "ann@x.test\n").unwrap();
        let origin = noted(&list);
        assert_eq!(known(&origin, &list), Some(MatchedBy::Identity));
        assert_eq!(known(&origin, &dir.path().join(".").join("list")), Some(MatchedBy::Identity));
        // Another time, another name, another file.
        touch(&list, UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(known(&origin, &list), Some(MatchedBy::Content));
        fs::rename(&list, &copy).unwrap();
        assert_eq!(known(&origin, &copy), Some(MatchedBy::Content));
        fs::copy(&copy, &list).unwrap();
        assert_eq!(known(&origin, &list), Some(MatchedBy::Content));
        assert!(known(&origin, &list) > Some(MatchedBy::Identity));
    }

    #[test]
    fn size_and_time_make_no_list_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (list, other) = (dir.path().join("list"), dir.path().join("other"));
        fs::write(&list, "ann@x.test\n").unwrap();
        let time = SystemTime::now() - Duration::from_secs(100);
        touch(&list, time);
        let origin = noted(&list);
        fs::write(&other, "bob@x.test\n").unwrap();
        touch(&other, time);
        assert_eq!(known(&origin, &other), None);
        // In its place, as `mv` puts it, and written into it.
        fs::rename(&other, &list).unwrap();
        assert_eq!(known(&origin, &list), None);
        let origin = noted(&list);
        fs::write(&list, "eve@x.test\n").unwrap();
        touch(&list, time);
        assert_eq!(known(&origin, &list), if cfg!(unix) { None } else { Some(MatchedBy::Identity) });
        fs::write(&list, "eve@x.test\n\n").unwrap();
        assert_eq!(known(&origin, &list), None);
    }

    #[test]
    fn what_was_just_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "ann@x.test\n").unwrap();
        let mut origin = ListFile::of(&list, Shape::Plain).unwrap();
        origin.hash = Some(hash_of(&list).unwrap());
        assert_eq!(known(&origin, &list), Some(MatchedBy::Content));
    }

    #[test]
    fn without_a_hash_the_time_has_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "ann@x.test\n").unwrap();
        let text = serde_json::to_string(&noted(&list)).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().retain(|name, _| name != "hash" && name != "place");
        let old: ListFile = serde_json::from_value(value).unwrap();
        let (by, now) = old.find(&list).unwrap().unwrap();
        assert_eq!((by, now.hash.is_some()), (MatchedBy::Time, true));
        touch(&list, UNIX_EPOCH);
        assert_eq!(known(&old, &list), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_text() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join(OsStr::from_bytes(b"list\xff"));
        fs::write(&list, "ann@x.test\n").unwrap();
        let text = serde_json::to_string(&noted(&list)).unwrap();
        let origin: ListFile = serde_json::from_str(&text).unwrap();
        assert_eq!(known(&origin, &list), Some(MatchedBy::Content));
    }
}
