//! The mailbox and the state of the catch-all test, which shows whether a domain accepts every local part.
//!
//! `verdicts.rs` starts the test of a domain after the server accepts a first address at it. The probe is a mailbox that
//! almost certainly does not exist. Its name looks natural, since some servers answer generated names differently.

use crate::{
    proto::{AddressError, Mailbox},
    verify::CatchAll,
};

const FIRST_NAMES: [&str; 24] = [
    "alma", "bastian", "celia", "dorian", "elsbeth", "fabrice", "gundula", "henrik", "isolde", "joris",
    "katrin", "lennart", "malwina", "norbert", "ottilie", "pascal", "quirin", "rosalind", "sixten", "tamara",
    "ulrika", "valentin", "wendela", "yannick",
];
/// The parts of the syllables of made-up surnames.
const ONSETS: [&str; 12] = ["br", "d", "f", "gr", "h", "kl", "l", "m", "st", "t", "v", "w"];
const RHYMES: [&str; 12] = [
    "ackel", "amper", "elling", "endor", "erstad", "ickert", "ingham", "olzen", "onder", "ossberg", "ulver",
    "unsel",
];

/// Returns a mailbox at `domain` that almost certainly does not exist.
pub(super) fn probe_mailbox(domain: &str) -> Result<Mailbox, AddressError> {
    let pick = |names: &[&'static str]| names[fastrand::usize(..names.len())];
    let surname = [pick(&ONSETS), pick(&RHYMES), pick(&ONSETS), pick(&RHYMES)].concat();
    Mailbox::parse(&format!("{}.{surname}{}@{domain}", pick(&FIRST_NAMES), fastrand::u8(11..99)))
}

/// The state of the test of a domain. `T` is an accepted address with its record.
#[derive(Debug)]
pub(super) enum CatchAllState<T> {
    /// The probe has no answer yet. These accepted addresses wait for it.
    Asked(Vec<T>),
    /// The probe has its answer.
    Answered(CatchAll),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_differ_and_are_plain_names() {
        let (a, b) = (probe_mailbox("example.com").unwrap(), probe_mailbox("example.com").unwrap());
        assert_ne!(a, b);
        assert!(a.local_part().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.'));
        assert!(a.local_part().len() <= 40, "{a}");
    }

    #[test]
    fn a_probe_fits_any_domain() {
        let label = "d".repeat(60);
        assert!(probe_mailbox(&format!("{label}.{label}.{label}.example")).is_ok());
    }
}
