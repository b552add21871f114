//! The servers that a pool knows. They are found without a lock, by name or by key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::{Key, ToKey};

/// Servers `S` by key and by name.
pub(super) struct ServerMap<S> {
    servers: papaya::HashMap<Key, Arc<S>, RandomState>,
    /// Servers by name, so that a name is parsed once.
    names: papaya::HashMap<Box<str>, Arc<S>, RandomState>,
    /// Locked to add or remove a server and to close, and not to find one.
    changing: Mutex<()>,
}

impl<S> Default for ServerMap<S> {
    fn default() -> Self {
        Self {
            servers: papaya::HashMap::default(),
            names: papaya::HashMap::default(),
            changing: Mutex::default(),
        }
    }
}

impl<S> ServerMap<S> {
    /// Calls `act` with the server of this key, if it is known, without a lock.
    pub(super) fn with_key<T>(&self, key: &Key, act: impl FnOnce(&Arc<S>) -> Option<T>) -> Option<T> {
        self.servers.pin().get(key).and_then(act)
    }

    /// Calls `act` with the server of this name, if it is known, without a lock.
    pub(super) fn with_name<T>(&self, key: &impl ToKey, act: impl FnOnce(&Arc<S>) -> Option<T>) -> Option<T> {
        let name = key.text()?;
        self.names.pin().get(name).and_then(act)
    }

    /// Locks the map against other changes.
    pub(super) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a server. The caller holds the lock of [`change`](Self::change).
    pub(super) fn insert(&self, key: Key, server: &Arc<S>) {
        self.servers.pin().insert(key, Arc::clone(server));
    }

    /// Adds a name of a server. The caller holds the lock of [`change`](Self::change).
    pub(super) fn name(&self, name: &str, server: &Arc<S>) {
        self.names.pin().insert(name.into(), Arc::clone(server));
    }

    /// Removes a server with all its names. The caller holds the lock of [`change`](Self::change).
    pub(super) fn remove(&self, key: &Key, server: &Arc<S>) {
        self.servers.pin().remove(key);
        self.names.pin().retain(|_, known| !Arc::ptr_eq(known, server));
    }

    /// Returns all servers.
    pub(super) fn all(&self) -> Vec<Arc<S>> {
        self.servers.pin().values().cloned().collect()
    }
}
