//! Exim, with the limits that it has by default.

use std::process::Command;

use crate::{
    Authority, Server, World, port,
    postfix::fill,
    server::{Words, lines, make, root, write},
    world::{CATCH_ALL, LISTED},
};

const WORDS: Words = Words {
    begin: "(TCP/IP connection count",
    quit: "closed by QUIT",
    cut: &["dropped", "lost", "closed by DROP", "closed after", "timed out", "closed by EOF"],
};

/// What Exim does with mail from the null sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounces {
    /// It takes it as any other.
    Accepted,
    /// It takes one recipient for it.
    OneRecipient,
}

impl Server {
    /// Starts Exim with the users of `world`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn exim(world: &World, bounces: Bounces) -> Self {
        let (dir, port) = (root("exim"), port::free());
        let values = [
            ("port", port.to_string()),
            ("one_bounce", (bounces == Bounces::OneRecipient).to_string()),
            ("domains", [&LISTED[..], &CATCH_ALL].concat().join(" : ")),
            ("catch_all", CATCH_ALL.join(" : ")),
        ];
        write(&dir, "etc/exim.conf", &fill(include_str!("../exim/exim.conf"), &values));
        write(&dir, "etc/chain.pem", &Authority::new().chain());
        write(&dir, "etc/users", &lines(world.user_list(&LISTED), |user| format!("{user}:")));
        write(&dir, "etc/refused", &refusals(world));
        // It writes as a user of its own.
        make(&dir, "var/log", 0o777);
        make(&dir, "var/spool", 0o777);
        let mut exim = Command::new("chroot");
        exim.arg(dir.path()).args(["/usr/sbin/exim4", "-C", "/etc/exim.conf", "-bdf"]);
        Self::start(dir, port, exim, Some("var/log/exim.mainlog"), WORDS)
    }
}

/// Returns the recipients that a redirect router refuses, with their replies.
fn refusals(world: &World) -> String {
    let line = |(address, reply): (&str, &str)| {
        let item = if reply.starts_with('4') { ":defer:" } else { ":fail:" };
        format!("{address}: {item} {reply}\n")
    };
    world.refusals().map(line).collect()
}
