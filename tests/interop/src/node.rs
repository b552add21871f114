//! Servers in Node.js: Haraka, and nodemailer's smtp-server.

use std::{path::PathBuf, process::Command};

use crate::{
    Authority, Server, World, port,
    postfix::source,
    server::{Words, copy, directory, installed, lines, write},
};

const WORDS: Words =
    Words { begin: "session begins", quit: "session ends by QUIT", cut: &["session ends otherwise"] };

/// What Haraka does with mail from the null sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullSender {
    /// It takes it as any other.
    Accepted,
    /// Its bounce plugin refuses it, in answer to MAIL.
    Refused,
    /// Its bounce plugin refuses it for the users of `office.test`, in answer to RCPT.
    RefusedForSome,
}

impl Server {
    /// Starts Haraka with the users of `world`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn haraka(world: &World, null_sender: NullSender) -> Self {
        let (dir, port) = (directory("haraka"), port::free());
        // All other settings have Haraka's defaults.
        copy(&modules().join("Haraka/config"), &dir);
        write(&dir, "config/smtp.ini", &format!("listen=127.0.0.1:{port}\npublic_ip=127.0.0.1\nnodes=1\n"));
        write(&dir, "config/log.ini", "[main]\nlevel=notice\n");
        write(&dir, "config/me", "mx1.interop.test\n");
        write(&dir, "config/plugins", "users\nbounce\n");
        write(
            &dir,
            "config/bounce.ini",
            &format!("[reject]\nall_bounces={}\n", null_sender == NullSender::Refused),
        );
        if null_sender == NullSender::RefusedForSome {
            let users = lines(world.user_list(&["office.test"]), |user| user);
            write(&dir, "config/bounce_bad_rcpt", &users);
        }
        write(&dir, "plugins/users.js", include_str!("../haraka/users.js"));
        write(&dir, "world.json", &world.directory().to_string());
        let mut haraka = node();
        haraka.arg(modules().join("Haraka/bin/haraka")).arg("-c").arg(dir.path());
        Self::start(dir, port, haraka, None, WORDS)
    }

    /// Starts nodemailer's smtp-server with the users of `world`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn smtp_server(world: &World) -> Self {
        let (dir, port) = (directory("smtp-server"), port::free());
        write(&dir, "world.json", &world.directory().to_string());
        write(&dir, "chain.pem", &Authority::new().chain());
        let mut server = node();
        server.arg(source("nodemailer/server.js")).arg(port.to_string()).arg(dir.path());
        Self::start(dir, port, server, None, WORDS)
    }
}

fn modules() -> PathBuf {
    installed("node", "node-servers").join("node_modules")
}

fn node() -> Command {
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules());
    node
}
