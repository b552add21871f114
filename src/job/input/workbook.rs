//! Reads the rows of a workbook of Excel, in a thread of its own.
//!
//! An xlsx is streamed: memory holds its shared strings and a few rows. An xls is small, and is read as a whole.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read, Seek},
    panic::{self, AssertUnwindSafe},
    sync::mpsc,
    thread,
};

use calamine::{Data, DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xls, Xlsx};

use super::{InputFormat, Row, layout::TableRow, row::RowBatch, workbook_check::check_parts};
use crate::job::error::{IoContext, JobError, Result};

/// The rows that pass from the thread at once, and the batches that wait.
const BATCH_ROWS: usize = 256;
const BATCH_OCTETS: usize = 1 << 20;
const BATCHES: usize = 2;
/// The largest xls, 64 MiB. It has at most 65,536 rows, and is read as a whole.
const MAX_XLS: u64 = 64 << 20;
/// The largest row, in octets. The rest of its cells is dropped.
const MAX_ROW: usize = 4 << 20;
/// The most columns that a sheet can have.
const MAX_COLUMNS: usize = 16_384;

/// The rows of a sheet, which the thread sends.
pub(super) struct Sheet {
    pub(super) name: String,
    receiver: mpsc::Receiver<io::Result<Vec<TableRow>>>,
    ready: VecDeque<TableRow>,
    /// Set after an error.
    ended: bool,
}

impl Sheet {
    /// Opens the first visible sheet, or the one with this name or number.
    ///
    /// # Errors
    /// Fails if the file is no workbook, if there is no such sheet, or if reading it would take too much memory.
    pub(super) fn open(file: File, format: InputFormat, wanted: Option<&str>) -> Result<Self> {
        if format == InputFormat::Xls && file.metadata().context("cannot be read")?.len() > MAX_XLS {
            return Err(JobError::hinted("an xls of more than 64 MiB", "save the sheet as CSV"));
        }
        let (sender, receiver) = mpsc::sync_channel(BATCHES);
        let (said, name) = mpsc::channel();
        let wanted = wanted.map(str::to_owned);
        thread::spawn(move || {
            let rows = RowSender { sender: sender.clone(), batch: Vec::new(), octets: 0 };
            let read = panic::catch_unwind(AssertUnwindSafe(|| match format {
                InputFormat::Xls => read_xls(file, wanted.as_deref(), &said, rows),
                _ => read_xlsx(file, wanted.as_deref(), &said, rows),
            }));
            let failed = match read {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(_) => JobError::list("the workbook is damaged"),
            };
            // Before the name, the error is that of opening.
            if let Err(mpsc::SendError(Err(error))) = said.send(Err(failed)) {
                let _ = sender.send(Err(io::Error::other(error.to_string())));
            }
        });
        let name = name.recv().unwrap_or_else(|_| Err(JobError::list("the workbook is damaged")))?;
        Ok(Self { name, receiver, ready: VecDeque::new(), ended: false })
    }

    /// Returns the next row. Blank rows are left out.
    pub(super) fn next(&mut self) -> io::Result<Option<TableRow>> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            match self.receiver.recv() {
                Ok(Ok(rows)) => self.ready.extend(rows),
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                Err(mpsc::RecvError) => return Ok(None),
            }
        }
    }

    /// Gives rows back, which come next.
    pub(super) fn unread(&mut self, rows: Vec<TableRow>) {
        rows.into_iter().rev().for_each(|row| self.ready.push_front(row));
    }
}

/// The name of the sheet, or why it cannot be opened.
type NameSender = mpsc::Sender<Result<String>>;

struct RowSender {
    sender: mpsc::SyncSender<io::Result<Vec<TableRow>>>,
    batch: Vec<TableRow>,
    octets: usize,
}

impl RowSender {
    /// Sends a row. Returns false if nobody reads.
    fn send(&mut self, number: u64, mut cells: Vec<String>) -> bool {
        while cells.last().is_some_and(|cell| cell.trim().is_empty()) {
            cells.pop();
        }
        if cells.is_empty() {
            return true;
        }
        self.octets += cells.iter().map(|cell| cell.len() + 24).sum::<usize>();
        self.batch.push(TableRow { number, cells });
        self.batch.len() < BATCH_ROWS && self.octets < BATCH_OCTETS || self.flush()
    }

    fn flush(&mut self) -> bool {
        self.octets = 0;
        self.batch.is_empty() || self.sender.send(Ok(std::mem::take(&mut self.batch))).is_ok()
    }
}

/// Finds a sheet by its name, or by its number from 1.
fn sheet<RS: Read + Seek, R: Reader<RS>>(workbook: &R, wanted: Option<&str>) -> Result<String> {
    let sheets = workbook.sheets_metadata();
    let names = || sheets.iter().map(|sheet| sheet.name.clone()).collect::<Vec<_>>();
    let found = match wanted {
        None => {
            let is_shown = |sheet: &&calamine::Sheet| {
                sheet.visible == SheetVisible::Visible && sheet.typ == SheetType::WorkSheet
            };
            sheets.iter().find(is_shown).or_else(|| sheets.first())
        }
        Some(name) => {
            let exact = sheets.iter().find(|sheet| sheet.name == name);
            let same = || sheets.iter().find(|sheet| sheet.name.eq_ignore_ascii_case(name));
            let number = || sheets.get(name.parse::<usize>().ok()?.checked_sub(1)?);
            exact.or_else(same).or_else(number)
        }
    };
    match (found, wanted) {
        (Some(sheet), _) => Ok(sheet.name.clone()),
        (None, None) => Err(JobError::list("the workbook has no sheet")),
        (None, Some(name)) => Err(JobError::hinted(
            format_args!("--sheet {name}: there is no such sheet"),
            format!("the sheets are {}", super::names::listed(&names())),
        )),
    }
}

