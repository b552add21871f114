//! Checksums of stored data, so that a damaged disk gives an error and never a wrong verdict.
//!
//! SQLite has checksums in its log and none in its pages. Here each row carries a checksum of its columns, and each
//! encoded value ends with a checksum of its octets. Both also cover the table and the row number, so that a value in
//! the wrong place is detected. A checksum is the first 64 bits of a BLAKE3 hash. It detects accidents, not forgery.

use rusqlite::types::ValueRef;

use super::error::{JobError, Result};

/// Length of a checksum, in octets.
const LEN: usize = 8;

/// Returns the checksum of a row: of its table and the columns that the checksum covers.
pub(super) fn row_sum<'a>(table: &str, columns: impl IntoIterator<Item = ValueRef<'a>>) -> i64 {
    let mut octets = Vec::with_capacity(128);
    octets.extend_from_slice(table.as_bytes());
    let mut put = |kind: u8, value: &[u8]| {
        octets.push(kind);
        octets.extend_from_slice(&(value.len() as u64).to_le_bytes());
        octets.extend_from_slice(value);
    };
    for column in columns {
        match column {
            ValueRef::Null => put(0, &[]),
            ValueRef::Integer(number) => put(1, &number.to_le_bytes()),
            ValueRef::Real(number) => put(2, &number.to_le_bytes()),
            ValueRef::Text(text) => put(3, text),
            ValueRef::Blob(blob) => put(4, blob),
        }
    }
    i64::from_le_bytes(first(&blake3::hash(&octets)))
}

/// Appends the checksum to an encoded value of the column `place` in this row.
pub(super) fn with_checksum(place: &str, row: i64, value: &[u8]) -> Vec<u8> {
    [value, &sum(place, row, value)].concat()
}

/// Removes the checksum after checking it.
///
/// # Errors
/// Fails with [`Damaged`](JobError::Damaged) if the checksum is wrong.
pub(super) fn checked(place: &str, row: i64, mut checksummed: Vec<u8>) -> Result<Vec<u8>> {
    let at = checksummed.len().checked_sub(LEN).ok_or(JobError::Damaged)?;
    let (value, found) = checksummed.split_at(at);
    if found != sum(place, row, value) {
        return Err(JobError::Damaged.within(format_args!("{place} {row}")));
    }
    checksummed.truncate(at);
    Ok(checksummed)
}

fn sum(place: &str, row: i64, value: &[u8]) -> [u8; LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(place.as_bytes()).update(&row.to_le_bytes()).update(value);
    first(&hasher.finalize())
}

fn first(hash: &blake3::Hash) -> [u8; LEN] {
    let mut found = [0; LEN];
    found.copy_from_slice(&hash.as_bytes()[..LEN]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksummed_value_is_found_in_its_place_only() {
        let checksummed = with_checksum("result.results", 3, b"octets");
        assert_eq!(checked("result.results", 3, checksummed.clone()).unwrap(), b"octets");
        assert!(checked("result.results", 4, checksummed.clone()).is_err());
        assert!(checked("segment.data", 3, checksummed.clone()).is_err());
        assert!(checked("result.results", 3, Vec::new()).is_err());
        for bit in 0..checksummed.len() * 8 {
            let mut flipped = checksummed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(checked("result.results", 3, flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_row_has_the_sum_of_its_types_and_values() {
        let sum = |columns: &[ValueRef<'_>]| row_sum("t", columns.iter().copied());
        let rows: [&[ValueRef<'_>]; 6] = [
            &[ValueRef::Integer(1), ValueRef::Text(b"a")],
            &[ValueRef::Integer(2), ValueRef::Text(b"a")],
            &[ValueRef::Integer(1), ValueRef::Blob(b"a")],
            &[ValueRef::Integer(1), ValueRef::Null, ValueRef::Text(b"a")],
            &[ValueRef::Text(b"a"), ValueRef::Integer(1)],
            &[],
        ];
        let sums: std::collections::HashSet<i64> = rows.into_iter().map(sum).collect();
        assert_eq!(sums.len(), rows.len());
        assert_ne!(row_sum("t", []), row_sum("u", []));
    }
}
