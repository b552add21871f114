//! What an address tells by itself: whether it is a role, a free or a disposable one.
//!
//! The lists are data files, each with its source and date in its head; they are compiled in.

use std::{collections::HashSet, sync::LazyLock};

use crate::proto::Mailbox;

static ROLE: LazyLock<HashSet<&str>> = LazyLock::new(|| lines(include_str!("data/role.txt")));
static FREE: LazyLock<HashSet<&str>> = LazyLock::new(|| lines(include_str!("data/free.txt")));
static DISPOSABLE: LazyLock<HashSet<&str>> = LazyLock::new(|| lines(include_str!("data/disposable.txt")));

fn lines(list: &str) -> HashSet<&str> {
    list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// Facts about a domain, the same for all its mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainFacts {
    /// Anybody can have a mailbox there for nothing.
    pub free: bool,
    /// It, or a domain above it, hands out throw-away mailboxes.
    pub disposable: bool,
}

impl DomainFacts {
    /// Looks a domain up, in lower-case A-labels as [`Mailbox::domain`] gives it.
    ///
    /// ```
    /// use smtp_pool::verify::DomainFacts;
    /// assert!(DomainFacts::of("gmail.com").free);
    /// assert!(DomainFacts::of("mx.mailinator.com").disposable);
    /// assert_eq!(DomainFacts::of("example.org"), DomainFacts::default());
    /// ```
    #[must_use]
    pub fn of(domain: &str) -> Self {
        let mut parents = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1));
        Self { free: FREE.contains(domain), disposable: parents.any(|name| DISPOSABLE.contains(name)) }
    }
}

/// Whether a mailbox belongs to a role such as `info` or `postmaster` (RFC 2142) instead of a person.
///
/// Case, dots and a `+tag` do not count.
///
/// ```
/// use smtp_pool::{proto::Mailbox, verify::is_role};
/// assert!(is_role(&Mailbox::parse("Sales+spring@example.com")?));
/// assert!(!is_role(&Mailbox::parse("ann@example.com")?));
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[must_use]
pub fn is_role(mailbox: &Mailbox) -> bool {
    /// Longer than any name in the list.
    const MAX: usize = 32;
    let local = mailbox.local_part();
    let local = local.split_once('+').map_or(local, |(name, _)| name);
    if local.len() > MAX {
        return false;
    }
    let mut name = [0; MAX];
    let mut len = 0;
    for octet in local.bytes().filter(|&octet| octet != b'.') {
        name[len] = octet.to_ascii_lowercase();
        len += 1;
    }
    str::from_utf8(&name[..len]).is_ok_and(|name| ROLE.contains(name))
}
