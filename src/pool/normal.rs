//! The normal form of a key: two keys that mean the same with one configuration have the same.

use super::{Config, Key};

impl Key {
    /// Sets the port if there is none, and drops every setting that the configuration has as well.
    pub(super) fn normal(mut self, config: &Config) -> Self {
        self.port = Some(self.port.unwrap_or(config.port));
        self.tls.take_if(|policy| *policy == config.tls);
        self.server_name.take_if(|name| **name == *self.host);
        self.bind.take_if(|address| Some(*address) == config.bind);
        self.helo.take_if(|name| *name == config.helo);
        self.normalize_credentials(config.credentials.as_ref());
        self
    }
}
