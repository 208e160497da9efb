//! The newest points of each series, as they are found from the newest unit to the oldest.
//!
//! Every unit gives its own newest rows of a series. A point that is among the newest of all is among the newest in each unit that
//! holds a write of it, so all its writes are here, and merging them gives its values. Of other points some writes may be missing:
//! they are older than what is asked for of their series, and most are let go.
//!
//! Where the oldest points are asked for, times are given turned round: the older, the greater.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use datafusion::error::Result as DataFusionResult;

use super::series_numbers::SeriesNumbers;
use crate::engine::store::decoded::SeriesRows;
use crate::model::last_write_wins::merge_batches;
use crate::model::{TableSchema, batch_bytes};

/// Rows beside those that count that are held until they are looked through.
const ROWS_BESIDE: usize = 64 << 10;

/// Rows of one unit.
pub(super) struct Piece {
    /// Later writes have the greater number.
    pub(super) place: usize,
    /// Sorted by key and unique in it, with the columns of the table that was given to [`Newest::new`].
    pub(super) batch: RecordBatch,
    /// The series of each row, as numbered by [`Newest::number`].
    pub(super) series: Vec<u32>,
    /// The time of each row, or what stands for it.
    pub(super) times: Vec<i64>,
}

/// What was found so far.
pub(super) struct Newest {
    table: Arc<TableSchema>,
    /// How many points of each series.
    rows: usize,
    series: SeriesNumbers,
    /// Of each series the times of its newest points, the newest first.
    times: Vec<Vec<i64>>,
    pieces: Vec<Piece>,
    held_rows: usize,
    held_bytes: usize,
}

impl Newest {
    /// Looks for the newest `rows` points of each series of a table with these columns, among them all its tags.
    ///
    /// # Errors
    /// If the tags can't be compared; a defect.
    pub(super) fn new(table: Arc<TableSchema>, rows: usize) -> DataFusionResult<Self> {
        Ok(Self {
            series: SeriesNumbers::new(Arc::clone(&table))?,
            table,
            rows,
            times: Vec::new(),
            pieces: Vec::new(),
            held_rows: 0,
            held_bytes: 0,
        })
    }

    /// The numbers of the series at these places of a unit, the same in all units.
    ///
    /// # Errors
    /// If a tag is none; a defect.
    pub(super) fn number(&mut self, series: &SeriesRows, places: &[usize]) -> DataFusionResult<Vec<u32>> {
        let numbers = self.series.of(series, places)?;
        self.times.resize_with(self.series.count(), Vec::new);
        Ok(numbers)
    }

    /// Whether nothing up to this time, it included, is wanted of the series any more.
    pub(super) fn has_all(&self, series: u32, until: i64) -> bool {
        self.oldest_wanted(series).is_some_and(|oldest| oldest > until)
    }

    /// Whether so many points of all series were found after this time as are wanted of each.
    pub(super) fn has_enough(&self, until: i64) -> bool {
        let mut found = 0;
        self.times.iter().any(|times| {
            found += times.partition_point(|time| *time > until);
            found >= self.rows
        })
    }

    fn oldest_wanted(&self, series: u32) -> Option<i64> {
        self.times[series as usize].get(self.rows - 1).copied()
    }

    /// Takes rows of one unit.
    ///
    /// # Errors
    /// If they don't fit; a defect.
    pub(super) fn push(&mut self, piece: Piece) -> Result<(), ArrowError> {
        for (series, time) in piece.series.iter().zip(&piece.times) {
            let times = &mut self.times[*series as usize];
            if let Err(place) = times.binary_search_by(|known| time.cmp(known))
                && place < self.rows
            {
                times.insert(place, *time);
                times.truncate(self.rows);
            }
        }
        self.held_rows += piece.series.len();
        self.held_bytes += batch_bytes(&piece.batch);
        self.pieces.push(piece);
        let wanted: usize = self.times.iter().map(Vec::len).sum();
        if self.held_rows > 2 * wanted + ROWS_BESIDE { self.let_go() } else { Ok(()) }
    }

    /// Lets go of rows that came to be too old.
    fn let_go(&mut self) -> Result<(), ArrowError> {
        let mut pieces = std::mem::take(&mut self.pieces);
        for piece in &mut pieces {
            let is_wanted =
                |(series, time): (&u32, &i64)| self.oldest_wanted(*series).is_none_or(|oldest| *time >= oldest);
            let wanted: Vec<bool> = piece.series.iter().zip(&piece.times).map(is_wanted).collect();
            if wanted.iter().all(|wanted| *wanted) {
                continue;
            }
            piece.batch = filter_record_batch(&piece.batch, &BooleanArray::from(wanted.clone()))?;
            let mut kept = wanted.iter();
            piece.series.retain(|_| kept.next() == Some(&true));
            let mut kept = wanted.iter();
            piece.times.retain(|_| kept.next() == Some(&true));
        }
        pieces.retain(|piece| !piece.series.is_empty());
        self.held_rows = pieces.iter().map(|piece| piece.series.len()).sum();
        self.held_bytes = pieces.iter().map(|piece| batch_bytes(&piece.batch)).sum();
        self.pieces = pieces;
        Ok(())
    }

