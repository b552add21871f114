//! An instance of Postfix with its own configuration, queue, ports and log.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use smtp_pool::{client::Endpoint, verify::Routes};
use tempfile::TempDir;

use crate::{
    Authority, Greylist, World, port,
    world::{self, ALIAS_DOMAINS, LOCAL_DOMAINS, RELAY_DOMAINS, VIRTUAL_DOMAINS},
};

/// The default of smtpd_soft_error_limit. From here on Postfix delays each reply of the session by 1 s.
pub const MAX_ERRORS: u32 = 10;

/// The user that virtual(8) writes mailboxes as, which must not be root.
const MAILBOX_OWNER: u32 = 65_534;
/// The paths to try, because some root shells have no `/usr/sbin` in their PATH.
const POSTFIX: [&str; 3] = ["postfix", "/usr/sbin/postfix", "/usr/local/sbin/postfix"];
const DEADLINE: Duration = Duration::from_secs(30);

/// A port of the server with its own behaviour. `postfix/master.cf` has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The normal behaviour: STARTTLS is offered.
    Mx,
    /// No STARTTLS.
    Plain,
    /// TLS from the first octet.
    Implicit,
    /// No TLS 1.3.
    Tls12,
    /// Greylisting of known users. Unknown users are refused at once.
    Greylist,
    /// Greylisting of known and unknown users.
    GreyAll,
    /// The client is on a blocklist, which the reply to RCPT says.
    Blocked,
    /// The client is on a blocklist, which the banner says.
    Shut,
    /// The null sender is refused.
    NoNull,
    /// A transaction may have five recipients.
    Few,
    /// The directory of users is not available.
    Down,
    /// A client that is silent for 1 s is disconnected.
    Brief,
}

const SERVICES: [(Service, &str); 12] = [
    (Service::Mx, "mx"),
    (Service::Plain, "plain"),
    (Service::Implicit, "implicit"),
    (Service::Tls12, "tls12"),
    (Service::Greylist, "greylist"),
    (Service::GreyAll, "greyall"),
    (Service::Blocked, "blocked"),
    (Service::Shut, "shut"),
    (Service::NoNull, "nonull"),
    (Service::Few, "few"),
    (Service::Down, "down"),
    (Service::Brief, "brief"),
];

/// A running Postfix. It is killed and its files are deleted when it is dropped.
#[derive(Debug)]
pub struct Postfix {
    dir: TempDir,
    ports: Vec<(Service, u16)>,
    authority: Authority,
}

impl Postfix {
    /// Starts Postfix with the users of `world`.
    ///
    /// # Panics
    /// Postfix is not installed, or does not start.
    #[must_use]
    pub fn start(world: &World) -> Self {
        Self::with_policies(world, [9, 9])
    }

    /// Starts Postfix with policy services for [`Service::Greylist`] and [`Service::GreyAll`].
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn greylisting(world: &World, greylist: &Greylist, all: &Greylist) -> Self {
        Self::with_policies(world, [greylist.port(), all.port()])
    }

