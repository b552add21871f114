//! What an address tells by itself: whether it is a role, a free or a disposable one.
//!
//! The lists are data files, each with its source and date in its head; they are compiled in.

use std::{cmp::Ordering, collections::HashSet, sync::LazyLock};

use crate::proto::Mailbox;

const ROLE: &str = include_str!("data/role.txt");
/// By their first letters and sorted, since every address is looked up in it and not only every domain.
static ROLES: LazyLock<[Vec<&[u8]>; 26]> = LazyLock::new(|| {
    let mut by_letter = [const { Vec::new() }; 26];
    for name in ROLE.lines().filter(|line| !line.starts_with('#')).map(str::as_bytes) {
        if let Some(letter) = name.first().and_then(|&first| letter(first)) {
            by_letter[letter].push(name);
        }
    }
    by_letter
});
const FREE: &str = include_str!("data/free.txt");
const DISPOSABLE: &str = include_str!("data/disposable.txt");

/// Whether a line of the sorted list is `name`. Searched in place: a set of 120,000 names would cost 25 ms to build,
/// before the first of a handful of lookups. Comments stand in front, and `#` sorts before every name.
fn lists(list: &str, name: &str) -> bool {
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = list[..middle].rfind('\n').map_or(0, |newline| newline + 1).max(low);
        let end = list[start..].find('\n').map_or(list.len(), |newline| start + newline);
        match list[start..end].cmp(name) {
            Ordering::Less => low = end + 1,
            Ordering::Equal => return true,
            Ordering::Greater => high = start,
        }
    }
    false
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
        Self { free: lists(FREE, domain), disposable: parents.any(|name| lists(DISPOSABLE, name)) }
    }
}

/// Lists of the user's own, beside the built-in ones.
///
/// ```
/// use smtp_pool::{proto::Mailbox, verify::Lists};
/// let mut lists = Lists::default();
/// lists.disposable.insert("throwaway.example".into());
/// assert!(lists.domain("mx.throwaway.example").disposable);
/// assert!(lists.domain("mailinator.com").disposable);
/// lists.roles.insert("rezeption".into());
/// assert!(lists.is_role(&Mailbox::parse("Rezeption+x@example.com")?));
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Local parts that belong to roles, in lower case.
    pub roles: HashSet<Box<str>>,
    /// Domains that hand out throw-away mailboxes, in lower-case A-labels; those below them as well.
    pub disposable: HashSet<Box<str>>,
    /// Domains where anybody has a mailbox for nothing, in lower-case A-labels.
    pub free: HashSet<Box<str>>,
}

impl Lists {
    /// What [`DomainFacts::of`] says, or these lists.
    #[must_use]
    pub fn domain(&self, domain: &str) -> DomainFacts {
        let facts = DomainFacts::of(domain);
        let mut parents = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1));
        DomainFacts {
            free: facts.free || self.free.contains(domain),
            disposable: facts.disposable
                || !self.disposable.is_empty() && parents.any(|name| self.disposable.contains(name)),
        }
    }

    /// What [`is_role`] says, or these lists.
    #[must_use]
    pub fn is_role<T: AsRef<str>>(&self, mailbox: &Mailbox<T>) -> bool {
        is_role(mailbox) || {
            !self.roles.is_empty() && {
                let name = mailbox.local_part().to_lowercase();
                self.roles.contains(name.split('+').next().unwrap_or_default())
            }
        }
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
pub fn is_role<T: AsRef<str>>(mailbox: &Mailbox<T>) -> bool {
    let local_part = mailbox.local_part().bytes().take_while(|octet| *octet != b'+');
    let mut octets = local_part.filter(|octet| *octet != b'.').map(|octet| octet.to_ascii_lowercase());
    let Some(letter) = octets.next().and_then(letter) else { return false };
    // Those that go on as the local part does, octet by octet; most people have parted from all of them at the third.
    let (mut names, mut length) = (&ROLES[letter][..], 1);
    for octet in octets {
        while let [first, rest @ ..] = names
            && first.get(length) < Some(&octet)
        {
            names = rest;
        }
        while let [rest @ .., last] = names
            && last.get(length) > Some(&octet)
        {
            names = rest;
        }
        if names.is_empty() {
            return false;
        }
        length += 1;
    }
    names.first().is_some_and(|name| name.len() == length)
}

/// The place of a lower-case letter in the alphabet.
fn letter(octet: u8) -> Option<usize> {
    octet.is_ascii_lowercase().then(|| usize::from(octet - b'a'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_list_is_found_and_its_neighbours_are_not() {
        for list in [ROLE, FREE, DISPOSABLE] {
            let names: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(names.is_sorted(), "the search needs the list sorted");
            assert!(names.iter().all(|name| lists(list, name)));
            assert!(!names.iter().step_by(97).any(|name| lists(list, &format!("{name}0"))));
        }
        assert!(!lists(ROLE, "") && !lists(ROLE, "zzz") && !lists("", "info"));
    }

    #[test]
    fn every_role_is_found() {
        for name in ROLE.lines().filter(|line| !line.starts_with('#')) {
            assert!(is_role(&Mailbox::parse(&format!("{name}@example.com")).unwrap()), "{name}");
        }
    }

    #[test]
    fn a_role_is_known_in_any_dress() {
        let role = |address: &str| is_role(&Mailbox::parse(address).unwrap());
        assert!(role("INFO@example.com") && role("web.master@example.com") && role("sales+x@example.com"));
        assert!(!role("information@example.com") && !role("\"a@b\"@example.com"));
        assert!(!role("inf@example.com") && !role("+info@example.com") && !role("1info@example.com"));
        assert!(!role(&format!("{}@example.com", "x".repeat(64))));
    }

    #[test]
    fn a_domain_below_a_disposable_one_is_disposable() {
        assert!(DomainFacts::of("a.b.mailinator.com").disposable);
        assert!(!DomainFacts::of("mailinator.com.example.org").disposable);
    }
}
