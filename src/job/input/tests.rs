use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::{
    job::error::{JobError, Result},
    proto::Mailbox,
    verify::MAX_TEXT,
};

/// Returns the line, the address, and true if there is a fault, of each row.
fn rows(
    octets: &[u8],
    format: Option<InputFormat>,
    column: Option<&str>,
) -> Result<Vec<(u64, String, bool)>> {
    let hints = Hints { format, columns: column.map(Into::into).into_iter().collect(), ..Hints::default() };
    let (rows, ..) = read(Cursor::new(octets.to_vec()), &hints)?;
    Ok(rows.map(|row| row.unwrap()).map(|row| (row.line, row.address, row.fault.is_some())).collect())
}

/// Returns an error with its hint.
fn message(error: &JobError) -> String {
    format!("{error}; {}", error.hint().unwrap_or_default())
}

#[track_caller]
fn check(text: &str, column: Option<&str>, found: &[(u64, &str)]) {
    let rows = rows(text.as_bytes(), None, column).unwrap();
    let rows: Vec<_> = rows.iter().map(|(line, address, _)| (*line, address.as_str())).collect();
    assert_eq!(rows, found, "{text:?}");
}

#[test]
fn text() {
    check("ann@x.test\r\n\n  bob@x.test \n", None, &[(1, "ann@x.test"), (3, "bob@x.test")]);
    check("\u{feff}# a list\n#\n#ann@x.test\n", None, &[(3, "#ann@x.test")]);
    check("\"a, b\"@x.test\n", None, &[(1, "\"a, b\"@x.test")]);
    check("no address\n", None, &[(1, "no address")]);
    check("", None, &[]);
}

#[test]
fn csv_with_a_header() {
    check("id,email\n1,ann@x.test\n\n2,\n3\n", None, &[(2, "ann@x.test"), (4, ""), (5, "3")]);
    check("Name;E-Mail \r\nAnn;ann@x.test\r\n", None, &[(2, "ann@x.test")]);
    check("name\tWork Email\taddress\nAnn\tann@x.test\tStreet 1\n", Some("work email"), &[(2, "ann@x.test")]);
    check("address,email\nStreet 1,ann@x.test\n", None, &[(2, "ann@x.test")]);
    check("Name,E-mail 1 - Value\nAnn,ann@x.test\n", None, &[(2, "ann@x.test")]);
    check("who,where\nAnn,ann@x.test\n", None, &[(2, "ann@x.test")]);
    check("who,where\nAnn,ann@x.test\n", Some("2"), &[(2, "ann@x.test")]);
    check("\u{feff}\"email\",\"id\"\n\"ann@x.test\",1\n", None, &[(2, "ann@x.test")]);
    check("email\nann@x.test\n", None, &[(2, "ann@x.test")]);
    check(
        "note,email\n\"two\nlines, quoted\",ann@x.test\n3,bob@x.test\n",
        None,
        &[(2, "ann@x.test"), (4, "bob@x.test")],
    );
}

#[test]
fn csv_without_a_header() {
    check("1,ann@x.test\n2,bob@x.test\n", None, &[(1, "ann@x.test"), (2, "bob@x.test")]);
    check("1,ann@x.test\n", Some("2"), &[(1, "ann@x.test")]);
    check("1;\"john doe\"@x.test\n", None, &[(1, "\"john doe\"@x.test")]);
}

#[test]
fn an_unclosed_quote_costs_one_row() {
    let text = "email,id\nann@x.test,1\n\"bob@x.test,2\neve@x.test,3\n";
    check(text, None, &[(2, "ann@x.test"), (3, "\"bob@x.test"), (4, "eve@x.test")]);
    let long = format!("email\n\"open\n{}", "ann@x.test\n".repeat(10_000));
    assert_eq!(rows(long.as_bytes(), None, None).unwrap().len(), 10_001);
}

/// Returns a line longer than a reader keeps.
fn endless() -> String {
    "x".repeat(5 << 20)
}

