//! Finds rows whose mailbox came before.

use std::hash::BuildHasher;

use foldhash::{HashSet, quality::RandomState};
use smtp_pool::{proto::Mailbox, verify::normal_form};

/// The mailboxes so far, as 96 bits of a hash with a secret random seed: 12 octets each. Among ten million mailboxes, a
/// collision has a probability of 10⁻¹⁵.
#[derive(Default)]
pub(super) struct SeenMailboxes {
    hashers: [RandomState; 2],
    seen: HashSet<[u32; 3]>,
}

impl SeenMailboxes {
    /// Records a mailbox by its normal form. Returns whether it is new. A text that is no address is always new.
    pub(super) fn insert(&mut self, address: &str) -> bool {
        let Ok(mailbox) = Mailbox::parse_lent(address) else { return true };
        let form = normal_form(&mailbox);
        let [one, two] = [&self.hashers[0], &self.hashers[1]].map(|hasher| hasher.hash_one(&*form));
        self.seen.insert([one as u32, (one >> 32) as u32, two as u32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_are_one() {
        let mut seen = SeenMailboxes::default();
        let new = [
            "a.nn+x@gmail.com",
            "Ann@googlemail.com",
            "ann@x.test",
            "no address",
            "no address",
            "ANN@x.test",
        ];
        assert_eq!(new.map(|address| seen.insert(address)), [true, false, true, true, true, false]);
    }
}
