//! Sorted runs become one sorted run, in pieces of bounded size.

use std::collections::VecDeque;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::Rows;

use super::assemble::{Assembly, Candidate};
use super::stretches::{SeriesKeys, stretch_starts, times};
use crate::model::TableSchema;

/// What a [`Merge`] wants next.
#[derive(Debug)]
pub enum Step {
    /// Call [`Merge::push`] or [`Merge::finish`] for this input.
    Needs(usize),
    /// An output batch of at most the size that was asked for.
    Ready(RecordBatch),
    /// Every input is finished and every row is out.
    Done,
}

/// Merges sorted, unique inputs by the rule of this module.
///
/// Inputs are numbered from the oldest write to the newest: where two hold one point, the input with
/// the higher number wins field by field. It does no IO and never waits: the caller feeds it when
/// [`step`](Self::step) asks, so the same code serves a synchronous persist and an asynchronous query.
///
/// Holds at most one batch per input, those that the output under construction points into, and that output.
pub struct Merge {
    keys: SeriesKeys,
    inputs: Vec<Input>,
    assembly: Assembly,
    batch_rows: usize,
    /// The inputs whose current stretch has the smallest series key; kept between steps to save its allocation.
    participants: Vec<usize>,
}

/// One input: the batch it is at, and where in it.
#[derive(Default)]
struct Input {
    current: Option<Current>,
    finished: bool,
}

struct Current {
    source: Option<usize>,
    batch: RecordBatch,
    times: ScalarBuffer<i64>,
    keys: Option<Rows>,
    /// Ends of the stretches from the one the input is at; the front is the current one.
    ends: VecDeque<u32>,
    stretch: usize,
    row: usize,
}

impl Current {
    fn end(&self) -> usize {
        self.ends.front().map_or(self.batch.num_rows(), |end| *end as usize)
    }

    /// The bytes of the current series key; empty for a table without tags.
    fn key(&self) -> &[u8] {
        match &self.keys {
            Some(keys) => keys.row(self.stretch).data(),
            None => &[],
        }
    }
}

impl Merge {
    /// A merge of `inputs` inputs with the columns of `arrow`, which must hold every tag of `schema` and the time.
    ///
    /// # Errors
    /// If the series key can't be compared; a defect, since tags are texts.
    pub fn new(schema: &TableSchema, arrow: SchemaRef, inputs: usize, batch_rows: usize) -> Result<Self, ArrowError> {
        Ok(Self {
            keys: SeriesKeys::new(schema)?,
            inputs: (0..inputs).map(|_| Input::default()).collect(),
            assembly: Assembly::new(schema, arrow),
            batch_rows: batch_rows.max(1),
            participants: Vec::new(),
        })
    }

