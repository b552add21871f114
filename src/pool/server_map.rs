//! The servers that a pool knows: found without a lock, by name or by key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::{Key, ToKey};

/// Servers `S` by key and by name.
pub(super) struct ServerMap<S> {
    servers: papaya::HashMap<Key, Arc<S>, RandomState>,
    /// Servers by how they were named, so that a name need not be parsed again.
    names: papaya::HashMap<Box<str>, Arc<S>, RandomState>,
    /// Taken to add or remove a server, and to close: not to find one.
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
    /// Asks `act` of the server if it is known by this key, without taking a lock.
    pub(super) fn with_key<T>(&self, key: &Key, act: impl FnOnce(&Arc<S>) -> Option<T>) -> Option<T> {
        self.servers.pin().get(key).and_then(act)
    }

    /// Asks `act` of the server if it is known by this name, without taking a lock.
    pub(super) fn with_name<T>(&self, key: &impl ToKey, act: impl FnOnce(&Arc<S>) -> Option<T>) -> Option<T> {
        let name = key.text()?;
        self.names.pin().get(name).and_then(act)
    }

    /// Keeps others from changing what is known.
    pub(super) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a server, while [changing](Self::change).
    pub(super) fn insert(&self, key: Key, server: &Arc<S>) {
        self.servers.pin().insert(key, Arc::clone(server));
    }

    /// Adds a name of a server, while [changing](Self::change).
    pub(super) fn name(&self, name: &str, server: &Arc<S>) {
        self.names.pin().insert(name.into(), Arc::clone(server));
    }

    /// Removes a server with all its names, while [changing](Self::change).
    pub(super) fn remove(&self, key: &Key, server: &Arc<S>) {
        self.servers.pin().remove(key);
        self.names.pin().retain(|_, known| !Arc::ptr_eq(known, server));
    }

    /// Each of them.
    pub(super) fn all(&self) -> Vec<Arc<S>> {
        self.servers.pin().values().cloned().collect()
    }
}
