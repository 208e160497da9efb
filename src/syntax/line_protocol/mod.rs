//! Line protocol: `measurement,tag=value field=1.5,other="text" 1700000000000000000`, line by line into Arrow columns.
//!
//! No row is ever an object. A line passes two phases:
//!
//! 1. [`read`] it into a small scratch that is reused (`line`) and check everything: grammar, kinds of
//!    columns against the table and against earlier lines, limits;
//! 2. add its values to the columns of its table (`table`, `columns`).
//!
//! What makes it quick is that lines resemble each other. The series, measurement and tags as they are
//! written, is compared with the one that came next the last time (`series`), and each field's key with the
//! key that followed last time; where the guess is right, and it mostly is, nothing is searched, unescaped or
//! hashed. Rows hold the number of their series; codes of tags are gathered once at the end.
//!
//! Always true:
//! - a refused line leaves no trace: no row, no column, no table, no value in a dictionary;
//! - a column has the kind that it has in the database, else the kind that the first accepted line gave it;
//! - rows stand in the order of their lines, tables in the order of their first accepted line;
//! - a line number is that of the physical line in the body where the line begins, from 1; blank lines,
//!   comments and newlines inside strings count.
//!
//! # Grammar
//!
//! That of the crate `influxdb-line-protocol` 2, against which it is tested: in names a backslash escapes
//! comma, blank and backslash, in keys and tag values the equals sign too; in strings quote and backslash. Elsewhere a
//! backslash is a character like others. It differs in this:
//!
//! - `\r` before a newline or at the end of the body belongs to the line end;
//! - a comment ends at its newline, whatever quotes or backslashes it holds;
//! - a newline inside a string never ends the line, even where blanks before the line or commas in field
//!   keys lead the crate's splitter astray;
//! - a comma must be followed by a field, even behind the first one;
//! - refused as well are: a tag or field that occurs twice, a name that is a tag and a field, the names
//!   `time` and `__chunk_order`, names and strings above 1 MiB, and floats too large for a double.
//!
//! Not here: decoding of bodies and limits of their size (`server::http`), names of databases, and the
//! change of the schema itself (`engine`).

mod body;
mod columns;
mod error;
mod line;
mod lines;
mod read;
mod refused;
mod series;
mod table;
mod value;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use body::Body;
use error::{LineError, Resume, Stop};
use line::{Line, LineSeries};
use lines::{end_of_unreadable, line_end, next_line};
use read::Context;
use refused::RefusedLines;
use series::SeriesMap;
use table::Tables;

use crate::model::{ColumnKind, ColumnName, Precision, Rows, TableSchema, Timestamp};

/// The tables as they are: what a line must agree with.
pub trait Schemas {
    /// The schema of a table, or `None` if there is no such table.
    fn table(&self, name: &str) -> Option<Arc<TableSchema>>;
}

/// How the lines of one request are meant.
#[derive(Debug, Clone)]
pub struct Options {
    /// The unit of the timestamps.
    pub precision: Precision,
    /// The time of points that are written without one, already cut to the precision.
    pub default_time: Timestamp,
    /// Whether good lines count even if others are refused. If not, the first bad line refuses all.
    pub accept_partial: bool,
    /// The most tags and fields that a table may have.
    pub columns_per_table_max: usize,
    /// How many tables the request may create.
    pub new_tables_max: usize,
}

/// What became of the lines of one request.
#[derive(Debug)]
pub struct Parsed {
    /// The accepted lines.
    pub rows: Rows,
    /// How many lines were accepted: the rows of all tables.
    pub accepted: usize,
    /// The refused lines in their order; at most 1,000 of them and 1 MiB of their text.
    pub refused: Vec<RefusedLine>,
    /// How many lines were refused; may exceed `refused.len()`.
    pub refused_count: usize,
    /// The first column that was given another kind than it has.
    pub conflict: Option<KindConflict>,
    /// How many lines were refused for that.
    pub conflict_count: usize,
    /// How many lines there were; blank ones and comments are none. Where the first bad line
    /// refuses all, those after it are not counted.
    pub lines: usize,
}

/// A line that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// The physical line of the body where it begins, from 1.
    pub line_number: usize,
    /// Its whole text without the line end; of a first line above 1 MiB the beginning.
    pub original_line: String,
    /// Why, for the user.
    pub message: String,
}

/// A column that a line gives another kind than it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindConflict {
    /// The table of the line.
    pub table: String,
    /// The column.
    pub column: ColumnName,
    /// What it is.
    pub expected: ColumnKind,
    /// What the line makes of it.
    pub got: ColumnKind,
}

/// The largest body whose lines are taken, in bytes: offsets and codes in Arrow are 32-bit.
const BODY_BYTES_MAX: usize = i32::MAX as usize;

/// The most cells, rows times columns of all tables, that one request may fill; at most 256 MiB of numbers.
///
/// A row has room for every column of its table in the request, whether the line has it or not. Without a bound
/// a few thousand bytes that name many columns, followed by many short lines, would fill the memory.
const CELLS_MAX: usize = 32 * 1024 * 1024;

