//! OpenSMTPD, with the limits that it has by default. It has neither PIPELINING nor SMTPUTF8.

use std::process::Command;

use crate::{
    Server, World, port,
    postfix::fill,
    server::{Words, lines, make, root, write},
    world::{CATCH_ALL, LISTED, LOCAL_DOMAINS},
};

const WORDS: Words = Words {
    begin: " smtp connected ",
    quit: " smtp disconnected reason=quit",
    cut: &[
        "reason=disconnect",
        "reason=timeout",
        "reason=io-error",
        "reason=bad-input",
        "reason=too-many-errors",
        "reason=error",
    ],
};

impl Server {
    /// Starts OpenSMTPD with the users of `world`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn opensmtpd(world: &World) -> Self {
        let (dir, port) = (root("opensmtpd"), port::free());
        let is_virtual = |domain: &&&str| !LOCAL_DOMAINS.contains(*domain);
        let listed: Vec<&str> = LISTED.iter().filter(is_virtual).copied().collect();
        let list = |domains: &[&str]| {
            domains.iter().map(|domain| format!("\"{domain}\"")).collect::<Vec<_>>().join(", ")
        };
        let values = [
            ("port", port.to_string()),
            ("virtual_domains", list(&[&listed[..], &CATCH_ALL].concat())),
            ("local_domains", list(&LOCAL_DOMAINS)),
        ];
        write(&dir, "etc/smtpd.conf", &fill(include_str!("../opensmtpd/smtpd.conf"), &values));
        write(&dir, "etc/mailname", "mx1.interop.test\n");
        let mut users = lines(world.user_list(&listed), |user| format!("{user} nobody"));
        users += &lines(CATCH_ALL, |domain| format!("@{domain} nobody"));
        write(&dir, "etc/addresses", &users);
        let local = |user: String| {
            user.split('@').next().map_or_else(String::new, |name| format!("{name} 900:900:/var/mail"))
        };
        write(&dir, "etc/accounts", &lines(world.user_list(&LOCAL_DOMAINS), local));
        // What smtpd checks before it starts.
        make(&dir, "var/spool/smtpd", 0o711);
        make(&dir, "var/lib/opensmtpd/empty", 0o711);
        make(&dir, "var/run", 0o755);
        let mut smtpd = Command::new("chroot");
        smtpd.arg(dir.path()).args(["/usr/sbin/smtpd", "-d", "-v", "-f", "/etc/smtpd.conf"]);
        Self::start(dir, port, smtpd, None, WORDS)
    }
}
