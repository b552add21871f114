//! The hash of a list, which identifies its content.

use std::sync::{Arc, Mutex, PoisonError};

/// The hash of a list while it is read. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Digest(Arc<Mutex<blake3::Hasher>>);

impl Digest {
    pub(super) fn update(&self, octets: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(octets);
    }

    /// Returns the hash of what has been read so far.
    pub(super) fn hash(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finalize().to_hex().to_string()
    }
}
