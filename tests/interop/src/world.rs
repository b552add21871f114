//! The users and domains: mailboxes in every state, and the right verdict on each address.

use std::collections::BTreeSet;

use fastrand::Rng;
use smtp_pool::verify::{Status, SubStatus};

pub(crate) const LOCAL_DOMAINS: [&str; 2] = ["office.test", "campus.test"];
pub(crate) const VIRTUAL_DOMAINS: [&str; 4] = ["shop.test", "club.test", "firm.test", "any.test"];
pub(crate) const ALIAS_DOMAINS: [&str; 1] = ["brand.test"];
pub(crate) const RELAY_DOMAINS: [&str; 2] = ["branch.test", "backup.test"];
/// Domains with a directory of users.
pub(crate) const LISTED: [&str; 7] =
    ["office.test", "campus.test", "shop.test", "club.test", "firm.test", "brand.test", "branch.test"];
/// Domains that accept any address: one with a mailbox for all, and one with a backup server that knows no user.
pub(crate) const CATCH_ALL: [&str; 2] = ["any.test", "backup.test"];
/// A domain whose MX record names our server, which does not serve it.
const FOREIGN: &str = "elsewhere.test";
const NO_DOMAIN: &str = "nowhere.test";
const NULL_MX: &str = "silent.test";

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A known user.
    Known,
    /// A known user, with a `+tag`.
    Tagged,
    /// A known user, in capital letters.
    Shouted,
    /// A known user whose name needs SMTPUTF8.
    Accented,
    /// A role, which is a known user as well.
    Role,
    /// An unknown user.
    Unknown,
    /// An unknown user whose name needs quotes.
    UnknownQuoted,
    /// An unknown user whose name needs SMTPUTF8.
    UnknownAccented,
    /// An unknown user at a domain that accepts any address.
    CatchAll,
    /// A user over quota, refused with a temporary reply.
    Full,
    /// A user over quota, refused with a permanent reply.
    FullForGood,
    /// A user whose account is disabled.
    Disabled,
    /// A user who is refused without a reason.
    Rejected,
    /// An address at a domain that the server does not serve.
    Foreign,
    /// An address at a domain that does not exist.
    NoDomain,
    /// An address at a domain that takes no mail.
    NullMx,
    /// A text that is no address.
    Malformed,
}

/// The share of each kind in percent.
const MIX: [(Kind, usize); 17] = [
    (Kind::Known, 35),
    (Kind::Tagged, 3),
    (Kind::Shouted, 2),
    (Kind::Accented, 2),
    (Kind::Role, 1),
    (Kind::Unknown, 25),
    (Kind::UnknownQuoted, 1),
    (Kind::UnknownAccented, 1),
    (Kind::CatchAll, 10),
    (Kind::Full, 4),
    (Kind::FullForGood, 2),
    (Kind::Disabled, 4),
    (Kind::Rejected, 2),
    (Kind::Foreign, 2),
    (Kind::NoDomain, 2),
    (Kind::NullMx, 1),
    (Kind::Malformed, 3),
];

/// An address and its kind.
#[derive(Clone, Debug)]
pub struct Address {
    /// The address.
    pub text: String,
    /// Its kind.
    pub kind: Kind,
}

impl Kind {
    /// Returns the right verdict from the server of `postfix/main.cf`.
    #[must_use]
    pub fn verdict(self) -> (Status, SubStatus) {
        let sub_status = match self {
            Self::Known | Self::Tagged | Self::Shouted | Self::Accented | Self::Role => SubStatus::Accepted,
            Self::Unknown | Self::UnknownQuoted | Self::UnknownAccented => SubStatus::MailboxNotFound,
            Self::CatchAll => SubStatus::CatchAll,
            Self::Full | Self::FullForGood => SubStatus::MailboxQuotaExceeded,
            Self::Disabled => SubStatus::MailboxDisabled,
            // "Access denied" has many causes. A wrong server proves nothing about the mailbox.
            Self::Rejected => SubStatus::PolicyRejected,
            Self::Foreign => SubStatus::Other,
            Self::NoDomain => SubStatus::NoDnsEntries,
            Self::NullMx => SubStatus::DoesNotAcceptMail,
            Self::Malformed => SubStatus::FailedSyntaxCheck,
        };
        (sub_status.status(), sub_status)
    }

    /// Returns whether a server is asked about the address.
    #[must_use]
    pub fn is_asked(self) -> bool {
        !matches!(self, Self::NoDomain | Self::NullMx | Self::Malformed)
    }

    fn is_user(self) -> bool {
        self.verdict().1 == SubStatus::Accepted
    }

    /// Returns the result of `check_recipient_access` (access(5)).
    fn access(self) -> Option<&'static str> {
        match self {
            Self::Full => Some("452 4.2.2 Mailbox full"),
            Self::FullForGood => Some("552 5.2.2 Quota exceeded (mailbox for user is full)"),
            Self::Disabled => Some("550 5.2.1 The account has been disabled"),
            Self::Rejected => Some("REJECT"),
            _ => None,
        }
    }
}

/// Addresses, all different, in random order like a real list.
#[derive(Clone, Debug)]
pub struct World {
    /// The addresses.
    pub addresses: Vec<Address>,
}

impl World {
    /// Makes a list of mixed kinds at all domains.
    #[must_use]
    pub fn mixed(size: usize) -> Self {
        let kinds = MIX.iter().flat_map(|&(kind, share)| std::iter::repeat_n(kind, share));
        Self::of(size, kinds.collect::<Vec<_>>())
    }

