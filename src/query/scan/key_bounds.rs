//! What filters say plainly of time and tags: bounds of the one, values of the others.
//!
//! Nearly every filter of a dashboard is one of these, and comparing a few numbers costs a small part of what DataFusion's pruning of arrays
//! does. What is said otherwise is left to that.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

use super::series_search::{WantedTags, text_of};
use super::{FileAccess, Unit};
use crate::engine::TableSnapshot;
use crate::model::{ColumnStatistics, Covers, DataFile, Scalar, Stretch, TIME_COLUMN, TableSchema, TimeRange};

/// Of how many values of a tag one is taken to be asked for, where nothing is known of it.
const VALUES_OF_A_TAG: u64 = 8;

/// The most tags that are taken to divide rows further: values of several go together, mostly.
const DIVIDING_TAGS_MAX: u32 = 2;

/// Bounds that each row which passes keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyBounds {
    /// The first and the last instant, in nanoseconds.
    time: (i64, i64),
    /// Tags, each with the values of which it has one.
    tags: Vec<(String, Vec<String>)>,
}

impl KeyBounds {
    /// The bounds that these filters say, of which all have to pass, and the filters that say something else.
    pub(super) fn of(table: &TableSchema, filters: &[Expr]) -> (Self, Vec<Expr>) {
        let (mut bounds, mut rest) = (Self { time: (i64::MIN, i64::MAX), tags: Vec::new() }, Vec::new());
        for filter in filters.iter().flat_map(split_conjunction) {
            if let Some((first, last)) = time_bounds(filter) {
                bounds.time = (bounds.time.0.max(first), bounds.time.1.min(last));
            } else if let Some((tag, values)) = values_of_tag(table, filter) {
                bounds.tags.push((tag, values));
            } else {
                rest.push(filter.clone());
            }
        }
        (bounds, rest)
    }

    /// Whether some of this stretch of time is within the bounds.
    pub(super) fn let_pass(&self, time: TimeRange) -> bool {
        time.min.as_nanos() <= self.time.1 && self.time.0 <= time.max.as_nanos()
    }

    /// Whether a unit may hold a row that passes.
    pub(super) fn let_unit_pass(&self, unit: &Unit) -> bool {
        self.let_pass(unit.time()) && self.tags.iter().all(|(tag, values)| may_have(unit, tag, values))
    }

    /// Whether so few rows of a table are expected to pass: of each part its share of the time, and of these the rows of the series that are
    /// meant. Where it is not in memory which series there are, the share of one value of each tag.
    pub(super) async fn expects_at_most(&self, rows_max: u64, snapshot: &TableSnapshot, access: &FileAccess) -> bool {
        let tags = u32::try_from(self.tags.len()).unwrap_or(u32::MAX).min(DIVIDING_TAGS_MAX);
        let values = VALUES_OF_A_TAG.pow(tags);
        let mut room = rows_max.saturating_mul(values);
        let mut has_room_for = |rows: u64| {
            let left = room.checked_sub(rows);
            room = left.unwrap_or_default();
            left.is_some()
        };
        let wanted = self.wanted_tags();
        for file in snapshot.files.stretches().filter(|stretch| self.let_pass(stretch.time())).flat_map(Stretch::files)
        {
            for (number, row_group) in file.row_groups.iter().enumerate() {
                let rows = match rows_of_tags(&wanted, file, number, access).await {
                    Some(rows) => self.share(row_group.time, rows).saturating_mul(values),
                    None => self.share(row_group.time, row_group.rows),
                };
                if !has_room_for(rows) {
                    return false;
                }
            }
        }
        snapshot.runs.iter().all(|run| has_room_for(self.share(run.time(), run.row_count() as u64)))
    }

    /// The first and the last instant within the bounds and a part of a table.
    pub(super) fn extent(&self, snapshot: &TableSnapshot) -> Option<(i64, i64)> {
        let times = snapshot.files.stretches().map(Stretch::time).chain(snapshot.runs.iter().map(|run| run.time()));
        let clipped = times
            .filter(|time| self.let_pass(*time))
            .map(|time| (time.min.as_nanos().max(self.time.0), time.max.as_nanos().min(self.time.1)));
        clipped.reduce(|(first, last), (min, max)| (first.min(min), last.max(max)))
    }

