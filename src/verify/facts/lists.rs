//! Whether an address belongs to a role, and whether its domain is free or disposable.
//!
//! The lists are data files that are compiled in. The head of each names its source and date.

use std::{cmp::Ordering, collections::HashSet, sync::LazyLock};

use crate::proto::Mailbox;

const ROLE: &str = include_str!("data/role.txt");
/// Grouped by first letter and sorted, because every address is looked up here, while other lists are searched once per
/// domain.
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
#[cfg(feature = "disposable")]
const DISPOSABLE: &str = include_str!("data/disposable.txt");
#[cfg(not(feature = "disposable"))]
const DISPOSABLE: &str = "";

/// Returns whether a line of the sorted list is `name`. The search works on the text itself: a set of 120,000 names
/// takes 25 ms to build, too long for a few look-ups. Comments are at the start, and `#` sorts before every name.
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

/// Facts about a domain that hold for all its mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainFacts {
    /// Anyone can get a mailbox there free of charge.
    pub free: bool,
    /// The domain or a parent domain offers disposable mailboxes.
    pub disposable: bool,
}

impl DomainFacts {
    /// Looks up a domain, in lower-case A-labels as [`Mailbox::domain`] returns it, in the built-in lists.
    /// Without the feature `disposable`, no domain is disposable.
    ///
    /// ```
    /// use smtp_pool::verify::DomainFacts;
    /// assert!(DomainFacts::of("gmail.com").free);
    /// assert_eq!(DomainFacts::of("mx.mailinator.com").disposable, cfg!(feature = "disposable"));
    /// assert_eq!(DomainFacts::of("example.org"), DomainFacts::default());
    /// ```
    #[must_use]
    pub fn of(domain: &str) -> Self {
        let mut parents = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1));
        Self { free: lists(FREE, domain), disposable: parents.any(|name| lists(DISPOSABLE, name)) }
    }
}

/// Lists of the user, in addition to the built-in ones. Empty by default.
///
/// ```
/// use smtp_pool::{proto::Mailbox, verify::Lists};
/// let mut lists = Lists::default();
/// lists.disposable.insert("throwaway.example".into());
/// assert!(lists.domain("mx.throwaway.example").disposable);
/// lists.roles.insert("rezeption".into());
/// assert!(lists.is_role(&Mailbox::parse("Rezeption+x@example.com")?));
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lists {
    /// Local parts of roles, in lower case.
    pub roles: HashSet<Box<str>>,
    /// Domains that offer disposable mailboxes, in lower-case A-labels. Their subdomains count as well.
    pub disposable: HashSet<Box<str>>,
    /// Domains where anyone can get a mailbox free of charge, in lower-case A-labels.
    pub free: HashSet<Box<str>>,
}

impl Lists {
    /// Looks up a domain, in lower-case A-labels, in the built-in lists and in these.
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

    /// Returns whether a mailbox belongs to a role, by [`is_role`] or by these lists.
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

/// Returns whether a mailbox belongs to a role such as `info` or `postmaster` (RFC 2142) and not to a person.
///
/// It ignores case, dots and a `+tag`.
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
    // Narrows the names to those that match octet by octet. For most local parts none is left at the third octet.
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

/// Returns the position of a lower-case letter in the alphabet, from 0.
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
    fn a_role_is_known_in_any_spelling() {
        let role = |address: &str| is_role(&Mailbox::parse(address).unwrap());
        assert!(role("INFO@example.com") && role("web.master@example.com") && role("sales+x@example.com"));
        assert!(!role("information@example.com") && !role("\"a@b\"@example.com"));
        assert!(!role("inf@example.com") && !role("+info@example.com") && !role("1info@example.com"));
        assert!(!role(&format!("{}@example.com", "x".repeat(64))));
    }

    #[test]
    fn a_domain_below_a_disposable_one_is_disposable() {
        assert_eq!(DomainFacts::of("a.b.mailinator.com").disposable, cfg!(feature = "disposable"));
        assert!(!DomainFacts::of("mailinator.com.example.org").disposable);
    }
}
