//! Compares two jobs.

use std::hash::BuildHasher;

use foldhash::HashMap;

use super::{
    error::Result,
    job::Job,
    results::{JobRow, RowState},
};
use crate::{proto::Mailbox, verify::SubStatus};

/// Calls `report` with each address whose verdict differs, its verdict before, and its verdict after. It goes through
/// `after` in order, then through the addresses that only `before` has. The case of a domain does not matter.
///
/// # Errors
/// Fails if a store fails.
pub fn diff(
    before: &Job,
    after: &Job,
    mut report: impl FnMut(&str, Option<SubStatus>, Option<SubStatus>),
) -> Result<()> {
    let hasher = foldhash::quality::RandomState::default();
    let key = |address: &str| match Mailbox::parse(address) {
        Ok(mailbox) => hasher.hash_one(mailbox.as_str()),
        Err(_) => hasher.hash_one(address),
    };
    let verdict = |row: &JobRow| (row.state == RowState::Verdict).then_some(row.record.sub_status);
    // The verdict before, and true once the address was compared or reported.
    let mut seen: HashMap<u64, (Option<SubStatus>, bool)> = HashMap::default();
    for rows in before.rows() {
        seen.extend(rows?.iter().map(|row| (key(&row.record.address), (verdict(row), false))));
    }
    for rows in after.rows() {
        for row in rows? {
            let now = verdict(&row);
            match seen.get_mut(&key(&row.record.address)) {
                Some((_, true)) => {}
                Some((was, found)) => {
                    *found = true;
                    if *was != now {
                        report(&row.record.address, *was, now);
                    }
                }
                None => {
                    seen.insert(key(&row.record.address), (None, true));
                    report(&row.record.address, None, now);
                }
            }
        }
    }
    for rows in before.rows() {
        for row in rows? {
            if let Some((was, found @ false)) = seen.get_mut(&key(&row.record.address)) {
                *found = true;
                report(&row.record.address, *was, None);
            }
        }
    }
    Ok(())
}
