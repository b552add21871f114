//! The configuration of a pool, from code, from a file or from the environment, by one table of keys.

use std::{net::IpAddr, num::NonZeroUsize, str::FromStr, time::Duration};

use thiserror::Error;

use super::{Key, clock::MAX_WAIT};
use crate::{
    client::Timeouts,
    net::TlsPolicy,
    proto::{ClientName, Credentials},
};

/// The most connections to one server: as many ports as a local address has. Their places are allocated when the server
/// is first asked for.
pub(super) const MAX_CONNECTIONS: usize = 65_536;

/// The configuration of a [`Pool`](super::Pool).
///
/// From code, set the fields, or use the methods of the same names of [`Builder`](super::Builder). From a file
/// (feature `serde`), the keys are the names of the fields, and durations are seconds, with an optional fraction. From the
/// environment, a variable is `SMTP_` and the key in capitals. An unknown key and an invalid value are errors that name
/// the key.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use smtp_pool::pool::Config;
/// let config: Config = toml::from_str("max_connections = 4\nidle_timeout = 90.5\ntls = \"required\"")?;
/// assert_eq!(config.max_connections, 4);
/// let error = toml::from_str::<Config>("max_conections = 4").unwrap_err();
/// assert!(error.to_string().contains("max_conections"));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The most connections to one server ([`Key`]): 10, and never more than 65,536. Idle, lent and connecting ones count.
    /// Servers limit them for each client (Postfix' `smtpd_client_connection_count_limit` is 50).
    pub max_connections: usize,
    /// The time of one attempt to connect, from the first packet to the reply to EHLO or AUTH: 30 s. TCP connect takes at
    /// most [`Timeouts::connect`] of it.
    pub connection_timeout: Duration,
    /// The age at which a connection is closed: 3600 s. A server with a limit of its own may close it within a
    /// transaction.
    pub max_lifetime: Duration,
    /// The interval at which idle connections are checked: 300 s.
    pub cleanup_interval: Duration,
    /// How often a failed attempt to connect is repeated before waiting callers get the error: 3. Errors that repeat
    /// without end are not repeated ([`OpenError::is_transient`](super::OpenError::is_transient)).
    pub max_retries: u32,
    /// The interval of the [`HealthManager`](super::HealthManager) that
    /// [`Pool::health_manager`](super::Pool::health_manager) makes: 300 s.
    pub health_check_interval: Duration,
    /// Idle connections to keep open to each server that is in use, and to [`server`](Self::server): 0. Those to
    /// `server` are opened as soon as the pool is built within a runtime, or else with the first checkout or check.
    pub min_idle: usize,
    /// How long a connection is kept that is not needed: 240 s. Servers close idle connections after 300 s
    /// (RFC 5321 4.5.3.2.7).
    ///
    /// Idle connections are used in rotation, so none is idle for long while any is used. The number that was idle
    /// throughout this time is the number that is not needed.
    pub idle_timeout: Duration,
    /// How long `get` waits for a connection to be opened or given back: 30 s.
    pub acquire_timeout: Duration,
    /// The share of `max_lifetime` by which a lifetime may be shorter: 0.1, that is, up to 10 %. So connections that were
    /// opened together are not closed together.
    pub lifetime_jitter: f64,
    /// The most connections to all servers together: 900, less than the usual limit of 1024 open files.
    pub max_total_connections: usize,
    /// The most attempts to connect to one server at the same time: 4. So a server that comes back is not flooded.
    pub max_connecting: usize,
    /// The idle time after which a connection gets a NOOP before it is lent: 60 s.
    ///
    /// A closed connection is noticed without a NOOP. This is for one that a firewall has dropped silently. Servers limit
    /// NOOPs (Postfix accepts 100 such commands, Sendmail 20).
    pub noop_after: Duration,
    /// Whether callers are served in the order of arrival: true. Otherwise a new caller may take a connection that was just
    /// given back. That is a little faster on average, and much slower at worst.
    pub fair: bool,
    /// The most checkouts a minute for each server: no limit. They are spread evenly, but up to a second's worth may come at
    /// once. Callers wait in the order of arrival, as long as `acquire_timeout` allows. A caller that gives up while it
    /// waits has used one checkout.
    pub per_minute: Option<u32>,
    /// The time after which a warning names where a lent connection was taken: never.
    pub leak_after: Option<Duration>,
    /// The failures in a row that open the circuit breaker of a server: 5. With 0 it never opens.
    pub breaker_failures: u32,
    /// For how long, at first: 30 s; up to 32 times as long while it goes on.
    pub breaker_pause: Duration,
    /// The first pause before a failed attempt to connect is repeated: 0.5 s. It doubles, and half of it is random.
    pub backoff: Duration,
    /// How long the pool remembers a server without use and without connections: 600 s.
    pub server_ttl: Duration,
    /// The port of servers that are named without one: 25.
    pub port: u16,
    /// The server for [`Pool::send`](super::Pool::send) and [`Pool::verify_email`](super::Pool::verify_email): none. Then
    /// it depends on the address.
    pub server: Option<Key>,
    /// The client's name for EHLO. By default it is the name of this host, or `[127.0.0.1]` if that is not a domain name.
    /// [`ClientConfig::name`](crate::client::ClientConfig::name) says why it should be set.
    pub helo: ClientName,
    /// The local address to connect from: the system chooses.
    pub bind: Option<IpAddr>,
    /// When to use TLS: [`TlsPolicy::Opportunistic`].
    pub tls: TlsPolicy,
    /// The credentials: none. From a file or the environment, they are `user` and `password`.
    pub credentials: Option<Credentials>,
    /// The time to wait for the reply to each command: the minima of RFC 5321 4.5.3.2. From a file or the environment,
    /// `command_timeout` is one limit for all.
    pub timeouts: Timeouts,
    /// Whether logs may name mailboxes and repeat what servers say
    /// ([`ClientConfig::log_addresses`](crate::client::ClientConfig::log_addresses)): false.
    pub log_addresses: bool,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_connections: 10,
            connection_timeout: seconds(30),
            max_lifetime: seconds(3_600),
            cleanup_interval: seconds(300),
            max_retries: 3,
            health_check_interval: seconds(300),
            min_idle: 0,
            idle_timeout: seconds(240),
            acquire_timeout: seconds(30),
            lifetime_jitter: 0.1,
            max_total_connections: 900,
            max_connecting: 4,
            noop_after: seconds(60),
            fair: true,
            per_minute: None,
            leak_after: None,
            breaker_failures: 5,
            breaker_pause: seconds(30),
            backoff: Duration::from_millis(500),
            server_ttl: seconds(600),
            port: 25,
            server: None,
            helo: own_name(),
            bind: None,
            tls: TlsPolicy::default(),
            credentials: None,
            timeouts: Timeouts::default(),
            log_addresses: false,
        }
    }
}