fn damaged(error: impl std::fmt::Display) -> JobError {
    JobError::hinted(format_args!("the workbook cannot be read: {error}"), "save the sheet as CSV")
}

fn read_xlsx(file: File, wanted: Option<&str>, said: &NameSender, mut rows: RowSender) -> Result<()> {
    check_parts(&file)?;
    let mut workbook = Xlsx::new(BufReader::new(file)).map_err(damaged)?;
    let name = sheet(&workbook, wanted)?;
    let mut reader = workbook.worksheet_cells_reader(&name).map_err(damaged)?;
    // If nobody waits for the name, nobody reads the rows.
    let _ = said.send(Ok(name));
    let (mut at, mut cells, mut octets) = (0, Vec::new(), 0);
    while let Some(cell) = reader.next_cell().map_err(damaged)? {
        let (row, column) = cell.get_position();
        if row != at {
            if !rows.send(u64::from(at) + 1, std::mem::take(&mut cells)) {
                return Ok(());
            }
            (at, octets) = (row, 0);
        }
        let text = match cell.get_value() {
            DataRef::SharedString(text) => (*text).to_owned(),
            DataRef::String(text) => text.clone(),
            other => text_of(&Data::from(other.clone())),
        };
        put(&mut cells, column as usize, text, &mut octets);
    }
    rows.send(u64::from(at) + 1, cells);
    rows.flush();
    Ok(())
}

fn read_xls(file: File, wanted: Option<&str>, said: &NameSender, mut rows: RowSender) -> Result<()> {
    let mut workbook = Xls::new(BufReader::new(file)).map_err(damaged)?;
    let name = sheet(&workbook, wanted)?;
    let range = workbook.worksheet_range(&name).map_err(damaged)?;
    let _ = said.send(Ok(name));
    let (first, left) = range.start().unwrap_or_default();
    for (number, row) in (u64::from(first) + 1..).zip(range.rows()) {
        let (mut cells, mut octets) = (vec![String::new(); left as usize], 0);
        for (column, cell) in row.iter().enumerate() {
            put(&mut cells, left as usize + column, text_of(cell), &mut octets);
        }
        if !rows.send(number, cells) {
            return Ok(());
        }
    }
    rows.flush();
    Ok(())
}

fn put(cells: &mut Vec<String>, column: usize, text: String, octets: &mut usize) {
    *octets += text.len();
    if *octets > MAX_ROW || column >= MAX_COLUMNS {
        return;
    }
    if cells.len() <= column {
        cells.resize(column + 1, String::new());
    }
    cells[column] = text;
}

/// Returns the text of a cell as a user writes it. Numbers have no exponent, and dates are as in ISO 8601.
fn text_of(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.clone(),
        Data::Int(number) => number.to_string(),
        Data::Float(number) => number.to_string(),
        Data::Bool(value) => if *value { "TRUE" } else { "FALSE" }.into(),
        Data::Error(error) => error.to_string(),
        Data::DateTime(time) => date(time),
    }
}

fn date(time: &ExcelDateTime) -> String {
    let value = time.as_f64();
    if !time.is_datetime() || !(0.0..=2_958_466.0).contains(&value) {
        return value.to_string();
    }
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    match (value < 1.0, value.fract() == 0.0) {
        (true, _) => format!("{hour:02}:{minute:02}:{second:02}"),
        (false, true) => format!("{year:04}-{month:02}-{day:02}"),
        (false, false) => format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"),
    }
}

/// Reads the rows of a sheet: the addresses in the columns that were found.
pub(super) struct WorkbookRows {
    sheet: Sheet,
    columns: Vec<usize>,
    skipped: u64,
    header: bool,
    batch: RowBatch,
}

impl WorkbookRows {
    pub(super) fn new(sheet: Sheet, columns: Vec<usize>, skipped: u64, header: bool) -> Self {
        Self { sheet, columns, skipped, header, batch: RowBatch::default() }
    }
}

impl Iterator for WorkbookRows {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok(row));
            }
            let row = match self.sheet.next() {
                Ok(row) => row?,
                Err(error) => return Some(Err(error)),
            };
            if row.number <= self.skipped || std::mem::take(&mut self.header) {
                continue;
            }
            let cell = |column: &usize| row.cells.get(*column).cloned().unwrap_or_default();
            let cells = self.columns.iter().map(cell).collect();
            self.batch = RowBatch::new(row.number, cells, written(&row.cells));
        }
    }
}

/// Returns the cells as a record of CSV with commas, as [`Shape`](super::Shape) reads it.
fn written(cells: &[String]) -> Vec<u8> {
    let mut record = vec![0];
    for (column, cell) in cells.iter().enumerate() {
        if column > 0 {
            record.push(b',');
        }
        if cell.contains(['"', ',']) || cell.starts_with(' ') || cell.ends_with(' ') {
            record.push(b'"');
            record.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            record.push(b'"');
        } else {
            record.extend_from_slice(cell.as_bytes());
        }
    }
    record
}
