//! Which levels need only the rows at the ends of series: `last()` and `first()` without buckets, and rows as they are with a `LIMIT`.
//!
//! Where rows also have to hold something of fields all of them are read, and where a row at the end lacks the field that is asked
//! for; how rows are found is a matter of `query::shortcuts`. The pass over series chooses of what comes as it would of all rows.

use std::collections::BTreeSet;

use super::super::scan::{End, Ends};
use super::filters;
use super::level::{Call, Input, Level};
use super::reduce::Reducer;
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

fn ends(level: &Level, rows: usize, is_newest: bool) -> Ends {
    let end = End::newest_if(is_newest);
    if level.groups.is_empty() { end.of_all(rows) } else { end.of_series(rows) }
}