fn own_name() -> ClientName {
    let host = gethostname::gethostname();
    host.to_str().and_then(client_name).unwrap_or_else(|| ClientName::from(IpAddr::from([127, 0, 0, 1])))
}

/// Returns a host name as a name for EHLO. Containers may have underscores, which are not allowed there.
fn client_name(host: &str) -> Option<ClientName> {
    let labels: Vec<_> =
        host.split('.').map(|label| label.replace('_', "-").trim_matches('-').to_owned()).collect();
    ClientName::parse(host).or_else(|_| ClientName::parse(&labels.join("."))).ok()
}

/// An invalid configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The key is unknown.
    #[error("unknown key {key:?}; known are {}", KEYS.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The value is invalid for the key.
    #[error("{key} cannot be {value:?}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value; never that of a password.
        value: String,
        /// The form of a valid value.
        expected: &'static str,
    },
    /// Two keys contradict each other, or a second one is missing.
    #[error("{key} {fault}")]
    Contradiction {
        /// The key.
        key: &'static str,
        /// The fault.
        fault: &'static str,
    },
}

/// All keys, in the order of the documentation.
pub(super) const KEYS: [&str; 29] = [
    "max_connections",
    "connection_timeout",
    "max_lifetime",
    "cleanup_interval",
    "max_retries",
    "health_check_interval",
    "min_idle",
    "idle_timeout",
    "acquire_timeout",
    "lifetime_jitter",
    "max_total_connections",
    "max_connecting",
    "noop_after",
    "fair",
    "per_minute",
    "leak_after",
    "breaker_failures",
    "breaker_pause",
    "backoff",
    "server_ttl",
    "port",
    "server",
    "helo",
    "bind",
    "tls",
    "user",
    "password",
    "command_timeout",
    "log_addresses",
];

