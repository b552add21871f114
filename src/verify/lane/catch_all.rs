//! Tests whether a domain accepts every local part.
//!
//! Each domain is tested once, after a first acceptance, with a name that is almost certainly unused. The name looks natural, since
//! some servers answer generated names differently.

use crate::{
    proto::{AddressError, Mailbox},
    verify::CatchAll,
};

const FIRST: [&str; 24] = [
    "alma", "bastian", "celia", "dorian", "elsbeth", "fabrice", "gundula", "henrik", "isolde", "joris",
    "katrin", "lennart", "malwina", "norbert", "ottilie", "pascal", "quirin", "rosalind", "sixten", "tamara",
    "ulrika", "valentin", "wendela", "yannick",
];
const ONSET: [&str; 12] = ["br", "d", "f", "gr", "h", "kl", "l", "m", "st", "t", "v", "w"];
const RHYME: [&str; 12] = [
    "ackel", "amper", "elling", "endor", "erstad", "ickert", "ingham", "olzen", "onder", "ossberg", "ulver",
    "unsel",
];

/// Returns a mailbox at `domain` that almost certainly does not exist.
pub(super) fn random_mailbox(domain: &str) -> Result<Mailbox, AddressError> {
    let pick = |names: &[&'static str]| names[fastrand::usize(..names.len())];
    let surname = [pick(&ONSET), pick(&RHYME), pick(&ONSET), pick(&RHYME)].concat();
    Mailbox::parse(&format!("{}.{surname}{}@{domain}", pick(&FIRST), fastrand::u8(11..99)))
}

/// The catch-all state of a domain, and the addresses that wait for it.
#[derive(Debug)]
pub(super) enum CatchAllState<T> {
    /// The question has no answer yet. These addresses were accepted meanwhile.
    Asked(Vec<T>),
    /// The question has its answer.
    Answered(CatchAll),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_differ_and_are_plain_names() {
        let (a, b) = (random_mailbox("example.com").unwrap(), random_mailbox("example.com").unwrap());
        assert_ne!(a, b);
        assert!(a.local_part().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.'));
        assert!(a.local_part().len() <= 40, "{a}");
    }

    #[test]
    fn a_probe_fits_any_domain() {
        let label = "d".repeat(60);
        assert!(random_mailbox(&format!("{label}.{label}.{label}.example")).is_ok());
    }
}