    /// Gives `input` its next rows: sorted, unique, after those it had before. An empty batch is allowed.
    ///
    /// # Errors
    /// If a key column is missing or has another type.
    pub fn push(&mut self, input: usize, batch: RecordBatch) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let tags = self.keys.tag_columns(&batch)?;
        let starts = stretch_starts(&tags, batch.num_rows());
        let ends = starts.iter().skip(1).copied().chain(std::iter::once(batch.num_rows() as u32)).collect();
        let keys = self.keys.keys_at(&tags, &UInt32Array::from(starts))?;
        let times = times(&batch)?;
        self.inputs[input].current = Some(Current { source: None, batch, times, keys, ends, stretch: 0, row: 0 });
        Ok(())
    }

    /// Says that `input` has no more rows.
    pub fn finish(&mut self, input: usize) {
        self.inputs[input].finished = true;
    }

    /// Goes on until something is needed or ready.
    ///
    /// # Errors
    /// If the columns of two inputs have different types.
    pub fn step(&mut self) -> Result<Step, ArrowError> {
        loop {
            if self.assembly.row_count() >= self.batch_rows {
                return self.flush();
            }
            let hungry = self.inputs.iter().position(|input| input.current.is_none() && !input.finished);
            if let Some(input) = hungry {
                return Ok(Step::Needs(input));
            }
            self.find_participants();
            match self.participants.as_slice() {
                [] if self.assembly.row_count() > 0 => return self.flush(),
                [] => return Ok(Step::Done),
                [only] => self.copy_stretch(*only),
                _ => self.merge_stretches(),
            }
        }
    }

    fn flush(&mut self) -> Result<Step, ArrowError> {
        let batch = self.assembly.flush()?;
        for input in &mut self.inputs {
            if let Some(current) = &mut input.current {
                current.source = None;
            }
        }
        Ok(Step::Ready(batch))
    }

    /// The inputs at the smallest series key, oldest first.
    fn find_participants(&mut self) {
        self.participants.clear();
        let mut smallest: &[u8] = &[];
        for (number, input) in self.inputs.iter().enumerate() {
            let Some(current) = &input.current else { continue };
            let key = current.key();
            let order = if self.participants.is_empty() { std::cmp::Ordering::Less } else { key.cmp(smallest) };
            match order {
                std::cmp::Ordering::Less => {
                    self.participants.clear();
                    self.participants.push(number);
                    smallest = key;
                }
                std::cmp::Ordering::Equal => self.participants.push(number),
                std::cmp::Ordering::Greater => {}
            }
        }
    }

    /// No other input has this series now: its rows go out as they are.
    fn copy_stretch(&mut self, number: usize) {
        let room = self.batch_rows - self.assembly.row_count();
        let Some(current) = &self.inputs[number].current else { return };
        let end = current.end().min(current.row + room);
        self.copy_rows(number, end);
    }

    fn copy_rows(&mut self, number: usize, end: usize) {
        let source = self.source_of(number);
        if let Some(current) = &self.inputs[number].current {
            self.assembly.push_range(source, current.row, end);
        }
        self.advance(number, end);
    }

    /// Several inputs are at one series: merge by time until one of them leaves it or the output is full.
    fn merge_stretches(&mut self) {
        let participants = std::mem::take(&mut self.participants);
        let stretch_of: Vec<usize> = participants.iter().map(|number| self.stretch(*number)).collect();
        let still_there = |merge: &Self| {
            participants.iter().zip(&stretch_of).all(|(number, stretch)| merge.stretch(*number) == *stretch)
        };
        while self.assembly.row_count() < self.batch_rows && still_there(self) {
            self.merge_next(&participants);
        }
        self.participants = participants;
    }

    /// The stretch that an input is at; `usize::MAX` where it has used up its batch.
    fn stretch(&self, number: usize) -> usize {
        self.inputs[number].current.as_ref().map_or(usize::MAX, |current| current.stretch)
    }

    /// Puts out the rows before the second-smallest time, or the one point that several inputs hold.
    fn merge_next(&mut self, participants: &[usize]) {
        let (mut earliest, mut next) = (i64::MAX, i64::MAX);
        let mut at_earliest: Vec<usize> = Vec::with_capacity(participants.len());
        for number in participants {
            let Some(current) = &self.inputs[*number].current else { continue };
            let time = current.times[current.row];
            if at_earliest.is_empty() || time < earliest {
                if !at_earliest.is_empty() {
                    next = earliest;
                }
                earliest = time;
                at_earliest.clear();
                at_earliest.push(*number);
            } else if time == earliest {
                at_earliest.push(*number);
            } else {
                next = next.min(time);
            }
        }
        if let [only] = at_earliest.as_slice() {
            let end = self.rows_before(*only, next);
            self.copy_rows(*only, end);
            return;
        }
        let mut writes = Vec::with_capacity(at_earliest.len());
        for number in &at_earliest {
            let source = self.source_of(*number);
            let row = self.inputs[*number].current.as_ref().map_or(0, |current| current.row);
            writes.push(Candidate { source, row: row as u32 });
        }
        self.assembly.push_merged(&writes);
        for number in at_earliest {
            let row = self.inputs[number].current.as_ref().map_or(0, |current| current.row);
            self.advance(number, row + 1);
        }
    }

    /// The end of the rows of the current stretch that are earlier than `time`, at least one, at most what the output takes.
    fn rows_before(&self, number: usize, time: i64) -> usize {
        let Some(current) = &self.inputs[number].current else { return 0 };
        let room = self.batch_rows - self.assembly.row_count();
        let rows = &current.times[current.row..current.end().min(current.row + room)];
        current.row + rows.partition_point(|row_time| *row_time < time).max(1)
    }

    /// The number under which the assembly knows this input's current batch.
    fn source_of(&mut self, number: usize) -> usize {
        let Some(current) = &mut self.inputs[number].current else { return 0 };
        *current.source.get_or_insert_with(|| self.assembly.add_source(current.batch.clone()))
    }

    /// Moves an input to `row`; past the end of its batch it has none.
    fn advance(&mut self, number: usize, row: usize) {
        let input = &mut self.inputs[number];
        let Some(current) = &mut input.current else { return };
        current.row = row;
        if row >= current.end() {
            current.ends.pop_front();
            current.stretch += 1;
        }
        if row >= current.batch.num_rows() {
            input.current = None;
        }
    }
}