#[test]
fn invalid_addresses_are_cut() {
    let long = "ü".repeat(700_000);
    for (text, format) in [
        (format!("{long}\nann@x.test\n"), InputFormat::Text),
        (format!("email,id\n{long},1\nann@x.test,2\n"), InputFormat::Csv),
        (format!("{{\"email\":\"{long}\"}}\n\"ann@x.test\"\n"), InputFormat::Jsonl),
        (format!("{long}\n\"ann@x.test\"\n"), InputFormat::Jsonl),
    ] {
        let rows = rows(text.as_bytes(), Some(format), None).unwrap();
        let (_, address, faulty) = &rows[0];
        assert!(*faulty && address.len() <= MAX_TEXT && address.len() > MAX_TEXT - 4, "{format:?}");
        assert!(
            address.ends_with("ü…") || address.ends_with('…') && format == InputFormat::Jsonl,
            "{address}"
        );
        assert_eq!(rows[1].1, "ann@x.test");
        assert!(Mailbox::parse(address).is_err());
    }
    // An address that is long because of characters that nobody sees is none.
    let long = format!("{}@b{}.example\n", "l".repeat(64), "\u{AD}".repeat(501));
    let rows = rows(long.as_bytes(), None, None).unwrap();
    assert!(rows[0].2 && rows[0].1.len() <= MAX_TEXT);
}

#[test]
fn a_row_without_end_is_one_row_and_never_half_an_address() {
    let endless = endless();
    // The column is in the part that was kept.
    let text = format!("email,note\nann@x.test,{endless}\nbob@x.test,2\n");
    check(&text, None, &[(2, "ann@x.test"), (3, "bob@x.test")]);
    // The dropped part of a quoted cell does not consume the next row.
    let text = format!("email,note\nann@x.test,\"{endless}\"\nbob@x.test,\"2\"\n");
    check(&text, None, &[(2, "ann@x.test"), (3, "bob@x.test")]);
    // The cut is within the address, so what is left is another valid one.
    let head = "x".repeat((4 << 20) - "ann@x.te".len() - 1);
    let text = format!("note,email\n{head},ann@x.test\n1,bob@x.test\n");
    let found = rows(text.as_bytes(), None, None).unwrap();
    assert_eq!(found[0], (2, " ann@x.te".into(), true));
    assert_eq!(found[1], (3, "bob@x.test".into(), false));
    // The column is after the cut.
    let text = format!("note,email\n{endless},ann@x.test\n1,bob@x.test\n");
    let found = rows(text.as_bytes(), None, None).unwrap();
    assert!(found[0].2 && found[0].1.len() <= MAX_TEXT && found[1].1 == "bob@x.test");
    // A header that was cut would hide a column.
    let error = rows(format!("{endless},email\n1,ann@x.test\n").as_bytes(), Some(InputFormat::Csv), None);
    assert!(message(&error.unwrap_err()).contains("line 1: longer than 4 MiB"));
}

#[test]
fn blank_lines_before_a_list_are_not_kept() {
    let text = format!("{}email,id\nann@x.test,1\n", "\n \n".repeat(50_000));
    check(&text, None, &[(100_002, "ann@x.test")]);
    check(&format!("{}ann@x.test\n", "\r\n".repeat(9)), None, &[(10, "ann@x.test")]);
}

#[test]
fn long_column_names_are_cut_in_errors() {
    let names: Vec<_> = (0..50).map(|n| format!("{n}{}", "n".repeat(100_000))).collect();
    let error =
        rows(format!("{}\n1\n", names.join(",")).as_bytes(), Some(InputFormat::Csv), None).unwrap_err();
    assert!(message(&error).len() < 2_000, "{}", message(&error).len());
}

