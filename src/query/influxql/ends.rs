//! Which levels need only the rows at the ends of series: `last()` and `first()` without buckets, and rows as they are with a `LIMIT`. And which need
//! only the first of their buckets: those of one series with a `LIMIT`.
//!
//! Where rows also have to hold something of fields all of them are read, and where a row at the end lacks the field that is asked
//! for; how rows are found is a matter of `query::shortcuts`. The pass over series chooses of what comes as it would of all rows.

use std::collections::BTreeSet;

use super::super::scan::{End, Ends};
use super::filters;
use super::level::{Call, Input, Level};
use super::reduce::Reducer;
use super::resolve::Table;
use crate::syntax::influxql::Fill;

/// The most rows of all series together.
const ROWS_MAX: u64 = 10_000;

/// The most rows of each series, where they are told apart: there may be many series, and these rows are held in memory.
const ROWS_OF_SERIES_MAX: u64 = 100;

/// The rows, and lists of fields of each of which a row has to have one to count.
pub(super) fn needed(level: &Level, input: &Input) -> Option<(Ends, BTreeSet<Vec<String>>)> {
    if level.calls.is_empty() { rows(level, input) } else { points(level, input) }
}

/// `SELECT … LIMIT`: each row is one of the answer.
fn rows(level: &Level, input: &Input) -> Option<(Ends, BTreeSet<Vec<String>>)> {
    let most = if level.groups.is_empty() { ROWS_MAX } else { ROWS_OF_SERIES_MAX };
    let rows = level.limit.checked_add(level.offset).filter(|rows| level.limit > 0 && *rows <= most)?;
    let rows = usize::try_from(rows).ok().filter(|_| level.fill == Fill::Null)?;
    let fields: Vec<String> = filters::fields(level, input).into_iter().cloned().collect();
    let which = ends(level, rows, !level.ascending);
    (!fields.is_empty()).then(|| (which, BTreeSet::from([fields])))
}

/// `last(field)` and `first(field)`.
fn points(level: &Level, input: &Input) -> Option<(Ends, BTreeSet<Vec<String>>)> {
    let all_are = |wanted: &Reducer| {
        let is_so = |call: &Call| call.reducer.as_ref() == Some(wanted) && call.transforms.is_empty();
        level.window.is_none() && level.calls.iter().all(is_so)
    };
    let is_newest = all_are(&Reducer::Last);
    if !is_newest && !all_are(&Reducer::First) {
        return None;
    }
    let fields = level.calls.iter().map(|call| Some(vec![filters::field(&input.slots[call.slot])?.clone()]));
    Some((ends(level, 1, is_newest), fields.collect::<Option<_>>()?))
}

/// Of the buckets that hold something so many are enough, the first in the order of the answer: each of them is a row of it, and so are those without a point
/// that are filled between them.
pub(super) fn buckets_needed(level: &Level, input: &Input, table: &Table) -> Option<usize> {
    let (first, others) = level.calls.split_first()?;
    // A value that is read as another type may be none.
    let is_read_as_it_is = |call: &Call| {
        let field = filters::field(&input.slots[call.slot]);
        field.is_some_and(|field| table.measured.type_of(field) == level.slots[call.slot].kind)
    };
    let always_has_a_value = |call: &Call| {
        use Reducer::{Count, CountDistinct, First, Last, Max, Mean, Median, Min, Spread, Sum};
        let reduces = matches!(
            call.reducer,
            Some(Count | CountDistinct | First | Last | Max | Mean | Median | Min | Spread | Sum)
        );
        reduces && call.transforms.is_empty() && call.bounds == level.bounds && is_read_as_it_is(call)
    };
    // A call without any point in these buckets is not filled, but may be if it has one in others.
    let are_filled_alike = level.fill == Fill::None || others.iter().all(|call| call.slot == first.slot);
    let is_so = level.window.is_some()
        && level.groups.is_empty()
        && are_filled_alike
        && level.calls.iter().all(always_has_a_value);
    let buckets = level.limit.checked_add(level.offset).filter(|_| is_so && level.limit > 0)?;
    usize::try_from(buckets).ok()
}

fn ends(level: &Level, rows: usize, is_newest: bool) -> Ends {
    let end = End::newest_if(is_newest);
    if level.groups.is_empty() { end.of_all(rows) } else { end.of_series(rows) }
}
