//! Sendmail, with the limits that it is compiled with. It has no SMTPUTF8, and here no TLS.

use std::{fs::OpenOptions, io::Write, process::Command};

use crate::{
    Server, World, port,
    server::{Words, lines, make, root, write},
    world::{CATCH_ALL, LISTED},
};

/// Of the transcript of all sessions, since it logs to syslog only.
const WORDS: Words = Words { begin: ">>> 220 ", quit: "<<< QUIT", cut: &["<<< [EOF]"] };
const TRANSCRIPT: &str = "var/log/transcript";

impl Server {
    /// Starts Sendmail with the users of `world`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn sendmail(world: &World) -> Self {
        let (dir, port) = (root("sendmail"), port::free());
        write(&dir, "etc/hosts", "127.0.0.1 localhost\n");
        write(&dir, "etc/nsswitch.conf", "hosts: files\n");
        write(
            &dir,
            "etc/mail/domains",
            &lines(LISTED.iter().chain(&CATCH_ALL), |domain| (*domain).to_owned()),
        );
        write(&dir, "etc/mail/virtual_domains", &lines(CATCH_ALL, str::to_owned));
        write(&dir, "etc/mail/virtual", &lines(CATCH_ALL, |domain| format!("@{domain}|nobody")));
        write(&dir, "etc/mail/access", &lines(world.refusals(), access));
        // Its users are those of the system: of all domains together, since their names differ.
        let users = lines(world.user_list(&LISTED), |user| {
            let name = user.split_once('@').map_or(&*user, |(name, _)| name);
            format!("{name}:x:900:900::/:/bin/false")
        });
        let passwd = OpenOptions::new().append(true).open(dir.path().join("etc/passwd"));
        passwd.and_then(|mut file| file.write_all(users.as_bytes())).expect("adding users");
        for path in ["var/log", "var/run", "var/spool/mqueue"] {
            make(&dir, path, 0o700);
        }
        let mut sendmail = Command::new("chroot");
        sendmail
            .arg(dir.path())
            .args(["/usr/libexec/sendmail/sendmail", "-bD", "-C/etc/mail/sendmail.cf"])
            .arg(format!("-X/{TRANSCRIPT}"))
            .arg(format!("-ODaemonPortOptions=Name=MTA,Addr=127.0.0.1,Port={port}"));
        Self::start(dir, port, sendmail, Some(TRANSCRIPT), WORDS)
    }
}

/// A line of the access map: `452 4.2.2 Mailbox full` is `ERROR:4.2.2:452 Mailbox full` there.
fn access((address, reply): (&str, &str)) -> String {
    let mut parts = reply.splitn(3, ' ');
    let [code, enhanced, text] = std::array::from_fn(|_| parts.next().expect("three parts of a reply"));
    format!("To:{}|ERROR:{enhanced}:{code} {text}", address.to_lowercase())
}
