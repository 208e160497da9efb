//! Queries as rows: `system.queries`, in the words of InfluxDB 3 where it has words, and what `SHOW QUERIES` needs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, DurationNanosecondArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;

use super::{Asker, Entry, Outcome, Phase, Progress, Registry};
use crate::model::Rights;

/// The queries of which somebody may know.
#[derive(Debug, Clone)]
pub(in crate::query) struct SeenQueries {
    pub(in crate::query) registry: Arc<Registry>,
    pub(in crate::query) asker: Asker,
    pub(in crate::query) rights: Rights,
}

/// A query that runs, as InfluxDB 1 tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::query) struct RunningQuery {
    pub(in crate::query) id: u64,
    pub(in crate::query) text: String,
    pub(in crate::query) database: Option<String>,
    pub(in crate::query) took: Duration,
    /// Whether it was told to end.
    pub(in crate::query) is_killed: bool,
}

impl SeenQueries {
    fn entries(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.registry.entries().into_iter().filter(|entry| entry.is_seen_by(&self.asker, &self.rights))
    }

    /// Those that run, by their numbers.
    pub(in crate::query) fn running(&self) -> Vec<RunningQuery> {
        let now = self.registry.clock.elapsed();
        let running = self.entries().filter(|entry| entry.progress.lock().ended.is_none());
        let told = running.map(|entry| RunningQuery {
            id: entry.id,
            text: entry.text.clone(),
            database: entry.database.clone(),
            took: now.saturating_sub(entry.started),
            is_killed: entry.stop.reason().is_some(),
        });
        told.collect()
    }

    /// Those that run and the last ones that did, by their numbers.
    pub(in crate::query) fn rows(&self) -> Result<RecordBatch, ArrowError> {
        let now = self.registry.clock.elapsed();
        // One look at each, so that its columns fit each other.
        let all: Vec<Row> = self.entries().map(|entry| Row::new(entry, now)).collect();
        let text =
            |value: fn(&Row) -> Option<&str>| -> ArrayRef { Arc::new(all.iter().map(value).collect::<StringArray>()) };
        let number = |value: fn(&Row) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(all.iter().map(|row| i64::try_from(value(row)).unwrap_or(i64::MAX))))
        };
        let duration = |value: fn(&Row) -> Option<Duration>| -> ArrayRef {
            let nanos = |took: Duration| i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
            Arc::new(all.iter().map(|row| value(row).map(nanos)).collect::<DurationNanosecondArray>())
        };
        let is = |value: fn(&Row) -> bool| -> ArrayRef {
            Arc::new(BooleanArray::from_iter(all.iter().map(|row| Some(value(row)))))
        };
        let issued = all.iter().map(|row| row.entry.issued.as_nanos());
        let columns: [(&str, ArrayRef); 19] = [
            ("id", number(|row| row.entry.id)),
            ("phase", text(|row| Some(row.phase()))),
            ("issue_time", Arc::new(TimestampNanosecondArray::from_iter_values(issued))),
            ("query_type", text(|row| Some(row.entry.way.word()))),
            ("query_text", text(|row| Some(&row.entry.text))),
            ("database", text(|row| row.entry.database.as_deref())),
            ("principal", text(|row| Some(row.entry.asker.name.as_str()).filter(|name| !name.is_empty()))),
            ("plan_duration", duration(Row::plan)),
            ("permit_duration", duration(Row::permit)),
            ("execute_duration", duration(Row::execute)),
            ("end2end_duration", duration(|row| Some(row.until.saturating_sub(row.entry.started)))),
            ("max_memory", number(|row| row.entry.memory.peak() as u64)),
            ("rows", number(|row| row.entry.rows.load(Ordering::Relaxed))),
            ("bytes", number(|row| row.entry.bytes.load(Ordering::Relaxed))),
            ("success", is(|row| row.progress.phase == Phase::Ended(Outcome::Success) && !row.is_running())),
            ("running", is(Row::is_running)),
            ("cancelled", is(|row| row.progress.phase == Phase::Ended(Outcome::Cancel) && !row.is_running())),
            ("killed", is(|row| row.entry.stop.reason().is_some())),
            ("error", text(|row| row.progress.error.as_deref())),
        ];
        let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().map(field).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
    }
}

/// One query, looked at once.
struct Row {
    entry: Arc<Entry>,
    progress: Progress,
    /// Its end, or now.
    until: Duration,
}

impl Row {
    fn new(entry: Arc<Entry>, now: Duration) -> Self {
        let progress = entry.progress.lock().clone();
        let until = progress.ended.unwrap_or(now);
        Self { entry, progress, until }
    }

    /// Until nothing works for it any more.
    fn is_running(&self) -> bool {
        self.progress.ended.is_none()
    }

    fn phase(&self) -> &'static str {
        match self.progress.phase {
            Phase::Received => "received",
            Phase::Planned => "planned",
            Phase::Queued => "queued",
            Phase::Permit => "permit",
            Phase::Ended(Outcome::Success) => "success",
            Phase::Ended(Outcome::Fail) => "fail",
            Phase::Ended(Outcome::Cancel) => "cancel",
        }
    }

    fn plan(&self) -> Option<Duration> {
        Some(self.progress.planned?.saturating_sub(self.entry.started))
    }

    fn permit(&self) -> Option<Duration> {
        Some(self.progress.permitted?.saturating_sub(self.progress.queued?))
    }

    fn execute(&self) -> Option<Duration> {
        Some(self.until.saturating_sub(self.progress.permitted?))
    }
}