impl Config {
    /// Bounds durations and numbers, so that [`Duration::MAX`] can stand for never and [`usize::MAX`] for any number.
    pub(super) fn bounded(mut self) -> Self {
        self.max_connections = self.max_connections.min(MAX_CONNECTIONS);
        self.min_idle = self.min_idle.min(self.max_connections);
        for duration in [
            &mut self.connection_timeout,
            &mut self.max_lifetime,
            &mut self.cleanup_interval,
            &mut self.health_check_interval,
            &mut self.idle_timeout,
            &mut self.acquire_timeout,
            &mut self.noop_after,
            &mut self.breaker_pause,
            &mut self.backoff,
            &mut self.server_ttl,
        ]
        .into_iter()
        .chain(self.leak_after.as_mut())
        .chain(self.timeouts.all_mut())
        {
            *duration = MAX_WAIT.min(*duration);
        }
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    /// An invalid value.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let contradiction = |key, fault| Err(ConfigError::Contradiction { key, fault });
        for (key, zero) in [
            ("max_connections", self.max_connections == 0),
            ("max_total_connections", self.max_total_connections == 0),
            ("max_connecting", self.max_connecting == 0),
            ("port", self.port == 0),
            ("per_minute", self.per_minute == Some(0)),
            ("connection_timeout", self.connection_timeout.is_zero()),
            ("max_lifetime", self.max_lifetime.is_zero()),
            ("cleanup_interval", self.cleanup_interval.is_zero()),
            ("health_check_interval", self.health_check_interval.is_zero()),
        ] {
            if zero {
                return contradiction(key, "must be more than 0");
            }
        }
        if self.min_idle > self.max_connections {
            return contradiction("min_idle", "must not be more than max_connections");
        }
        if !(0.0..=1.0).contains(&self.lifetime_jitter) {
            return contradiction("lifetime_jitter", "must be from 0 to 1");
        }
        Ok(())
    }
}

/// A configuration that is being read. User and password make credentials only together.
#[derive(Default)]
pub(super) struct Raw {
    config: Config,
    user: Option<String>,
    password: Option<String>,
}

impl Raw {
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let given = Given { key, value };
        let config = &mut self.config;
        match key {
            "max_connections" => config.max_connections = given.count()?,
            "connection_timeout" => config.connection_timeout = given.seconds()?,
            "max_lifetime" => config.max_lifetime = given.seconds()?,
            "cleanup_interval" => config.cleanup_interval = given.seconds()?,
            "max_retries" => config.max_retries = given.parse("a whole number")?,
            "health_check_interval" => config.health_check_interval = given.seconds()?,
            "min_idle" => config.min_idle = given.parse("a whole number")?,
            "idle_timeout" => config.idle_timeout = given.seconds()?,
            "acquire_timeout" => config.acquire_timeout = given.seconds()?,
            "lifetime_jitter" => config.lifetime_jitter = given.parse("a number from 0 to 1")?,
            "max_total_connections" => config.max_total_connections = given.count()?,
            "max_connecting" => config.max_connecting = given.count()?,
            "noop_after" => config.noop_after = given.seconds()?,
            "fair" => config.fair = given.parse("true or false")?,
            "per_minute" => config.per_minute = Some(given.parse("a whole number")?),
            "leak_after" => config.leak_after = Some(given.seconds()?),
            "breaker_failures" => config.breaker_failures = given.parse("a whole number")?,
            "breaker_pause" => config.breaker_pause = given.seconds()?,
            "backoff" => config.backoff = given.seconds()?,
            "server_ttl" => config.server_ttl = given.seconds()?,
            "port" => config.port = given.parse("a port")?,
            "server" => {
                let key = Key::parse(value);
                config.server = Some(key.map_err(|_| given.expected("HOST, HOST:PORT or [IPV6]:PORT"))?);
            }
            "helo" => {
                let name = ClientName::parse(value);
                config.helo = name.map_err(|_| given.expected("a domain name or an address literal"))?;
            }
            "bind" => config.bind = Some(given.parse("an IP address")?),
            "tls" => config.tls = given.parse("off, opportunistic, required or implicit")?,
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(value.to_owned()),
            "command_timeout" => config.timeouts = Timeouts::all(given.seconds()?),
            "log_addresses" => config.log_addresses = given.parse("true or false")?,
            _ => return Err(ConfigError::UnknownKey { key: key.to_owned() }),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Config, ConfigError> {
        let mut config = self.config;
        config.credentials = match (self.user, self.password) {
            (Some(user), Some(password)) => Some(Credentials::Password { user, password }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::Contradiction { key: "user", fault: "needs password" });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Contradiction { key: "password", fault: "needs user" });
            }
        };
        config.check()?;
        Ok(config)
    }
}

