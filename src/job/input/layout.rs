//! Finds the header and the columns of addresses of a table by its first rows.

use std::collections::HashSet;

use super::{
    cell::{self, CellAddress},
    names,
};
use crate::job::error::{JobError, Result};

/// The most rows before the header.
const MAX_PREAMBLE: usize = 60;
/// The most columns that get a name because a row has a cell for them.
const MAX_NAMED: usize = 16_384;
/// The longest cell that is shown as an example, in characters.
const EXAMPLE: usize = 60;

/// A row of a table.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    /// The number of its first line, from 1.
    pub(super) number: u64,
    pub(super) cells: Vec<String>,
}

impl TableRow {
    fn cell(&self, column: usize) -> &str {
        self.cells.get(column).map_or("", |cell| cell.trim())
    }
}

/// The places of a table.
#[derive(Debug)]
pub(super) struct Layout {
    /// The number of lines before the header or the first row.
    pub(super) skipped: u64,
    pub(super) header: bool,
    /// The index of the first row with an address column, in the rows that were given.
    pub(super) first_row: usize,
    pub(super) names: Vec<String>,
    pub(super) columns: Vec<usize>,
    /// True if each column holds addresses, so that the table is a list of several addresses a line.
    pub(super) has_only_addresses: bool,
}

/// The cells with addresses of the first rows, and how many look like addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CellCheck {
    /// Cells that are not empty.
    pub(super) cells: u64,
    /// Cells that are an address or look like a damaged one.
    pub(super) addresses: u64,
    /// The first three cells that do not.
    pub(super) others: Vec<String>,
}

impl CellCheck {
    pub(super) fn add(&mut self, cell: &str) {
        let cell = cell.trim();
        if cell.is_empty() {
            return;
        }
        self.cells += 1;
        if CellAddress::looks_like(cell) {
            self.addresses += 1;
        } else if self.others.len() < 3 {
            self.others.push(match cell.char_indices().nth(EXAMPLE) {
                Some((end, _)) => format!("{}…", &cell[..end]),
                None => cell.to_owned(),
            });
        }
    }
}

/// Returns true for a cell with an address, or with several.
pub(super) fn is_address(cell: &str) -> bool {
    let is_one = |cell: &str| CellAddress::of(cell).mailbox.is_some();
    is_one(cell) || {
        let parts = cell::split(cell);
        parts.len() > 1 && parts.into_iter().all(is_one)
    }
}

/// Finds the places of a table. `wanted` are the names or numbers of the columns that the user gave, and `header` is
/// what the user said about a header.
///
/// # Errors
/// Fails if there is no such column, or if no column holds addresses.
pub(super) fn layout(rows: &[TableRow], wanted: &[String], header: Option<bool>) -> Result<Layout> {
    let lead = rows.iter().position(|row| row.cells.iter().any(|cell| CellAddress::looks_like(cell)));
    let lead = lead.unwrap_or(rows.len());
    let (header, columns, only) = match wanted {
        [] => detected(rows, lead, header)?,
        wanted => named(rows, lead, wanted, header)?,
    };
    let first = header.unwrap_or(0);
    let width = rows[first.min(rows.len())..].iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let titles: &[String] = header.map_or(&[], |at| &rows[at].cells);
    let names = names::unique(titles, width.min(MAX_NAMED));
    let skipped = header.map_or(0, |at| rows[at].number - 1);
    Ok(Layout {
        skipped,
        header: header.is_some(),
        first_row: header.map_or(0, |at| at + 1),
        names,
        columns,
        has_only_addresses: only,
    })
}

/// Returns the index of the header, the columns, and true if all columns hold addresses.
type Places = (Option<usize>, Vec<usize>, bool);

