//! The configuration from environment variables.

use super::{
    Config, ConfigError,
    config::{KEYS, Raw},
};

/// The prefix of the variables.
const PREFIX: &str = "SMTP_";

impl Config {
    /// Returns the defaults, changed by the environment: `SMTP_MAX_CONNECTIONS=4`, `SMTP_TLS=required` and so on.
    ///
    /// Kubernetes sets variables for each service, as `SMTP_SERVICE_HOST` and `SMTP_PORT=tcp://…` for one named `smtp`.
    /// They are no settings: they are skipped with a warning.
    ///
    /// # Errors
    /// A variable that begins with `SMTP_` and is none of the keys, or has an invalid value.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_env_with_prefix(PREFIX)
    }

    /// Reads the environment as [`from_env`](Self::from_env) does, with another prefix than `SMTP_`.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_env_with_prefix(prefix: &str) -> Result<Self, ConfigError> {
        // A value that is not UTF-8 is invalid for any key, and an error there.
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Self::from_vars_with_prefix(prefix, vars)
    }

    /// Returns the defaults, changed by those variables that begin with `SMTP_`.
    ///
    /// ```
    /// use smtp_pool::pool::Config;
    /// let config = Config::from_vars([("SMTP_MAX_RETRIES", "1"), ("HOME", "/root")])?;
    /// assert_eq!(config.max_retries, 1);
    /// # Ok::<(), smtp_pool::pool::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars<N: AsRef<str>, V: AsRef<str>>(
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        Self::from_vars_with_prefix(PREFIX, vars)
    }

    /// Reads variables as [`from_vars`](Self::from_vars) does, with another prefix than `SMTP_`.
    ///
    /// ```
    /// use smtp_pool::pool::Config;
    /// let config = Config::from_vars_with_prefix("MAIL_", [("MAIL_PORT", "587"), ("SMTP_PORT", "25")])?;
    /// assert_eq!(config.port, 587);
    /// # Ok::<(), smtp_pool::pool::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars_with_prefix<N: AsRef<str>, V: AsRef<str>>(
        prefix: &str,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        let mut raw = Raw::default();
        for (name, value) in vars {
            let (name, value) = (name.as_ref(), value.as_ref());
            let Some(key) = name.strip_prefix(prefix).map(str::to_ascii_lowercase) else { continue };
            if is_service_variable(&key, value) {
                tracing::warn!(variable = name, "skipped: a variable of a Kubernetes service, not a setting");
            } else {
                raw.set(&key, value)?;
            }
        }
        raw.finish()
    }
}

/// Returns whether a variable belongs to a service of Kubernetes or a link of Docker, and is not a setting. Examples are
/// `…SERVICE_HOST`, `…SERVICE_PORT_NAME`, `…PORT=tcp://…` and `…PORT_25_TCP_ADDR`.
fn is_service_variable(key: &str, value: &str) -> bool {
    if KEYS.contains(&key) {
        return key == "port" && value.contains("://");
    }
    let is_port = |rest: &str| {
        let (number, rest) = rest.split_once('_').unwrap_or((rest, ""));
        number.parse::<u16>().is_ok() && ["tcp", "udp", "sctp"].iter().any(|name| rest.starts_with(name))
    };
    key.starts_with("service_")
        || key.contains("_service_")
        || key.ends_with("_port")
        || key.rsplit_once("port_").is_some_and(|(_, rest)| is_port(rest))
        || key.split_once("port_").is_some_and(|(_, rest)| is_port(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_are_no_settings() {
        let own = [("SMTP_SERVER", "smtp.example.com"), ("SMTP_MAX_RETRIES", "1")];
        let services = [
            ("SMTP_SERVICE_HOST", "10.0.0.7"),
            ("SMTP_SERVICE_PORT", "25"),
            ("SMTP_SERVICE_PORT_SUBMISSION", "587"),
            ("SMTP_PORT", "tcp://10.0.0.7:25"),
            ("SMTP_PORT_25_TCP", "tcp://10.0.0.7:25"),
            ("SMTP_PORT_25_TCP_PROTO", "tcp"),
            ("SMTP_PORT_25_TCP_PORT", "25"),
            ("SMTP_PORT_25_TCP_ADDR", "10.0.0.7"),
            ("SMTP_RELAY_SERVICE_HOST", "10.0.0.8"),
            ("SMTP_RELAY_PORT", "tcp://10.0.0.8:25"),
            ("SMTP_RELAY_PORT_25_TCP_ADDR", "10.0.0.8"),
        ];
        let config = Config::from_vars(own.into_iter().chain(services)).unwrap();
        assert_eq!(config, Config::from_vars(own).unwrap());
        assert_eq!((config.port, config.max_retries), (25, 1));
        // A typing error stays one.
        for wrong in ["SMTP_PROT", "SMTP_HOST", "SMTP_SERVIC_HOST", "SMTP_PORT_X"] {
            assert!(Config::from_vars([(wrong, "25")]).is_err(), "{wrong}");
        }
        assert!(Config::from_vars([("SMTP_PORT", "smtp")]).is_err());
    }
}