#[test]
fn jsonl() {
    let text = "{\"id\": 1, \"email\": \"ann@x.test\"}\n\n\"bob@x.test\"\n{\"Address\": \" eve@x.test \"}\n";
    check(text, None, &[(1, "ann@x.test"), (3, "bob@x.test"), (4, "eve@x.test")]);
    check("{\"email\": \"a@x.test\", \"to\": \"b@x.test\"}\n", Some("to"), &[(1, "b@x.test")]);
    let bad = ["{\"email\": \"ann@x.test\"", "{\"mehl\": 1}", "{\"email\": 1}", "{\"email\": null}", "1"];
    for line in bad {
        let rows = rows(line.as_bytes(), Some(InputFormat::Jsonl), None).unwrap();
        // An object keeps its fields, and its address is empty.
        let address = if line.ends_with('}') { "" } else { line };
        assert_eq!(rows, [(1, address.to_owned(), true)]);
    }
}

#[test]
fn a_faulty_row_is_never_a_valid_address() {
    // The text alone would be a valid address.
    let faulty = rows(b"{ann@x.test", Some(InputFormat::Jsonl), None).unwrap();
    // One damaged octet in a list in UTF-8.
    let text = [&"j\u{f6}rg@x.test\n".repeat(20).into_bytes()[..], b"ann\xff@x.test"].concat();
    let damaged = rows(&text, None, None).unwrap();
    for row in [&faulty[0], &damaged[20]] {
        assert!(row.2 && Mailbox::parse(&row.1).is_err(), "{row:?}");
    }
}

#[test]
fn other_files_are_refused_with_a_hint() {
    let error = |text: &str, format, column| message(&rows(text.as_bytes(), format, column).unwrap_err());
    assert!(error("a,b\n1,2\n", None, None).contains("NAME is \"a\", \"b\""));
    assert!(error("a,b\n1,2\n", None, Some("c")).contains("--column c: there is no such column"));
    assert!(error("ann@x.test\n", None, Some("c")).contains("plain text has no columns"));
}

#[test]
fn arguments_are_files_addresses_or_standard_input() {
    let sort =
        |arguments: &[&str]| Source::of_arguments(&arguments.iter().map(|&it| it.into()).collect::<Vec<_>>());
    let found = sort(&["a@x.test", "b@x.test", "-", "Cargo.toml", "c@x.test"]).unwrap();
    let addresses = |all: &[&str]| Source::Addresses(all.iter().map(|&it| it.into()).collect());
    let file = Source::File("Cargo.toml".into());
    assert_eq!(found, [addresses(&["a@x.test", "b@x.test"]), Source::Stdin, file, addresses(&["c@x.test"])]);
    assert!(sort(&["-", "-"]).is_err());
    assert!(sort(&["nothing"]).unwrap_err().to_string().starts_with("nothing: no such file"));
}

