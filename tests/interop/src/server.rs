//! A mail server with a process group and a directory of its own, and the sessions in its log.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use smtp_pool::{client::Endpoint, verify::Routes};
use tempfile::TempDir;

use crate::postfix::{routes, source};

const DEADLINE: Duration = Duration::from_secs(30);
/// What the log has from standard output and standard error.
const OUTPUT: &str = "output.log";

/// The words of a log for the beginning and the end of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) begin: &'static str,
    pub(crate) quit: &'static str,
    /// Every other end.
    pub(crate) cut: &'static [&'static str],
}

/// A running mail server; killed and wiped away when dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    dir: TempDir,
    addr: SocketAddr,
    log: &'static str,
    words: Words,
}

/// What a log says of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// How many there were.
    pub count: usize,
    /// Lines about those that ended other than by QUIT.
    pub cut: Vec<String>,
}

impl Server {
    /// Starts `command`, and waits until a session is served on `port`. `log` is the log in `dir`; without one, it is
    /// what the command prints.
    pub(crate) fn start(
        dir: TempDir,
        port: u16,
        mut command: Command,
        log: Option<&'static str>,
        words: Words,
    ) -> Self {
        let output = File::create(dir.path().join(OUTPUT)).expect("a file for the output");
        let errors = output.try_clone().expect("a second handle of the file");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let addr = (Ipv4Addr::LOCALHOST, port).into();
        let mut server = Self { process, dir, addr, log: log.unwrap_or(OUTPUT), words };
        let started = Instant::now();
        while server.greet().is_err() {
            let ended = server.process.try_wait().expect("a child of ours").is_some();
            let waited = started.elapsed() > DEADLINE;
            assert!(!ended && !waited, "{command:?} does not serve:\n{}", server.all_logs());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A session that says nothing but QUIT, so that the log of it is one of a session like any other.
    fn greet(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        stream.write_all(b"QUIT\r\n")?;
        reader.read_line(&mut line)?;
        if line.starts_with("220") { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    }

    /// Returns the address of the server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns routes that lead to the server for every domain of the world.
    #[must_use]
    pub fn routes(&self) -> Routes {
        routes(|_| self.addr)
    }

    /// Returns the server as an exchanger.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new("mx1.interop.test", vec![self.addr])
    }

    /// Returns its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.dir.path().join(self.log))
    }

    /// Its sessions, once each of them is over.
    ///
    /// # Panics
    /// Sessions are still open after half a minute.
    #[must_use]
    pub fn sessions_at_rest(&self) -> Sessions {
        let started = Instant::now();
        loop {
            let log = self.log();
            let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
            let is_cut = |line: &&str| self.words.cut.iter().any(|words| line.contains(words));
            let cut: Vec<String> = log.lines().filter(is_cut).map(str::to_owned).collect();
            let count = lines(self.words.begin);
            if count == lines(self.words.quit) + cut.len() {
                return Sessions { count, cut };
            }
            assert!(started.elapsed() < DEADLINE, "sessions are still open:\n{}", self.all_logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn all_logs(&self) -> String {
        let text = read(&self.dir.path().join(OUTPUT)) + &self.log();
        let from = text.len().saturating_sub(4000);
        text[text.ceil_char_boundary(from)..].to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(group) = Pid::from_raw(pid)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

fn read(path: &Path) -> String {
    // There is none while nothing has been logged.
    fs::read(path).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

/// A directory for a server.
pub(crate) fn directory(name: &str) -> TempDir {
    let prefix = format!("smtp-pool-{name}-");
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory");
    // The server may run as another user.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    dir
}

/// The directory that `just NAME` installs a server into.
///
/// # Panics
/// There is none.
pub(crate) fn installed(name: &str, recipe: &str) -> PathBuf {
    let dir = source("../../target/interop").join(name);
    assert!(dir.is_dir(), "{name} is not installed: `just {recipe}`");
    dir
}

/// A copy of the root directory that `.ci/server-root` made, since such a server keeps everything in paths of its own.
///
/// # Panics
/// There is none, or we are not root.
pub(crate) fn root(name: &str) -> TempDir {
    assert!(rustix::process::geteuid().is_root(), "{name} starts as root only: run these tests as root");
    let dir = directory(name);
    copy(&installed(name, name).join("."), &dir);
    dir
}

/// Copies a directory, device nodes included, into `dir`.
pub(crate) fn copy(from: &Path, dir: &TempDir) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(dir.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
}

/// Writes a file below `dir`.
pub(crate) fn write(dir: &TempDir, path: &str, text: &str) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
    fs::write(path, text).expect("writing the configuration");
}

/// Makes a directory below `dir`, with the permissions given.
pub(crate) fn make(dir: &TempDir, path: &str, mode: u32) {
    let path = dir.path().join(path);
    fs::create_dir_all(&path).expect("a directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// A line for each item.
pub(crate) fn lines<T>(items: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    items.into_iter().map(|item| line(item) + "\n").collect()
}
