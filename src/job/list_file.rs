//! The lists of a job: their files and their content.
//!
//! The content hash identifies a list. Hashing it at each start would cost a full read. So a list with the same path,
//! device, inode, size and change times counts as unchanged. Otherwise the hash decides.

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
    error::{IoContext, Result},
    input::{Recognition, Shape},
};

/// The coarsest resolution of a file time that we allow for, in nanoseconds. Some file systems store seconds only. A
/// file changed so shortly before the lookup may change again without a new time.
const TIME_RESOLUTION: u128 = 2_500_000_000;
const BUFFER: usize = 256 * 1024;

/// A list that a job was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListFile {
    /// The path that the caller gave.
    #[serde(with = "lossy")]
    pub path: PathBuf,
    /// Its size, in octets.
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970.
    pub modified: u128,
    /// How its rows are written.
    pub shape: Shape,
    /// What was understood about the list. None in jobs of earlier versions.
    #[serde(default)]
    pub recognition: Option<Recognition>,
    /// The BLAKE3 hash of its octets as they lie on the disk, in hexadecimal. None in jobs of version 1.
    #[serde(default)]
    pub hash: Option<String>,
    /// Where the file was found. None in jobs of version 1.
    #[serde(default, rename = "place")]
    pub identity: Option<FileIdentity>,
}

/// Where a list was found, and when its file last changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileIdentity {
    /// The path without symbolic links.
    #[serde(with = "lossy")]
    pub path: PathBuf,
    /// The device and inode; zeros if the system has none.
    pub file: (u64, u64),
    /// When the file or its inode last changed, in nanoseconds since 1970; 0 if the system does not report it.
    pub changed: u128,
    /// When these values were read, in nanoseconds since 1970.
    pub seen: u128,
}

/// How a list was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MatchedBy {
    /// By its file, which has not changed.
    Identity,
    /// By its content.
    Content,
    /// By its size and modification time. A job of version 1 stores no more.
    Time,
}

impl ListFile {
    /// Reads the metadata of a list. The hash stays None.
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
            recognition: None,
            hash: None,
            identity: Some(identity),
        })
    }

    /// Compares the file at `path` with this list. Returns how it was recognized and what to store about it now, or
    /// None if it is another list.
    pub(super) fn find(&self, path: &Path) -> Result<Option<(MatchedBy, Self)>> {
        let mut now = Self { recognition: self.recognition.clone(), ..Self::of(path, self.shape.clone())? };
        let Some(hash) = &self.hash else {
            let is_same = (self.size, self.modified) == (now.size, now.modified);
            if is_same {
                now.hash = Some(hash_of(path)?);
            }
            return Ok(is_same.then_some((MatchedBy::Time, now)));
        };
        if self.is_unchanged(&now) {
            return Ok(Some((MatchedBy::Identity, self.clone())));
        }
        if self.size != now.size || hash_of(path)? != *hash {
            return Ok(None);
        }
        now.hash.clone_from(&self.hash);
        Ok(Some((MatchedBy::Content, now)))
    }

    fn is_unchanged(&self, now: &Self) -> bool {
        let (Some(then), Some(there)) = (&self.identity, &now.identity) else { return false };
        let last = self.modified.max(then.changed);
        (self.size, self.modified, &then.path, then.file, then.changed)
            == (now.size, now.modified, &there.path, there.file, there.changed)
            && last.saturating_add(TIME_RESOLUTION) < then.seen
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

/// Stores paths as text. Octets that are not UTF-8 are replaced.
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

    fn looked_up(path: &Path) -> ListFile {
        let mut entry = ListFile::of(path, Shape::Plain).unwrap();
        entry.hash = Some(hash_of(path).unwrap());
        // As if the file had been there for a long time.
        entry.identity.as_mut().unwrap().seen += 2 * TIME_RESOLUTION;
        entry
    }

    fn matched(entry: &ListFile, path: &Path) -> Option<MatchedBy> {
        entry.find(path).unwrap().map(|(by, _)| by)
    }

    #[test]
    fn a_list_is_recognized_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let (list, copy) = (dir.path().join("list"), dir.path().join("copy"));
        fs::write(&list, "ann@x.test\n").unwrap();
        let entry = looked_up(&list);
        assert_eq!(matched(&entry, &list), Some(MatchedBy::Identity));
        assert_eq!(matched(&entry, &dir.path().join(".").join("list")), Some(MatchedBy::Identity));
        // A new time, a new name, a new file.
        touch(&list, UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(matched(&entry, &list), Some(MatchedBy::Content));
        fs::rename(&list, &copy).unwrap();
        assert_eq!(matched(&entry, &copy), Some(MatchedBy::Content));
        fs::copy(&copy, &list).unwrap();
        assert_eq!(matched(&entry, &list), Some(MatchedBy::Content));
        assert!(matched(&entry, &list) > Some(MatchedBy::Identity));
    }

    #[test]
    fn equal_size_and_time_are_not_enough() {
        let dir = tempfile::tempdir().unwrap();
        let (list, other) = (dir.path().join("list"), dir.path().join("other"));
        fs::write(&list, "ann@x.test\n").unwrap();
        let time = SystemTime::now() - Duration::from_secs(100);
        touch(&list, time);
        let entry = looked_up(&list);
        fs::write(&other, "bob@x.test\n").unwrap();
        touch(&other, time);
        assert_eq!(matched(&entry, &other), None);
        // First another file in its place, as `mv` does, then other content in the same file.
        fs::rename(&other, &list).unwrap();
        assert_eq!(matched(&entry, &list), None);
        let entry = looked_up(&list);
        fs::write(&list, "eve@x.test\n").unwrap();
        touch(&list, time);
        assert_eq!(matched(&entry, &list), if cfg!(unix) { None } else { Some(MatchedBy::Identity) });
        fs::write(&list, "eve@x.test\n\n").unwrap();
        assert_eq!(matched(&entry, &list), None);
    }

    #[test]
    fn a_list_written_just_now_is_hashed_again() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "ann@x.test\n").unwrap();
        let mut entry = ListFile::of(&list, Shape::Plain).unwrap();
        entry.hash = Some(hash_of(&list).unwrap());
        assert_eq!(matched(&entry, &list), Some(MatchedBy::Content));
    }

    #[test]
    fn without_a_hash_the_time_decides() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "ann@x.test\n").unwrap();
        let text = serde_json::to_string(&looked_up(&list)).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().retain(|name, _| name != "hash" && name != "place");
        let old: ListFile = serde_json::from_value(value).unwrap();
        let (by, now) = old.find(&list).unwrap().unwrap();
        assert_eq!((by, now.hash.is_some()), (MatchedBy::Time, true));
        touch(&list, UNIX_EPOCH);
        assert_eq!(matched(&old, &list), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_text() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join(OsStr::from_bytes(b"list\xff"));
        fs::write(&list, "ann@x.test\n").unwrap();
        let text = serde_json::to_string(&looked_up(&list)).unwrap();
        let entry: ListFile = serde_json::from_str(&text).unwrap();
        assert_eq!(matched(&entry, &list), Some(MatchedBy::Content));
    }
}
