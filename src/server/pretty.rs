//! Rows as a table for people, written while they come.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

use crate::error::{Error, ErrorKind, Result};

/// A table with `+---+` borders.
///
/// Columns are as wide as the first batch needs; a wider value later widens its column from there on,
/// so that no more than one batch is ever held.
#[derive(Debug)]
pub(crate) struct PrettyTable {
    names: Vec<String>,
    widths: Vec<usize>,
    has_begun: bool,
}

impl PrettyTable {
    /// A table without rows yet.
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let widths = names.iter().map(|name| name.width()).collect();
        Self { names, widths, has_begun: false }
    }

    /// The text of these rows, with the head before the first ones.
    ///
    /// # Errors
    /// `Unsupported` if a column has a type that can't be shown.
    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> Result<String> {
        let cells = self.cells(batch)?;
        for row in &cells {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        if !self.has_begun {
            self.has_begun = true;
            text.push_str(&self.head());
        }
        for row in &cells {
            self.line(&mut text, row);
        }
        Ok(text)
    }

    /// The text after the last row; the whole table if there was none.
    pub(crate) fn end(&mut self) -> String {
        let mut text = if self.has_begun { String::new() } else { self.head() };
        self.border(&mut text);
        text
    }

    fn cells(&self, batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
        let failed = |error| Error::with_source(ErrorKind::Unsupported, "the rows can't be shown as text", error);
        let options = FormatOptions::default();
        let formatters = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        (0..batch.num_rows())
            .map(|row| {
                formatters.iter().map(|formatter| formatter.value(row).try_to_string().map_err(failed)).collect()
            })
            .collect()
    }

    fn head(&self) -> String {
        let mut text = String::new();
        self.border(&mut text);
        self.line(&mut text, &self.names);
        self.border(&mut text);
        text
    }

    fn border(&self, text: &mut String) {
        text.push('+');
        for width in &self.widths {
            text.extend(std::iter::repeat_n('-', width + 2));
            text.push('+');
        }
        text.push('\n');
    }

    fn line(&self, text: &mut String, cells: &[String]) {
        text.push('|');
        for (width, cell) in self.widths.iter().zip(cells) {
            // Padded by hand: `{:width$}` counts characters and not the columns they take on a screen.
            let padding = width.saturating_sub(cell.width());
            let _infallible = write!(text, " {cell}{} |", " ".repeat(padding));
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell() {
        let host: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let usage: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 200.25]));
        let batch = RecordBatch::try_from_iter_with_nullable([("host", host, true), ("usage", usage, true)]).unwrap();
        let mut table = PrettyTable::new(&batch.schema());
        let text = table.rows(&batch).unwrap() + &table.end();
        let expected = "\
+------+--------+
| host | usage  |
+------+--------+
| a    | 1.5    |
|      | 200.25 |
+------+--------+
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_table_without_rows_shows_its_columns() {
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "host",
            arrow::datatypes::DataType::Utf8,
            true,
        )]));
        assert_eq!(PrettyTable::new(&schema).end(), "+------+\n| host |\n+------+\n+------+\n");
    }
}
