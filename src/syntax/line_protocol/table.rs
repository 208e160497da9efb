//! The tables of one request: what the database has of each, and the columns that accepted lines fill.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampNanosecondArray};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;

use super::columns::{FieldColumn, Header, TagColumn, shrunk};
use super::error::LineError;
use super::line::{Line, NewColumn, repeated};
use super::{Options, Schemas};
use crate::model::{Column, ColumnKind, ColumnName, Rows, TIME_COLUMN, TableName, TableRows, TableSchema};

/// The tables that lines of the request have named.
///
/// A table that neither exists nor has an accepted line is at most the last one, and only until its line is decided.
#[derive(Debug, Default)]
pub(super) struct Tables<'a> {
    list: Vec<Table<'a>>,
    by_name: HashMap<TableName, u32>,
    /// How many of them the database does not have.
    new_count: usize,
    /// Rows times columns, of all tables.
    cell_count: usize,
}

impl<'a> Tables<'a> {
    #[inline]
    pub(super) fn get_mut(&mut self, table: u32) -> &mut Table<'a> {
        &mut self.list[table as usize]
    }

    /// The table of this name, which the schemas are asked for once.
    ///
    /// # Errors
    /// If the table would be one more than the request may create, or has no good name.
    pub(super) fn find_or_add(
        &mut self,
        name: &str,
        schemas: &dyn Schemas,
        options: &Options,
    ) -> Result<u32, LineError> {
        if let Some(table) = self.by_name.get(name) {
            return Ok(*table);
        }
        let name = TableName::new(name)?;
        let schema = schemas.table(name.as_str());
        let is_new = schema.is_none();
        if is_new && self.new_count >= options.new_tables_max {
            return Err(LineError::TooManyTables { limit: options.new_tables_max });
        }
        let table = self.list.len() as u32;
        self.new_count += usize::from(is_new);
        self.by_name.insert(name.clone(), table);
        self.list.push(Table::new(name, schema));
        Ok(table)
    }

    /// How many cells, rows times columns, all tables would have with the row of `line`.
    #[inline]
    pub(super) fn cell_count_with(&self, line: &Line<'_>) -> usize {
        let table = &self.list[line.table as usize];
        let column_count = table.places.len() + line.new_columns.list.len() + 1;
        self.cell_count - table.cell_count + (table.times.len() + 1).saturating_mul(column_count)
    }

    /// Notes how many cells all tables have after the row of `line`.
    #[inline]
    pub(super) fn set_cell_count(&mut self, line: &Line<'_>, cell_count: usize) {
        let table = &mut self.list[line.table as usize];
        table.cell_count += cell_count - self.cell_count;
        self.cell_count = cell_count;
    }

    /// Forgets the table that only a refused line has named.
    pub(super) fn forget_unused(&mut self) {
        if let Some(unused) = self.list.pop_if(|table| table.schema.is_none() && table.times.is_empty()) {
            self.by_name.remove(&unused.name);
            self.new_count -= 1;
        }
    }

    /// The rows of all accepted lines, tables in the order of their first one.
    pub(super) fn finish(self) -> Rows {
        let mut used: Vec<Table<'a>> = self.list.into_iter().filter(|table| !table.times.is_empty()).collect();
        used.sort_by_key(|table| table.first_line);
        Rows { tables: used.into_iter().map(Table::finish).collect() }
    }
}

/// Where a column of a table is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Tag(u32),
    Field(u32),
}

/// One table.
#[derive(Debug)]
pub(super) struct Table<'a> {
    name: TableName,
    /// What the database has.
    schema: Option<Arc<TableSchema>>,
    /// Its rows times the columns that its rows have.
    cell_count: usize,
    /// How many tags and fields the table would have after the accepted lines.
    column_count: usize,
    places: HashMap<ColumnName, Place>,
    pub(super) tags: Vec<TagColumn<'a>>,
    pub(super) fields: Vec<FieldColumn<'a>>,
    /// The tag and the field that the last lines began with: guesses for the next one.
    pub(super) first_tag: u32,
    pub(super) first_field: u32,
    series_count: u32,
    /// The number of the first accepted line.
    first_line: usize,
    row_series: Vec<u32>,
    times: Vec<i64>,
}

impl<'a> Table<'a> {
    fn new(name: TableName, schema: Option<Arc<TableSchema>>) -> Self {
        Self {
            name,
            cell_count: 0,
            column_count: schema.as_ref().map_or(0, |schema| schema.column_count()),
            schema,
            places: HashMap::new(),
            tags: Vec::new(),
            fields: Vec::new(),
            first_tag: 0,
            first_field: 0,
            series_count: 0,
            first_line: 0,
            row_series: Vec::new(),
            times: Vec::new(),
        }
    }