/// A key and its value.
struct Given<'a> {
    key: &'a str,
    value: &'a str,
}

impl Given<'_> {
    fn expected(&self, expected: &'static str) -> ConfigError {
        ConfigError::Value { key: self.key.to_owned(), value: self.value.to_owned(), expected }
    }

    fn parse<T: FromStr>(&self, expected: &'static str) -> Result<T, ConfigError> {
        self.value.parse().map_err(|_| self.expected(expected))
    }

    fn count(&self) -> Result<usize, ConfigError> {
        self.parse::<NonZeroUsize>("a whole number, at least 1").map(NonZeroUsize::get)
    }

    fn seconds(&self) -> Result<Duration, ConfigError> {
        let seconds: f64 = self.parse("a number of seconds")?;
        Duration::try_from_secs_f64(seconds).map_err(|_| self.expected("a number of seconds, 0 or more"))
    }
}

#[cfg(feature = "serde")]
mod file {
    //! Reads any self-describing format. Each value is a scalar, read by the same table as the environment.

    use std::fmt;

    use serde::{
        Deserialize, Deserializer,
        de::{Error, MapAccess, Visitor},
    };

    use super::{Config, Raw};

    impl<'de> Deserialize<'de> for Config {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Table;

            impl<'de> Visitor<'de> for Table {
                type Value = Config;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a table of settings")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                    let mut raw = Raw::default();
                    while let Some(key) = map.next_key::<String>()? {
                        let Scalar(value) =
                            map.next_value().map_err(|e| A::Error::custom(format!("{key}: {e}")))?;
                        raw.set(&key, &value).map_err(A::Error::custom)?;
                    }
                    raw.finish().map_err(A::Error::custom)
                }
            }

