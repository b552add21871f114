//! Properties that hold for any list, for the tests and the fuzz target.

use std::{cell::RefCell, collections::HashSet, io::Cursor};

use super::{
    import,
    input::{self, Hints, InputFormat, Row},
    results,
    sqlite::Sqlite,
    store::Store,
};
use crate::proto::Mailbox;

thread_local! {
    /// A database for all lists of the thread. Most of the time of a short list would go into new tables.
    static STORE: RefCell<Sqlite> = RefCell::new(Sqlite::in_memory().expect("memory is available"));
}

/// Checks the import of any octets: every row is stored in order as it was written, and each address is asked once.
/// Otherwise the error has a message. The first octet chooses what the user says about the list.
pub fn job_input(octets: &[u8]) {
    let (first, list) = octets.split_first().unwrap_or((&0, &[]));
    let hints = Hints {
        format: match first % 8 {
            1 => Some(InputFormat::Text),
            2 => Some(InputFormat::Csv),
            3 => Some(InputFormat::Jsonl),
            4 => Some(InputFormat::Json),
            _ => None,
        },
        header: [None, Some(true), Some(false), None][usize::from(first >> 3 & 3)],
        encoding: (first & 0x20 != 0).then(|| "windows-1252".into()),
        skip: u64::from(first >> 6 & 1),
        columns: if first & 0x80 != 0 { vec!["2".into(), "1".into()] } else { Vec::new() },
        ..Hints::default()
    };
    let rows = match input::read(Cursor::new(list.to_vec()), &hints) {
        Ok((rows, dialect, _)) => {
            assert!(!dialect.to_string().is_empty());
            rows
        }
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // A list that cannot be read to its end ends there.
    let rows: Vec<_> = rows.map_while(Result::ok).collect();
    for row in &rows {
        assert_eq!(row.mailbox.is_none(), row.fault.is_some(), "{row:?}");
    }
    assert!(
        rows.windows(2).all(|pair| pair[0].line <= pair[1].line || hints.format != Some(InputFormat::Text))
    );

    STORE.with_borrow_mut(|store| {
        store.clear().expect("memory stores everything");
        check_import(&rows, store);
    });
}

/// Checks that the store gives back the rows, and that each address is asked once.
fn check_import(rows: &[Row], store: &mut Sqlite) {
    let imported = import::import(rows.iter().cloned(), store).expect("memory stores everything");
    assert_eq!(imported.rows, rows.len() as u64);
    let spans = store.spans().expect("it was stored");
    let found: Vec<_> = spans
        .iter()
        .flat_map(|span| results::pieces(store, *span))
        .flat_map(|piece| piece.expect("stored rows are readable"))
        .map(|row| (row.record.address, row.written))
        .collect();
    assert!(
        found.iter().eq(rows
            .iter()
            .map(|row| (row.address.clone(), row.written.clone()))
            .collect::<Vec<_>>()
            .iter())
    );

    let mut asked = HashSet::new();
    for chunk in store.chunks(0).expect("it was stored") {
        let encoded = store.addresses(chunk.id).expect("it was stored").expect("it is not finished");
        for (place, address) in import::addresses(&encoded).expect("encoded addresses are decoded") {
            let row = &rows[(spans[chunk.segment as usize].first + place) as usize];
            assert_eq!(address, row.question());
            assert_eq!(Mailbox::parse(&address).ok(), row.mailbox);
            assert_eq!(address, input::question(&row.address));
            let number = spans[chunk.segment as usize].first;
            let key = match &row.mailbox {
                Some(mailbox) => mailbox.to_string(),
                None => format!("{} no address", u64::from(number) + u64::from(place)),
            };
            assert!(asked.insert(key), "{address} is asked about twice");
            if let (Some(domain), Some(mailbox)) = (&chunk.domain, &row.mailbox) {
                assert_eq!(domain, mailbox.domain());
            }
        }
    }
    assert_eq!(asked.len() as u64, imported.addresses + imported.invalid);
    let mailboxes: HashSet<_> = rows.iter().filter_map(|row| row.mailbox.as_ref()).collect();
    assert_eq!(mailboxes.len() as u64, imported.addresses);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_with_a_fault_is_not_asked_although_it_parses_as_an_address() {
        job_input(b"st\nann@xnr-kva.X\xc3\xbccher.test\x92\x91\xbf\x87\na\x92\x91\xbf\x87nr-kva.t\xce\xff\xff\xff\xff\xff$\xaet");
    }

    proptest! {
        #[test]
        fn any_octets_are_a_list_or_an_error(octets: Vec<u8>) {
            job_input(&octets);
        }

        #[test]
        fn any_text_is_a_list_or_an_error(format: u8, text in "([a-c]@[xy]\\.test|[ ,;\"{}:\n#a@-]){0,80}") {
            job_input(&[&[format], text.as_bytes()].concat());
        }
    }
}