fn detected(rows: &[TableRow], lead: usize, header: Option<bool>) -> Result<Places> {
    let (good, filled) = address_columns(&rows[lead..]);
    let may_lead = if header == Some(false) { &[] } else { &rows[..lead.min(MAX_PREAMBLE)] };
    // The first row with the name of a column that can hold the addresses.
    let best = |row: &TableRow| {
        let columns = 0..row.cells.len();
        let ranked = columns.filter(|column| good.is_empty() || good.iter().any(|(good, _)| good == column));
        ranked.filter_map(|column| Some((names::rank(row.cell(column))?, column))).min()
    };
    let known = may_lead.iter().enumerate().find_map(|(at, row)| Some((at, best(row)?.1)));
    if let Some((at, column)) = known {
        return Ok((Some(at), vec![column], false));
    }
    // The column with the most different addresses, and the first of them.
    let most = good.iter().map(|(_, count)| *count).max();
    let column = good.iter().find(|(_, count)| Some(*count) == most).map(|(column, _)| *column);
    let Some(column) = column.or_else(|| rows.iter().all(|row| row.cells.len() <= 1).then_some(0)) else {
        let names = names::unique(rows.first().map_or(&[][..], |row| &row.cells), 0);
        return Err(JobError::hinted(
            "no column of addresses was found",
            format!("give its name or number: --column NAME, where NAME is {}", names::listed(&names)),
        ));
    };
    let width = usual_width(&rows[lead..]);
    let unknown = may_lead.iter().position(|row| is_header(row, column, width));
    let forced = (header == Some(true) && !rows.is_empty()).then_some(0);
    let found = unknown.or(forced);
    let only = found.is_none() && good.len() > 1 && good.len() == filled;
    Ok((found, vec![column], only))
}

/// Returns the columns in which at least half of the cells are addresses, each with the number of different ones. Returns
/// the number of columns that are not empty, too.
fn address_columns(rows: &[TableRow]) -> (Vec<(usize, usize)>, usize) {
    let width = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let mut filled = vec![0_usize; width];
    let mut valid = vec![0_usize; width];
    let mut different: Vec<HashSet<&str>> = vec![HashSet::new(); width];
    for row in rows {
        for (column, cell) in row.cells.iter().map(|cell| cell.trim()).enumerate() {
            filled[column] += usize::from(!cell.is_empty());
            if is_address(cell) {
                valid[column] += 1;
                different[column].insert(cell);
            }
        }
    }
    let good = (0..width).filter(|column| valid[*column] > 0 && 2 * valid[*column] >= filled[*column]);
    let good = good.map(|column| (column, different[column].len())).collect();
    (good, filled.iter().filter(|count| **count > 0).count())
}

/// Returns the most frequent number of cells.
fn usual_width(rows: &[TableRow]) -> usize {
    let mut widths: Vec<usize> = rows.iter().map(|row| row.cells.len()).collect();
    widths.sort_unstable();
    let runs = widths.chunk_by(|one, other| one == other);
    runs.max_by_key(|run| (run.len(), run[0])).map_or(0, |run| run[0])
}

/// Returns true for a row of titles that do not tell which column holds addresses. Titles are no numbers.
fn is_header(row: &TableRow, column: usize, width: usize) -> bool {
    let is_number = |cell: &String| cell.trim().replace(',', ".").parse::<f64>().is_ok();
    width > 1
        && row.cells.len() >= width.min(column + 1)
        && row.cells.len() > 1
        && !row.cell(column).is_empty()
        && !row.cells.iter().any(is_number)
}