    /// How many rows of a row group may pass, as far as that is in memory.
    pub(super) async fn rows_at_most(&self, file: &DataFile, number: usize, access: &FileAccess) -> u64 {
        let rows = rows_of_tags(&self.wanted_tags(), file, number, access).await;
        rows.unwrap_or(file.row_groups[number].rows)
    }

    fn wanted_tags(&self) -> WantedTags {
        WantedTags::new(self.tags.clone())
    }

    /// How many of these rows are within the bounds of time, if they lie evenly.
    fn share(&self, time: TimeRange, rows: u64) -> u64 {
        let (first, last) = (time.min.as_nanos().max(self.time.0), time.max.as_nanos().min(self.time.1));
        if last < first {
            return 0;
        }
        let length = |first: i64, last: i64| u128::from(last.abs_diff(first)) + 1;
        let share = u128::from(rows) * length(first, last) / length(time.min.as_nanos(), time.max.as_nanos());
        u64::try_from(share).unwrap_or(rows)
    }
}

/// The rows of series with these tags in a row group, if its series are in memory and sorted by one of them first.
async fn rows_of_tags(wanted: &WantedTags, file: &DataFile, number: usize, access: &FileAccess) -> Option<u64> {
    if wanted.is_empty() {
        return None;
    }
    wanted.rows(access.held_series(file, number).await?.as_ref())
}

/// Whether a unit may hold one of these values of a tag, by what is known without reading.
fn may_have(unit: &Unit, tag: &str, values: &[String]) -> bool {
    let file = match unit {
        Unit::RowGroup { file, .. } => file,
        Unit::Rows { run, .. } => return run.schema().kind(tag).is_some(),
    };
    let Some(ColumnStatistics { nulls, bounds, .. }) = file.columns.get(tag) else { return false };
    match bounds {
        _ if nulls == file.rows => false,
        Some((Scalar::String(min), Scalar::String(max))) => values.iter().any(|value| min <= *value && *value <= max),
        _ => true,
    }
}

/// The first and the last instant that pass a comparison of the time with a constant.
fn time_bounds(filter: &Expr) -> Option<(i64, i64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let is_time = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == TIME_COLUMN);
    let instant = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanos), None), _) => Some(*nanos),
        _ => None,
    };
    let (op, nanos) = match (left.as_ref(), right.as_ref()) {
        (left, right) if is_time(left) => (*op, instant(right)?),
        (left, right) if is_time(right) => (op.swap()?, instant(left)?),
        _ => return None,
    };
    // Beyond the last instant there is none: bounds that nothing keeps.
    let nothing = (i64::MAX, i64::MIN);
    match op {
        Operator::Eq => Some((nanos, nanos)),
        Operator::GtEq => Some((nanos, i64::MAX)),
        Operator::LtEq => Some((i64::MIN, nanos)),
        Operator::Gt => Some(nanos.checked_add(1).map_or(nothing, |first| (first, i64::MAX))),
        Operator::Lt => Some(nanos.checked_sub(1).map_or(nothing, |last| (i64::MIN, last))),
        _ => None,
    }
}

/// A tag and the values of which it has one: `tag = 'x'`, several of these with OR, or `tag IN (…)`.
fn values_of_tag(table: &TableSchema, filter: &Expr) -> Option<(String, Vec<String>)> {
    let (tag, values) = match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (tag, mut values) = values_of_tag(table, left)?;
            let (other, more) = values_of_tag(table, right)?;
            values.extend(more);
            return (tag == other).then_some((tag, values));
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), value) | (value, Expr::Column(column)) => (&column.name, vec![text(value)?]),
            _ => return None,
        },
        Expr::InList(InList { expr, list, negated: false }) => match expr.as_ref() {
            Expr::Column(column) => (&column.name, list.iter().map(text).collect::<Option<_>>()?),
            _ => return None,
        },
        _ => return None,
    };
    table.tags().iter().any(|known| known.as_str() == tag).then(|| (tag.clone(), values))
}

fn text(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    text_of(value).map(str::to_owned)
}