    fn with_policies(world: &World, [policy, policy_all]: [u16; 2]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "Postfix starts as root only: run these tests as root, in a container for one"
        );
        let dir =
            tempfile::Builder::new().prefix("smtp-pool-postfix-").tempdir().expect("a temporary directory");
        // The daemons run as another user, which must be able to enter the folder.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let ports = SERVICES.map(|(service, _)| (service, port::free()));
        let postfix = Self { dir, ports: ports.into(), authority: Authority::new() };
        postfix.configure(world, policy, policy_all);
        postfix.run();
        postfix
    }

    fn configure(&self, world: &World, policy: u16, policy_all: u16) {
        let mail = self.dir.path().join("mail");
        fs::create_dir_all(&mail).expect("a directory for mail");
        chown(&mail, Some(MAILBOX_OWNER), Some(MAILBOX_OWNER)).expect("chown");
        // Postfix creates the folders in the queue.
        fs::create_dir_all(self.dir.path().join("queue")).expect("a directory for the queue");
        fs::create_dir_all(self.config_dir()).expect("a directory for the configuration");
        let dir = self.dir.path().to_str().expect("a path in UTF-8").to_owned();
        let main = [
            ("DIR", dir),
            ("uid", MAILBOX_OWNER.to_string()),
            ("local_domains", LOCAL_DOMAINS.join(", ")),
            ("virtual_domains", VIRTUAL_DOMAINS.join(", ")),
            ("alias_domains", ALIAS_DOMAINS.join(", ")),
            ("relay_domains", RELAY_DOMAINS.join(", ")),
        ];
        self.write("main.cf", &fill(include_str!("../postfix/main.cf"), &main));
        let mut master = vec![
            ("policy", policy.to_string()),
            ("policyall", policy_all.to_string()),
            ("wakeup", "1".to_owned()),
        ];
        master.extend(SERVICES.map(|(service, name)| (name, self.addr(service).port().to_string())));
        self.write("master.cf", &fill(include_str!("../postfix/master.cf"), &master));
        self.write("chain.pem", &self.authority.chain());
        self.write("local_recipients", &world.users(&LOCAL_DOMAINS));
        self.write("virtual_mailboxes", &maildirs(&world.users(&VIRTUAL_DOMAINS)));
        self.write("virtual_aliases", &world.users(&ALIAS_DOMAINS));
        self.write("relay_recipients", &world.users(&RELAY_DOMAINS));
        self.write("recipient_access", &world.access());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.config_dir().join(name), text).expect("writing the configuration");
    }

    /// Starts Postfix, for the first time or after [`kill`](Self::kill).
    ///
    /// # Panics
    /// Postfix is not installed, or does not start.
    pub fn run(&self) {
        // Postfix writes errors of the start to a terminal, or else to the log.
        let done = self.postfix("start");
        let log = self.log();
        assert!(done, "Postfix does not start:\n{}", log.text());
    }

    /// Stops Postfix as an administrator does, which closes all sessions.
    pub fn stop(&self) {
        assert!(self.postfix("stop"), "Postfix does not stop:\n{}", self.log().text());
    }

    fn postfix(&self, command: &str) -> bool {
        for program in POSTFIX {
            let mut postfix = Command::new(program);
            postfix.arg("-c").arg(self.config_dir()).arg(command);
            // The daemons must not inherit a terminal or a pipe of ours, which they would keep open.
            postfix.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if let Ok(status) = postfix.status() {
                return status.success();
            }
        }
        panic!(
            "Postfix is not installed, and these tests are about nothing else: \
             apt-get install --no-install-recommends postfix (`just postfix` does it without questions)"
        );
    }

    /// Kills all processes of this instance at once.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&self) {
        let killed = self.master().is_some_and(|pid| kill_process_group(pid, Signal::KILL).is_ok());
        assert!(killed, "Postfix is not running:\n{}", self.log().text());
        // A new master needs the lock of the old one, so all processes must be gone.
        let started = Instant::now();
        while self.is_running() && started.elapsed() < DEADLINE {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_running(&self) -> bool {
        self.master().is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
    }

    /// Returns the master process, which leads the group of all processes.
    fn master(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.dir.path().join("queue/pid/master.pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    }

    /// Returns the address of a service.
    ///
    /// # Panics
    /// Never: each service has a port.
    #[must_use]
    pub fn addr(&self, service: Service) -> SocketAddr {
        let (_, port) = self.ports.iter().find(|(known, _)| *known == service).expect("a port for each");
        (Ipv4Addr::LOCALHOST, *port).into()
    }

    /// Returns a service as an endpoint.
    #[must_use]
    pub fn endpoint(&self, service: Service) -> Endpoint {
        endpoint("mx1.interop.test", self.addr(service))
    }

    /// Returns routes for the domains of the world that lead to a service.
    #[must_use]
    pub fn routes(&self, service: Service) -> Routes {
        self.routes_by(|_| service)
    }

    /// Returns routes for the domains of the world, with a service for each of its mail servers.
    #[must_use]
    pub fn routes_by(&self, service: impl Fn(&str) -> Service) -> Routes {
        routes(|host| self.addr(service(host)))
    }

    /// Returns the authority that signed its certificate.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the messages in the mailbox of a user of a virtual domain, the oldest first as far as file names show
    /// it.
    #[must_use]
    pub fn mailbox(&self, address: &str) -> Vec<Vec<u8>> {
        let dir = self.dir.path().join("mail").join(address).join("new");
        let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).expect("a message in the mailbox")).collect()
    }

    /// Returns the log so far.
    #[must_use]
    pub fn log(&self) -> Log {
        // Without any entry there is no file.
        Log(fs::read(self.dir.path().join("mail.log"))
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned()))
    }

    /// Returns the log when every session has ended.
    ///
    /// # Panics
    /// Sessions are still open after 30 s.
    #[must_use]
    pub fn log_at_rest(&self) -> Log {
        let started = Instant::now();
        loop {
            let log = self.log();
            if log.count(": connect from ") == log.count(": disconnect from ") {
                return log;
            }
            assert!(started.elapsed() < DEADLINE, "sessions are still open:\n{}", log.tail());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn config_dir(&self) -> PathBuf {
        self.dir.path().join("etc")
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Some(pid) = self.master() {
            // The test may have stopped it.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Returns routes for the domains of the world. A server with several names has an address for each.
pub(crate) fn routes(addr: impl Fn(&str) -> SocketAddr) -> Routes {
    let mut routes = Routes::new();
    for (domain, host) in world::exchangers() {
        routes.insert(domain, Ok(vec![endpoint(host, addr(host))]));
    }
    for (domain, unreachable) in world::UNREACHABLE {
        routes.insert(domain, Err(unreachable));
    }
    routes
}

fn endpoint(host: &str, addr: SocketAddr) -> Endpoint {
    Endpoint::new(host, vec![addr])
}

/// Replaces every `@name@` in the template.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    text
}

/// Replaces each value by the path of a maildir.
fn maildirs(users: &str) -> String {
    let path = |line: &str| line.split_once(' ').map(|(user, _)| format!("{user} {user}/\n"));
    users.lines().filter_map(path).collect()
}

/// The log of Postfix.
#[derive(Clone, Debug)]
pub struct Log(String);

/// Parts of log lines for a session that ended without QUIT, or that Postfix slowed down.
const COMPLAINTS: [&str; 6] = [
    "too many errors",
    "lost connection",
    "timeout after",
    "improper command pipelining",
    "non-SMTP command",
    "Connection concurrency limit",
];

impl Log {
    /// Returns the whole log.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the end of the log, for messages.
    #[must_use]
    pub fn tail(&self) -> &str {
        let from = self.0.len().saturating_sub(4000);
        &self.0[self.0.ceil_char_boundary(from)..]
    }

    /// Returns how many lines have `words`.
    #[must_use]
    pub fn count(&self, words: &str) -> usize {
        self.0.lines().filter(|line| line.contains(words)).count()
    }

    /// Returns the lines about clients with bad behaviour.
    #[must_use]
    pub fn complaints(&self) -> Vec<&str> {
        let lines = self.0.lines().filter(|line| line.contains("/smtpd["));
        lines.filter(|line| COMPLAINTS.iter().any(|words| line.contains(words))).collect()
    }

    /// Returns the lines about sessions that ended without QUIT.
    #[must_use]
    pub fn unfinished(&self) -> Vec<&str> {
        let ends = self.0.lines().filter(|line| line.contains(": disconnect from "));
        ends.filter(|line| !line.contains(" quit=1 ")).collect()
    }

    /// Returns how often MAIL was accepted.
    #[must_use]
    pub fn transactions(&self) -> u32 {
        let ends =
            self.0.lines().filter_map(|line| line.split_once(": disconnect from ")?.1.split_once(" mail="));
        ends.filter_map(|(_, tally)| tally.split([' ', '/']).next()?.parse::<u32>().ok()).sum()
    }

    /// Returns how many recipients were refused, by the summary line of each session.
    #[must_use]
    pub fn refused(&self) -> usize {
        let ends =
            self.0.lines().filter_map(|line| line.split_once(": disconnect from ")?.1.split_once(" rcpt="));
        let refused = |tally: &str| {
            let (good, all) = tally.split(' ').next()?.split_once('/')?;
            all.parse::<usize>().ok()?.checked_sub(good.parse().ok()?)
        };
        ends.filter_map(|(_, tally)| refused(tally)).sum()
    }

    /// Returns how many commands were refused in each session.
    #[must_use]
    pub fn errors(&self) -> Vec<u32> {
        let ends = self.0.lines().filter_map(|line| Some(line.split_once(": disconnect from ")?.1));
        ends.map(|tally| {
            // `mail=1 rcpt=90/99`: of 99 commands, 90 were accepted.
            let refused = tally.split(' ').filter_map(|item| {
                let (good, all) = item.split_once('=')?.1.split_once('/')?;
                all.parse::<u32>().ok()?.checked_sub(good.parse().ok()?)
            });
            // `commands=92/101` is the sum.
            refused.max().unwrap_or(0)
        })
        .collect()
    }
}

/// Returns the path of a file in the folder of these tests.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