    /// Makes a list of the given kinds in equal parts.
    #[must_use]
    pub fn of(size: usize, kinds: impl AsRef<[Kind]>) -> Self {
        // The seed is fixed, so that a failure can be repeated.
        let mut random = Rng::with_seed(5321);
        let kinds = kinds.as_ref().iter().cycle().take(size).enumerate();
        let mut addresses: Vec<_> = kinds.map(|(n, &kind)| address(n, kind, &mut random)).collect();
        random.shuffle(&mut addresses);
        Self { addresses }
    }

    /// Returns all addresses as text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.addresses.iter().map(|address| address.text.clone()).collect()
    }

    /// Returns the keys and values of `recipient_access`.
    pub(crate) fn access(&self) -> String {
        let line = |address: &Address| Some(format!("{} {}\n", address.text, address.kind.access()?));
        self.addresses.iter().filter_map(line).collect()
    }

    /// Returns the addresses with a refusal of their own, and that reply. It leaves `REJECT` out, a word of Postfix.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let replies =
            self.addresses.iter().filter_map(|address| Some((&*address.text, address.kind.access()?)));
        replies.filter(|(_, reply)| reply.starts_with(|first: char| first.is_ascii_digit()))
    }

    /// Returns the users and the refusals as JSON, for a server that is a script.
    pub(crate) fn directory(&self) -> serde_json::Value {
        let refused = self.refusals().map(|(address, reply)| (address.to_lowercase(), reply.into()));
        serde_json::json!({
            "users": self.user_list(&LISTED),
            "catch_all": CATCH_ALL,
            "refused": refused.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Returns the users of `domains`, in lower case and without tags.
    pub(crate) fn user_list(&self, domains: &[&str]) -> BTreeSet<String> {
        // A role is in the list as often as its tags are.
        let mut users = BTreeSet::new();
        for address in self.addresses.iter().filter(|address| address.kind.is_user()) {
            // Postfix looks up the address in lower case, first with the tag and then without it.
            let (local, domain) = address.text.split_once('@').expect("a user has an address");
            let local = local.split_once('+').map_or(local, |(name, _)| name).to_lowercase();
            if domains.contains(&&*domain.to_lowercase()) {
                users.insert(format!("{local}@{domain}", domain = domain.to_lowercase()));
            }
        }
        users
    }

    /// Keys and values of the map that lists the users of `domains`, as all such maps are written.
    pub(crate) fn users(&self, domains: &[&str]) -> String {
        let users = self.user_list(domains);
        let mut map: String = users.iter().map(|user| format!("{user} {user}\n")).collect();
        for domain in domains.iter().filter(|domain| CATCH_ALL.contains(domain)) {
            map += &format!("@{domain} all@{domain}\n");
        }
        map
    }
}

fn address(n: usize, kind: Kind, random: &mut Rng) -> Address {
    const FIRST: [&str; 12] =
        ["ann", "bob", "carla", "dmitri", "eve", "farid", "grete", "hugo", "ines", "jan", "kim", "lea"];
    const LAST: [&str; 12] = [
        "abel", "brandt", "costa", "diaz", "endo", "fuchs", "garcia", "haas", "ito", "jensen", "klein",
        "lopez",
    ];
    let first = FIRST[random.usize(..FIRST.len())];
    let last = LAST[random.usize(..LAST.len())];
    let listed = LISTED[random.usize(..LISTED.len())];
    let name = format!("{first}.{last}{n}");
    let text = match kind {
        Kind::Known | Kind::Unknown | Kind::Full | Kind::FullForGood | Kind::Disabled | Kind::Rejected => {
            format!("{name}@{listed}")
        }
        Kind::Tagged => format!("{name}+news@{listed}"),
        Kind::Shouted => format!("{name}@{listed}").to_uppercase(),
        Kind::Accented | Kind::UnknownAccented => format!("{first}.müller{n}@{listed}"),
        Kind::Role => format!("{}+{n}@{listed}", ["info", "sales", "postmaster"][n % 3]),
        Kind::UnknownQuoted => format!("\"{first} {last} {n}\"@{listed}"),
        Kind::CatchAll => format!("{name}@{}", CATCH_ALL[n % CATCH_ALL.len()]),
        Kind::Foreign => format!("{name}@{FOREIGN}"),
        Kind::NoDomain => format!("{name}@{NO_DOMAIN}"),
        Kind::NullMx => format!("{name}@{NULL_MX}"),
        Kind::Malformed => match n % 5 {
            0 => format!("{name}.shop.test"),
            1 => format!("{name}@@shop.test"),
            2 => format!(".{name}@shop.test"),
            3 => format!("{name}@shop..test"),
            _ => format!("{first} {last}{n}@shop.test"),
        },
    };
    Address { text, kind }
}

/// Returns each domain with the name of its mail server.
pub(crate) fn exchangers() -> impl Iterator<Item = (&'static str, &'static str)> {
    // These make three lanes.
    let exchanger = |domain| match domain {
        "office.test" | "campus.test" | "any.test" => "mx1.interop.test",
        "shop.test" | "club.test" | "backup.test" | FOREIGN => "mx2.interop.test",
        _ => "mx3.interop.test",
    };
    LISTED.into_iter().chain(CATCH_ALL).chain([FOREIGN]).map(move |domain| (domain, exchanger(domain)))
}

pub(crate) const UNREACHABLE: [(&str, smtp_pool::verify::Unreachable); 2] = [
    (NO_DOMAIN, smtp_pool::verify::Unreachable::NoDnsEntries),
    (NULL_MX, smtp_pool::verify::Unreachable::NullMx),
];
