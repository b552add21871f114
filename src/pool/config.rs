//! What can be set, with its defaults: from code, from a file, from the environment, all by one table of keys.

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
/// (feature `serde`), the keys are the names of the fields, and durations are seconds, with a fraction if need be. From
/// the environment, `SMTP_` and the key in capitals. A key that is not known and a value that makes no sense are errors
/// that name the key.
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
    /// Connections to one server ([`Key`]) at the most: 10, and never more than 65,536. Idle, lent and connecting ones count. Servers are rarely
    /// glad of more from one client (Postfix' `smtpd_client_connection_count_limit` is 50).
    pub max_connections: usize,
    /// How long one attempt to connect may take, from the first packet to the answer to EHLO or AUTH: 30 s. Of it, TCP
    /// connect takes at most [`Timeouts::connect`].
    pub connection_timeout: Duration,
    /// Age at which a connection is retired: 3600 s. Servers with a limit of their own close the session in the middle
    /// of something else.
    pub max_lifetime: Duration,
    /// How often idle connections are looked at: 300 s.
    pub cleanup_interval: Duration,
    /// How often a failed attempt to connect is repeated before those who wait are told: 3. What a server refuses for
    /// good is not repeated.
    pub max_retries: u32,
    /// How often the [`HealthManager`](super::HealthManager) that [`Pool::health_manager`](super::Pool::health_manager)
    /// makes checks each server: 300 s.
    pub health_check_interval: Duration,
    /// Idle connections to keep open to each server that is in use, and to [`server`](Self::server): 0. Those to
    /// `server` are opened as soon as the pool is built within a runtime, or else with the first checkout or check.
    pub min_idle: usize,
    /// How long a connection may have been more than was needed before it is closed: 240 s, since servers close idle
    /// connections after 300 s (RFC 5321 4.5.3.2.7).
    ///
    /// Idle connections take turns, so that none is idle for long while any is used; what counts is how many were idle
    /// at all times.
    pub idle_timeout: Duration,
    /// How long `get` waits for a connection, to be opened or given back by somebody else: 30 s.
    pub acquire_timeout: Duration,
    /// By how much a lifetime may differ from `max_lifetime`, as a share of it: 0.1, that is, up to 10 % shorter. So
    /// connections that were opened together are not closed together.
    pub lifetime_jitter: f64,
    /// Connections to all servers together at the most: 900, which leaves some to the usual 1024 open files.
    pub max_total_connections: usize,
    /// Attempts to connect to one server that are under way together: 4. A server that was away comes back to a queue
    /// at its door, not to a crowd.
    pub max_connecting: usize,
    /// How long a connection may have been idle to be lent without being asked (NOOP) whether it still lives: 60 s.
    ///
    /// Whether it was closed is seen without asking; this is for what vanishes without a word. Servers count NOOPs
    /// against their clients (Postfix takes 100 of such commands, Sendmail 20).
    pub noop_after: Duration,
    /// Whether whoever has waited longest comes first, newcomers last: true. Without, a newcomer may take what was just
    /// given back, which is a little faster on average, and much slower at worst.
    pub fair: bool,
    /// How long a connection may be lent before a warning names where it was taken: never.
    pub leak_after: Option<Duration>,
    /// The failures in a row after which a server is left alone for a while (circuit breaker): 5; 0 is never.
    pub breaker_failures: u32,
    /// For how long, at first: 30 s; up to 32 times as long while it goes on.
    pub breaker_pause: Duration,
    /// The pause before a failed attempt to connect is repeated, at first: 0.5 s, doubling, half of it by chance.
    pub backoff: Duration,
    /// How long the pool remembers a server that nobody asks for and that it has no connection to: 600 s.
    pub server_ttl: Duration,
    /// The port of servers that are named without one: 25.
    pub port: u16,
    /// The server for whatever names none ([`Pool::send`](super::Pool::send),
    /// [`Pool::verify_email`](super::Pool::verify_email)): none, so that it depends on the address.
    pub server: Option<Key>,
    /// Our own name for EHLO. By default the name of this host, or `[127.0.0.1]` where that is not a domain name; see
    /// [`ClientConfig::name`](crate::client::ClientConfig::name) for why it should be set.
    pub helo: ClientName,
    /// The local address to connect from: whatever the system picks.
    pub bind: Option<IpAddr>,
    /// When to use TLS: [`TlsPolicy::Opportunistic`].
    pub tls: TlsPolicy,
    /// Who to authenticate as: nobody. From a file or the environment, `user` and `password`.
    pub credentials: Option<Credentials>,
    /// How long to wait for the reply to each command: the minima of RFC 5321 4.5.3.2. From a file or the environment,
    /// `command_timeout` is the same limit for all.
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

/// A configuration that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such key.
    #[error("unknown key {key:?}; known are {}", KEYS.join(", "))]
    UnknownKey {
        /// As it was given.
        key: String,
    },
    /// The value does not fit the key.
    #[error("{key} cannot be {value:?}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value; not that of a password.
        value: String,
        /// What would fit.
        expected: &'static str,
    },
    /// Two keys contradict each other, or one lacks another.
    #[error("{key} {fault}")]
    Contradiction {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// All keys, in the order of the docs.
pub(super) const KEYS: [&str; 28] = [
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

    /// # Errors
    /// A value that makes no sense.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let contradiction = |key, fault| Err(ConfigError::Contradiction { key, fault });
        for (key, zero) in [
            ("max_connections", self.max_connections == 0),
            ("max_total_connections", self.max_total_connections == 0),
            ("max_connecting", self.max_connecting == 0),
            ("port", self.port == 0),
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

/// A configuration in the making: name and password make credentials only together.
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
                return Err(ConfigError::Contradiction {
                    key: "user",
                    fault: "is of no use without password",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Contradiction {
                    key: "password",
                    fault: "is of no use without user",
                });
            }
        };
        config.check()?;
        Ok(config)
    }
}

/// A key and its value, to be read.
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
    //! Any self-describing format: each value is a scalar, read by the same table as the environment.

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
            assert!(error.contains("without") && !error.contains("hunter2"), "{error}");
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
