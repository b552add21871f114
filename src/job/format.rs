//! The format and the compression that the name of a file shows.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2. Lists are read from it, and no output is written to it.
    Bzip2,
    /// xz. Lists are read from it, and no output is written to it.
    Xz,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "Zstandard",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

/// Returns the extension that shows the format, in lower case, and the compression. `list.CSV.gz` gives `csv` and
/// gzip.
#[must_use]
pub fn of(path: &Path) -> (String, Option<Compression>) {
    let extension = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let compression = match &*extension(path) {
        "gz" => Compression::Gzip,
        "zst" => Compression::Zstd,
        other => return (other.to_owned(), None),
    };
    let inner = Path::new(path.file_stem().unwrap_or_default());
    (extension(inner), Some(compression))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_extension_counts() {
        let of = |name: &str| of(Path::new(name));
        assert_eq!(of("a/list.CSV.gz"), ("csv".into(), Some(Compression::Gzip)));
        assert_eq!(of("list.jsonl.zst"), ("jsonl".into(), Some(Compression::Zstd)));
        assert_eq!(of("list.txt"), ("txt".into(), None));
        assert_eq!(of("list.gz"), (String::new(), Some(Compression::Gzip)));
        assert_eq!(of("list"), (String::new(), None));
    }
}