            deserializer.deserialize_map(Table)
        }
    }

    struct Scalar(String);

    impl<'de> Deserialize<'de> for Scalar {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Any;

            impl Visitor<'_> for Any {
                type Value = Scalar;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a number, a text, true or false")
                }

                fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                    Ok(Scalar(value.to_string()))
                }

                fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                    Ok(Scalar(value.to_string()))
                }

                fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                    Ok(Scalar(value.to_string()))
                }

                fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                    Ok(Scalar(value.to_string()))
                }

                fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                    Ok(Scalar(value.to_owned()))
                }
            }

            deserializer.deserialize_any(Any)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Result<Config, ConfigError> {
        Config::from_vars([(format!("SMTP_{}", key.to_uppercase()), value)])
    }

    #[test]
    fn the_specifications_six_have_its_defaults() {
        let config = Config::default();
        assert_eq!(config.max_connections, 10);
        assert_eq!(config.connection_timeout, Duration::from_secs(30));
        assert_eq!(config.max_lifetime, Duration::from_secs(3_600));
        assert_eq!(config.cleanup_interval, Duration::from_secs(300));
        assert_eq!(config.max_retries, 3);
        assert_eq!(config.health_check_interval, Duration::from_secs(300));
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn each_key_changes_something_and_refuses_nonsense() {
        for key in KEYS {
            let value = match key {
                "lifetime_jitter" => "0.5",
                "fair" => "false",
                "log_addresses" => "true",
                "server" => "smtp.example.com:587",
                "helo" => "client.example.com",
                "bind" => "192.0.2.1",
                "tls" => "required",
                "user" | "password" => continue,
                _ => "7",
            };
            assert_ne!(with(key, value).unwrap(), Config::default(), "{key}");
            let error = with(key, "-7 \n").unwrap_err();
            assert!(error.to_string().starts_with(key), "{error}");
        }
    }

    #[test]
    fn any_number_of_connections_is_bounded() {
        let all = usize::MAX;
        let config =
            Config { max_connections: all, min_idle: all, max_total_connections: all, ..Config::default() };
        assert_eq!(config.check(), Ok(()));
        let bounded = config.bounded();
        assert_eq!((bounded.max_connections, bounded.min_idle), (MAX_CONNECTIONS, MAX_CONNECTIONS));
    }

    #[test]
    fn a_host_name_with_underscores_is_still_a_name_for_ehlo() {
        for (host, name) in
            [("web_1", "web-1"), ("_a_.b_c", "a.b-c"), ("mail.example.com", "mail.example.com")]
        {
            assert_eq!(client_name(host), ClientName::parse(name).ok(), "{host}");
        }
        assert_eq!(client_name("a b"), None);
    }

    #[test]
    fn as_many_may_be_kept_idle_as_there_may_be() {
        let config = Config { min_idle: 10, max_connections: 10, ..Config::default() };
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn the_environment_is_read() {
        // One's own cannot be changed safely, so this test asks itself in another.
        let me = "pool::config::tests::the_environment_is_read";
        if std::env::var_os("SMTP_MAX_CONNECTIONS").is_some_and(|value| value == "73") {
            assert_eq!(Config::from_env().unwrap().max_connections, 73);
            return;
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        // What the user of this machine has set for SMTP_… is none of its business.
        let asked =
            child.args(["--exact", me]).env_clear().env("SMTP_MAX_CONNECTIONS", "73").output().unwrap();
        let told = String::from_utf8_lossy(&asked.stdout);
        assert!(asked.status.success() && told.contains("1 passed"), "{told}");
    }

    #[test]
    fn credentials_come_in_pairs_and_errors_do_not_show_them() {
        let both = [("SMTP_USER", "tim"), ("SMTP_PASSWORD", "hunter2")];
        let config = Config::from_vars(both).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        for half in both {
            let error = Config::from_vars([half]).unwrap_err().to_string();
            assert!(error.contains("needs") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (key, value) in [
            ("max_connections", "0"),
            ("max_total_connections", "0"),
            ("connection_timeout", "0"),
            ("min_idle", "11"),
            ("lifetime_jitter", "1.5"),
            ("max_lifetime", "NaN"),
            ("max_conections", "5"),
        ] {
            let error = with(key, value).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn files_of_any_format_are_read_by_the_same_table() {
        let toml: Config = toml::from_str(
            "max_connections = 3\nidle_timeout = 1.5\nfair = false\nserver = \"smtp.example.com\"",
        )
        .unwrap();
        let json: Config = serde_json::from_str(
            r#"{"max_connections": 3, "idle_timeout": 1.5, "fair": false, "server": "smtp.example.com"}"#,
        )
        .unwrap();
        assert_eq!(toml, json);
        assert_eq!((toml.max_connections, toml.idle_timeout), (3, Duration::from_millis(1_500)));
        for text in ["nonsense = 1", "tls = \"maybe\"", "tls = []", "max_connections = -1", "port = 70000"] {
            let key = text.split(' ').next().unwrap();
            let error = toml::from_str::<Config>(text).unwrap_err();
            assert!(error.message().contains(key), "{error}");
        }
        // What would fit is told where the very form is another.
        let form = |json| serde_json::from_str::<Config>(json).unwrap_err().to_string();
        assert!(form("7").contains("expected a table of settings"), "{}", form("7"));
        let odd = form(r#"{"max_connections": null}"#);
        assert!(odd.contains("expected a number, a text, true or false"), "{odd}");
    }
}