/// Finds the columns that the user named.
fn named(rows: &[TableRow], lead: usize, wanted: &[String], header: Option<bool>) -> Result<Places> {
    let find = |row: &TableRow, wanted: &String| {
        let exact = row.cells.iter().position(|name| name.trim() == wanted.trim());
        exact.or_else(|| row.cells.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted.trim())))
    };
    let may_lead = if header == Some(false) { &[] } else { &rows[..lead.min(MAX_PREAMBLE)] };
    let all = |row: &TableRow| wanted.iter().map(|wanted| find(row, wanted)).collect::<Option<Vec<_>>>();
    // A name that is a number may be a number.
    if let Some((at, columns)) = may_lead.iter().enumerate().find_map(|(at, row)| Some((at, all(row)?))) {
        return Ok((Some(at), columns, false));
    }
    // The usual names of the header, also of those that are no addresses.
    let detected = detected(rows, lead, header).ok().and_then(|(header, ..)| header);
    let forced = (header == Some(true) && !rows.is_empty()).then_some(0);
    let width = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let number = |wanted: &String| match wanted.trim().parse::<usize>() {
        Ok(number) if (1..=width).contains(&number) => Some(number - 1),
        _ => None,
    };
    let mut columns = Vec::new();
    let unnamed = may_lead.iter().position(|row| {
        wanted.iter().filter_map(number).all(|column| is_header(row, column, usual_width(&rows[lead..])))
    });
    let header = detected.or(forced).or(unnamed);
    for wanted in wanted {
        let by_name = header.and_then(|at| find(&rows[at], wanted));
        let Some(column) = by_name.or_else(|| number(wanted)) else {
            let titles = header.map_or_else(|| rows.first(), |at| rows.get(at));
            let names = names::unique(titles.map_or(&[][..], |row| &row.cells), width.min(MAX_NAMED));
            return Err(JobError::hinted(
                format_args!("--column {wanted}: there is no such column"),
                format!("the columns are {}", names::listed(&names)),
            ));
        };
        columns.push(column);
    }
    Ok((header, columns, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Vec<TableRow> {
        let cells = |line: &str| line.split(',').map(str::to_owned).collect();
        (1..).zip(text.lines()).map(|(number, line)| TableRow { number, cells: cells(line) }).collect()
    }

    /// Returns the lines before the header, whether there is a header, and the columns.
    fn places(text: &str, wanted: &[&str], header: Option<bool>) -> (u64, bool, Vec<usize>) {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).into()).collect();
        let layout = layout(&table(text), &wanted, header).unwrap();
        (layout.skipped, layout.header, layout.columns)
    }

    #[test]
    fn cells_decide_before_names() {
        assert_eq!(places("email,who\nn/a,ann@x.test\nn/a,bob@x.test", &[], None), (0, true, vec![1]));
        assert_eq!(
            places("owner,email\nme@x.test,a@x.test\nme@x.test,b@x.test", &[], None),
            (0, true, vec![1])
        );
        // Without a name, the column with the most different addresses.
        assert_eq!(places("a,b\nme@x.test,a@x.test\nme@x.test,b@x.test", &[], None), (0, true, vec![1]));
        assert_eq!(places("id,E-Mail\n1,\n2,\n3,ann@x.test", &[], None), (0, true, vec![1]));
        assert_eq!(
            places("name,email,work_email\nA,a@x.test,", &["work_email", "email"], None),
            (0, true, vec![2, 1])
        );
    }

    #[test]
    fn a_header_holds_no_address_and_no_number() {
        assert_eq!(places("ann@x.test,1\nbob@x.test,2", &[], None), (0, false, vec![0]));
        assert_eq!(places("ann@x,1\nbob@x.test,2", &[], None), (0, false, vec![0]));
        assert_eq!(places("1,n/a\n2,bob@x.test", &[], None), (0, false, vec![1]));
        assert_eq!(places("who,where\n2,bob@x.test", &[], None), (0, true, vec![1]));
        assert_eq!(places("1,2\n2,bob@x.test", &[], Some(true)), (0, true, vec![1]));
        assert_eq!(places("who,email\n2,bob@x.test", &[], Some(false)), (0, false, vec![1]));
    }

    #[test]
    fn a_preamble_stands_before_the_header() {
        let text = "Notes:\nExported, by us, today\nFirst,Last,Email Address\nAnn,Doe,ann@x.test";
        assert_eq!(places(text, &[], None), (2, true, vec![2]));
        assert_eq!(places("Report 2024,,\nwho,id,where\nAnn,a,ann@x.test", &[], None), (1, true, vec![2]));
    }

    #[test]
    fn rows_wider_than_the_header_have_names() {
        let layout = layout(&table("id,email\n1,ann@x.test,x,y"), &[], None).unwrap();
        assert_eq!(layout.names, ["id", "email", "column_3", "column_4"]);
    }
}