    /// The number, among the tags or among the fields, of a column that the line names.
    /// A column that is new gets the next number and is noted in the line.
    ///
    /// # Errors
    /// If the column is of another kind, occurs twice in the line, has no good name, or is one too many.
    pub(super) fn resolve(
        &mut self,
        name: &str,
        raw_key: &'a str,
        kind: ColumnKind,
        line: &mut Line<'a>,
        options: &Options,
    ) -> Result<u32, LineError> {
        match self.places.get(name) {
            Some(Place::Tag(tag)) => {
                check_use(&mut self.tags[*tag as usize].header, ColumnKind::Tag, kind, line.number)?;
                Ok(*tag)
            }
            Some(Place::Field(field)) => {
                let column = &mut self.fields[*field as usize];
                check_use(&mut column.header, ColumnKind::Field(column.field_type), kind, line.number)?;
                Ok(*field)
            }
            None => self.resolve_new(name, raw_key, kind, line, options),
        }
    }

    fn resolve_new(
        &self,
        name: &str,
        raw_key: &'a str,
        kind: ColumnKind,
        line: &mut Line<'a>,
        options: &Options,
    ) -> Result<u32, LineError> {
        let name = ColumnName::new(name)?;
        line.new_columns.check_unnamed(&name, kind)?;
        match self.schema.as_ref().and_then(|schema| schema.kind(name.as_str())) {
            Some(expected) if expected != kind => return Err(LineError::kind(name, expected, kind)),
            Some(_) => {}
            None if self.column_count + line.new_columns.added_count >= options.columns_per_table_max => {
                return Err(LineError::TooManyColumns { limit: options.columns_per_table_max });
            }
            None => line.new_columns.added_count += 1,
        }
        let existing = if kind == ColumnKind::Tag { self.tags.len() } else { self.fields.len() };
        Ok(existing as u32 + line.new_columns.push(NewColumn { name, raw_key, kind }))
    }

    /// Adds the columns that an accepted line brings.
    pub(super) fn add_columns(&mut self, line: &mut Line<'a>) {
        self.column_count += line.new_columns.added_count;
        for NewColumn { name, raw_key, kind } in line.new_columns.list.drain(..) {
            let number = if kind == ColumnKind::Tag { self.tags.len() } else { self.fields.len() } as u32;
            let place = if kind == ColumnKind::Tag { Place::Tag(number) } else { Place::Field(number) };
            self.places.insert(name.clone(), place);
            let header = Header { name, raw_key, follower: number + 1, named_by: line.number };
            match kind {
                ColumnKind::Tag => self.tags.push(TagColumn::new(header)),
                ColumnKind::Field(field_type) => self.fields.push(FieldColumn::new(header, field_type)),
            }
        }
    }

    /// Adds a series with the tags of an accepted line and returns its number in this table.
    pub(super) fn add_series(&mut self, line: &Line<'_>) -> u32 {
        let series = self.series_count;
        self.series_count += 1;
        for (tag, value) in &line.tags {
            self.tags[*tag as usize].insert(series, value);
        }
        series
    }

    /// Adds the row of an accepted line.
    #[inline]
    pub(super) fn add_row(&mut self, series: u32, line: &Line<'_>) {
        let row = self.times.len();
        if row == 0 {
            self.first_line = line.number;
        }
        self.row_series.push(series);
        self.times.push(line.time.as_nanos());
        for (field, value) in &line.fields {
            self.fields[*field as usize].set(row, *value);
        }
    }

    fn finish(self) -> TableRows {
        let schema = TableSchema::new(self.columns());
        let row_count = self.times.len();
        let mut arrays: HashMap<ColumnName, ArrayRef> = HashMap::with_capacity(self.places.len());
        for tag in self.tags {
            arrays.insert(tag.header.name.clone(), tag.finish(&self.row_series, self.series_count));
        }
        for field in self.fields {
            arrays.insert(field.header.name.clone(), field.finish(row_count));
        }
        let times = shrunk(TimestampNanosecondArray::from(self.times));
        let in_order = schema.arrow().fields().iter().map(|field| match field.name().as_str() {
            TIME_COLUMN => Arc::clone(&times),
            name => arrays.remove(name).expect("each column has an array, because the schema is made of the columns"),
        });
        let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), in_order.collect())
            .expect("the columns fit the schema, because it is made of them, and each is filled up to the row count");
        TableRows { table: self.name, schema, batch }
    }

    /// The tags in the order in which accepted lines named them, then the fields.
    fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        let tags = self.tags.iter().map(|tag| Column { name: tag.header.name.clone(), kind: ColumnKind::Tag });
        let fields = self
            .fields
            .iter()
            .map(|field| Column { name: field.header.name.clone(), kind: ColumnKind::Field(field.field_type) });
        tags.chain(fields)
    }
}

/// Whether a line may use a column as `kind`: it has to be of that kind and not yet named by the line.
#[inline]
pub(super) fn check_use(
    column: &mut Header<'_>,
    expected: ColumnKind,
    kind: ColumnKind,
    line_number: usize,
) -> Result<(), LineError> {
    if column.named_by == line_number {
        return Err(repeated(&column.name, expected, kind));
    }
    if expected != kind {
        return Err(LineError::kind(column.name.clone(), expected, kind));
    }
    column.named_by = line_number;
    Ok(())
}