/// What one request may grow to.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    body_bytes_max: usize,
    cells_max: usize,
}

/// Turns the lines of `body` into columns for each table.
///
/// It never fails as a whole: lines that can't be taken are in [`Parsed::refused`]. It takes time in proportion
/// to the body, and memory too as long as most lines have most columns of their table; where they have few, lines
/// beyond 32 Mi cells are refused.
pub fn parse(body: &[u8], schemas: &dyn Schemas, options: &Options) -> Parsed {
    parse_bounded(body, schemas, options, Bounds { body_bytes_max: BODY_BYTES_MAX, cells_max: CELLS_MAX })
}

/// [`parse`], refusing the lines that go beyond `bounds`.
fn parse_bounded(body: &[u8], schemas: &dyn Schemas, options: &Options, bounds: Bounds) -> Parsed {
    let body = Body::new(body);
    let mut request = Request::new(&body, Context { text: &body.text, schemas, options }, bounds);
    let mut lines = 0;
    let mut at = 0;
    while let Some(start) = next_line(request.context.text.as_bytes(), at) {
        lines += 1;
        at = match request.take(start.physical, start.content) {
            Ok(next) => next,
            Err(stop) => request.refuse(start.physical, *stop),
        };
        if request.refused.count > 0 && !options.accept_partial {
            return request.finish_refused(lines);
        }
    }
    request.finish(lines)
}

/// One request while its lines are taken.
struct Request<'r, 'a> {
    body: &'r Body<'a>,
    bounds: Bounds,
    context: Context<'r, 'a>,
    series: SeriesMap<'a>,
    tables: Tables<'a>,
    line: Line<'a>,
    accepted: usize,
    refused: RefusedLines,
}

impl<'r, 'a> Request<'r, 'a> {
    fn new(body: &'r Body<'a>, context: Context<'r, 'a>, bounds: Bounds) -> Self {
        Self {
            body,
            bounds,
            context,
            series: SeriesMap::default(),
            tables: Tables::default(),
            line: Line::new(),
            accepted: 0,
            refused: RefusedLines::default(),
        }
    }

    /// Reads the line whose content begins at `start`, then keeps it; returns where the next one begins.
    fn take(&mut self, physical_start: usize, start: usize) -> Result<usize, Box<Stop>> {
        let end = self.context.read_line(start, &self.series, &mut self.tables, &mut self.line)?;
        let cell_count = self.tables.cell_count_with(&self.line);
        self.check_line(physical_start, end, cell_count).map_err(|error| Stop::new(error, Resume::Value(end)))?;
        self.tables.set_cell_count(&self.line, cell_count);
        self.keep();
        Ok(line_end(self.context.text.as_bytes(), end).unwrap_or(end))
    }

    /// What can be wrong with a line that has been read.
    #[inline]
    fn check_line(&self, start: usize, end: usize, cell_count: usize) -> Result<(), LineError> {
        let Bounds { body_bytes_max, cells_max } = self.bounds;
        if let Some(error) = self.body.error_in(start, end) {
            return Err(error);
        }
        if end > body_bytes_max {
            return Err(LineError::BodyTooLarge { limit: body_bytes_max });
        }
        if cell_count > cells_max {
            return Err(LineError::TooManyCells { limit: cells_max });
        }
        Ok(())
    }

    /// Phase two: nothing can go wrong any more.
    fn keep(&mut self) {
        let table = self.tables.get_mut(self.line.table);
        table.add_columns(&mut self.line);
        let id = match self.line.series {
            LineSeries::Known(id) => id,
            LineSeries::New(raw) => {
                let number = table.add_series(&self.line);
                self.series.insert(raw, self.line.table, number)
            }
        };
        table.add_row(self.series.get(id).number, &self.line);
        self.series.accepted(id);
        self.accepted += 1;
    }

    /// Notes why the line is refused; returns where the next one begins.
    #[cold]
    fn refuse(&mut self, physical_start: usize, stop: Stop) -> usize {
        let text = self.context.text;
        let end = end_of_unreadable(text.as_bytes(), stop.resume);
        // Text that isn't text may also break the grammar; that it isn't text is the better message.
        let error = self.body.error_in(physical_start, end).unwrap_or(stop.error);
        self.refused.push(text, physical_start, end, &error);
        self.tables.forget_unused();
        line_end(text.as_bytes(), end).unwrap_or(end)
    }

    fn finish(self, lines: usize) -> Parsed {
        Parsed {
            rows: self.tables.finish(),
            accepted: self.accepted,
            refused: self.refused.details,
            refused_count: self.refused.count,
            conflict: self.refused.conflict,
            conflict_count: self.refused.conflict_count,
            lines,
        }
    }

    fn finish_refused(self, lines: usize) -> Parsed {
        Parsed {
            rows: Rows::default(),
            accepted: 0,
            refused: self.refused.details,
            refused_count: self.refused.count,
            conflict: self.refused.conflict,
            conflict_count: self.refused.conflict_count,
            lines,
        }
    }
}