    /// Memory of what is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let times: usize = self.times.iter().map(|times| times.capacity() * size_of::<i64>()).sum();
        let per_row = size_of::<u32>() + size_of::<i64>();
        let lists = self.times.capacity() * size_of::<Vec<i64>>();
        self.held_bytes + self.held_rows * per_row + times + lists + self.series.bytes()
    }

    /// The points, sorted by key, in batches of at most so many rows.
    ///
    /// # Errors
    /// If the pieces don't fit; a defect.
    pub(super) fn finish(mut self, batch_rows: usize) -> Result<Vec<RecordBatch>, ArrowError> {
        self.let_go()?;
        self.pieces.sort_by_key(|piece| piece.place);
        let batches: Vec<RecordBatch> = self.pieces.into_iter().map(|piece| piece.batch).collect();
        merge_batches(&self.table, batches, batch_rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{ArrayRef, DictionaryArray, Float64Array, TimestampNanosecondArray};
    use arrow::datatypes::Int32Type;
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::model::{Column, ColumnKind, ColumnName, FieldType};

    fn table() -> Arc<TableSchema> {
        let column = |name: &str, kind| Column { name: ColumnName::new(name).unwrap(), kind };
        Arc::new(TableSchema::new([
            column("host", ColumnKind::Tag),
            column("user", ColumnKind::Field(FieldType::Float)),
        ]))
    }

    /// Rows of some series, given as number, time and value.
    fn piece(place: usize, rows: &[(u32, i64, Option<f64>)]) -> Piece {
        let hosts: DictionaryArray<Int32Type> =
            rows.iter().map(|(series, ..)| Some(["a", "b", "c"][*series as usize])).collect();
        let times: Vec<i64> = rows.iter().map(|(_, time, _)| *time).collect();
        let users: Float64Array = rows.iter().map(|(.., user)| *user).collect();
        let columns: HashMap<&str, ArrayRef> = HashMap::from([
            ("host", Arc::new(hosts) as ArrayRef),
            ("time", Arc::new(TimestampNanosecondArray::from(times.clone())) as ArrayRef),
            ("user", Arc::new(users) as ArrayRef),
        ]);
        let table = table();
        let columns = table.arrow().fields().iter().map(|field| Arc::clone(&columns[field.name().as_str()]));
        let batch = RecordBatch::try_new(Arc::clone(table.arrow()), columns.collect()).unwrap();
        Piece { place, batch, series: rows.iter().map(|(series, ..)| *series).collect(), times }
    }

    fn series() -> SeriesRows {
        let tags: DictionaryArray<Int32Type> = ["a", "b", "c"].into_iter().map(Some).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([("host", Arc::new(tags) as ArrayRef, true)]).unwrap();
        SeriesRows::of(&batch).unwrap()
    }

    #[test]
    fn the_newest_points_come_out_with_all_their_writes() {
        let mut newest = Newest::new(table(), 1).unwrap();
        assert_eq!(newest.number(&series(), &[0, 1, 2]).unwrap(), [0, 1, 2]);
        newest.push(piece(2, &[(0, 20, None), (1, 10, Some(3.0))])).unwrap();
        newest.push(piece(1, &[(0, 20, Some(1.0)), (1, 9, Some(4.0))])).unwrap();
        assert!(newest.has_all(0, 19) && !newest.has_all(0, 20) && !newest.has_all(2, 0));
        let answer = pretty_format_batches(&newest.finish(10).unwrap()).unwrap().to_string();
        let rows: Vec<&str> = answer.lines().filter(|line| line.contains("1970")).collect();
        assert_eq!(rows.len(), 2, "{answer}");
        // The newer write left the value out: the older one counts.
        assert!(
            rows[0].contains("00:00:00.000000020 | 1.0") && rows[1].contains("00:00:00.000000010 | 3.0"),
            "{answer}"
        );
    }

    #[test]
    fn one_point_written_twice_is_one_point() {
        let mut newest = Newest::new(table(), 2).unwrap();
        newest.number(&series(), &[0, 1, 2]).unwrap();
        newest.push(piece(1, &[(0, 20, Some(1.0))])).unwrap();
        newest.push(piece(0, &[(0, 20, Some(2.0))])).unwrap();
        assert!(!newest.has_enough(0) && !newest.has_all(0, 0));
        newest.push(piece(2, &[(1, 5, Some(2.0))])).unwrap();
        assert!(newest.has_enough(4) && !newest.has_enough(5));
    }
}