proptest! {
    #[test]
    fn any_line_of_text_is_a_row(lines in prop::collection::vec("[a-z.,; é\\t]{0,12}", 0..20), end in "\n|\r\n|\r") {
        let text = lines.join(&end);
        let filled = lines.iter().filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assert_eq!(rows(text.as_bytes(), Some(InputFormat::Text), None).unwrap().len(), filled);
        prop_assert_eq!(rows(text.as_bytes(), Some(InputFormat::Jsonl), None).unwrap().len(), filled);
    }

    #[test]
    fn any_record_of_csv_is_a_row(lines in prop::collection::vec(r#"a[a,;"\t 0-9é]{0,12}"#, 0..20)) {
        let hints = Hints { format: Some(InputFormat::Csv), delimiter: Some(b','), ..Hints::default() };
        let text = format!("email,id\n{}", lines.join("\n"));
        let (rows, ..) = read(Cursor::new(text.into_bytes()), &hints).unwrap();
        let rows: Vec<_> = rows.map(|row| row.unwrap().line).collect();
        // Quotes may join lines, and no line is lost.
        let quotes = lines.iter().any(|line| line.contains('"'));
        prop_assert!(rows.len() <= lines.len() && (quotes || rows.len() == lines.len()));
        prop_assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(rows.is_empty(), lines.is_empty());
    }

    #[test]
    fn nothing_makes_a_reader_panic(octets: Vec<u8>, column: Option<String>) {
        let formats = [InputFormat::Text, InputFormat::Csv, InputFormat::Jsonl, InputFormat::Json];
        for format in formats.into_iter().map(Some).chain([None]) {
            for row in rows(&octets, format, column.as_deref()).unwrap_or_default() {
                prop_assert_eq!(row.2, CellAddress::of(&row.1).mailbox.is_none());
            }
        }
    }

    #[test]
    fn any_table_in_any_dialect_is_read_back(
        table in prop::collection::vec(("[a-z]{1,6}", "[a-z]{1,5}", "[a-zäéß ,;|^\"'\\t\n\r0-9]{0,12}"), 1..8),
        delimiter in prop::sample::select(&b",;\t|^"[..]),
        end in "\n|\r\n|\r",
        always: bool,
        marked: bool,
        charset in prop::sample::select(&["UTF-8", "UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE", "windows-1252", "macintosh"][..]),
        format in prop::sample::select(&[InputFormat::Csv, InputFormat::Jsonl, InputFormat::Json][..]),
    ) {
        let rows: Vec<[String; 3]> = (1..)
            .zip(&table)
            .map(|(id, (local, domain, note))| [format!("{id}"), format!("{local}@{domain}.test"), note.clone()])
            .collect();
        let object = |[id, address, note]: &[String; 3]| {
            serde_json::json!({ "id": id, "e-mail": address, "note": note }).to_string()
        };
        let objects = || rows.iter().map(object).collect::<Vec<_>>();
        let text = match format {
            InputFormat::Jsonl => objects().join(&end),
            InputFormat::Json => format!("[{}]", objects().join(&format!(",{end}"))),
            _ => {
                let style = if always { ::csv::QuoteStyle::Always } else { ::csv::QuoteStyle::Necessary };
                let ends = match &*end { "\r\n" => ::csv::Terminator::CRLF, end => ::csv::Terminator::Any(end.as_bytes()[0]) };
                let mut writer = ::csv::WriterBuilder::new();
                writer.delimiter(delimiter).terminator(ends).quote_style(style);
                let mut writer = writer.from_writer(vec![]);
                writer.write_record(["id", "e-mail", "note"]).unwrap();
                rows.iter().for_each(|row| writer.write_record(row).unwrap());
                String::from_utf8(writer.into_inner().unwrap()).unwrap()
            }
        };
        let encoding = charset::Charset::of_name(charset).unwrap();
        let mut octets = charset::tests::encoded(&text, encoding);
        // A few words in an encoding of the past do not tell which one it is.
        let marked = marked && charset.starts_with("UTF");
        if marked {
            octets.splice(0..0, charset::tests::encoded("\u{feff}", encoding));
        }
        let hints = Hints { encoding: (!marked).then(|| charset.into()), ..Hints::default() };
        let (found, dialect, shape) = read(Cursor::new(octets), &hints).unwrap();
        let found: Vec<_> = found.map(|row| row.unwrap()).collect();
        prop_assert_eq!((dialect.format, &*dialect.encoding, dialect.bom), (format, charset, marked));
        if format == InputFormat::Csv {
            prop_assert_eq!(dialect.delimiter, Some(delimiter));
        }
        prop_assert_eq!(found.len(), rows.len());
        for (found, row) in found.iter().zip(&rows) {
            prop_assert_eq!(&found.address, &row[1]);
            prop_assert!(found.mailbox.is_some());
            let fields = shape.fields(&found.written);
            for (name, text) in ["id", "e-mail", "note"].into_iter().zip(row) {
                let found = fields.iter().find(|(found, _)| found == name);
                prop_assert_eq!(found.map(|(_, value)| value), Some(&serde_json::Value::from(text.as_str())));
            }
        }
    }
}
