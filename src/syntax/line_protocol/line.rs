//! One line that has been read and checked but has not left a trace yet.
//!
//! The memory is reused from line to line. Columns that the line would add already have the number that
//! they get if it is accepted: the next ones of its table.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::error::LineError;
use super::value::Value;
use crate::model::{ColumnKind, ColumnName, Timestamp};

/// What phase one has found out about the line at hand.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Counts the lines of the request, accepted or not; from 1.
    pub(super) number: usize,
    pub(super) table: u32,
    pub(super) series: LineSeries<'a>,
    /// The tags with the numbers of their columns, if the series is new.
    pub(super) tags: Vec<(u32, Cow<'a, str>)>,
    /// The fields with the numbers of their columns.
    pub(super) fields: Vec<(u32, Value<'a>)>,
    pub(super) new_columns: NewColumns<'a>,
    pub(super) time: Timestamp,
}

/// The series of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum LineSeries<'a> {
    /// An earlier accepted line had it; its number in the series map.
    Known(u32),
    /// No accepted line had it yet in this spelling.
    New(&'a [u8]),
}

impl Line<'_> {
    pub(super) fn new() -> Self {
        Self {
            number: 0,
            table: 0,
            series: LineSeries::New(&[]),
            tags: Vec::new(),
            fields: Vec::new(),
            new_columns: NewColumns::default(),
            time: Timestamp::from_nanos(0),
        }
    }

    /// Makes room for the next line.
    pub(super) fn next(&mut self) {
        self.number += 1;
        self.tags.clear();
        self.fields.clear();
        self.new_columns.clear();
    }
}

/// A column that no accepted line of the request has used.
#[derive(Debug)]
pub(super) struct NewColumn<'a> {
    pub(super) name: ColumnName,
    pub(super) raw_key: &'a str,
    pub(super) kind: ColumnKind,
}

/// The new columns of one line, in its order.
#[derive(Debug, Default)]
pub(super) struct NewColumns<'a> {
    pub(super) list: Vec<NewColumn<'a>>,
    kinds: HashMap<ColumnName, ColumnKind>,
    tag_count: u32,
    /// How many of them the table lacks too.
    pub(super) added_count: usize,
}

impl<'a> NewColumns<'a> {
    fn clear(&mut self) {
        if !self.kinds.is_empty() {
            self.list.clear();
            self.kinds.clear();
            self.tag_count = 0;
            self.added_count = 0;
        }
    }

    /// Whether the line has already named this column.
    ///
    /// # Errors
    /// If it has: the name occurs twice in the line.
    pub(super) fn check_unnamed(&self, name: &ColumnName, kind: ColumnKind) -> Result<(), LineError> {
        match self.kinds.get(name) {
            None => Ok(()),
            Some(earlier) => Err(repeated(name, *earlier, kind)),
        }
    }

    /// Adds a column and says how many of its sort, tags or fields, came before it.
    pub(super) fn push(&mut self, column: NewColumn<'a>) -> u32 {
        self.kinds.insert(column.name.clone(), column.kind);
        let is_tag = column.kind == ColumnKind::Tag;
        let before = if is_tag { self.tag_count } else { self.list.len() as u32 - self.tag_count };
        self.tag_count += u32::from(is_tag);
        self.list.push(column);
        before
    }
}

/// A name that occurs twice in one line.
#[cold]
pub(super) fn repeated(name: &ColumnName, earlier: ColumnKind, later: ColumnKind) -> LineError {
    match (earlier, later) {
        (ColumnKind::Tag, ColumnKind::Tag) => LineError::DuplicateTag { name: name.as_str().to_owned() },
        (ColumnKind::Field(_), ColumnKind::Field(_)) => LineError::DuplicateField { name: name.as_str().to_owned() },
        // One name can't be both; the first use counts as what the column is.
        _ => LineError::kind(name.clone(), earlier, later),
    }
}
