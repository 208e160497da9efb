//! One pass over the rows of one series after the other: calls, empty buckets, transformations, arithmetic, limits.
//!
//! Rows come sorted by series and, in the order of the query, by time. Each call is a pipeline: rows → buckets → empty buckets
//! filled → from point to point. Rows of the answer are made where the pipelines meet in time, as soon as none of them can
//! bring an earlier point.
//!
//! Always true: what is kept is the open buckets, and the closed ones of a pipeline that waits for another. Empty buckets are
//! made one at a time as they are taken. [`SeriesPass::bytes`] says how much that is, [`SeriesPass::empty_buckets`] how many.

use std::collections::VecDeque;
use std::sync::Arc;

use super::filters::read_bounds;
use super::level::{Call, Level};
use super::reduce::{Bucket, Point, Reducer, State};
use super::reduction::Reduction;
use super::time::{TIME_MAX, TIME_MIN};
use super::transform::Machine;
use super::value::{Type, Value};
use crate::syntax::influxql::Fill;

/// A row of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The tags of its series, in the order of the level's groups.
    pub(super) series: Arc<[Value]>,
    pub(super) time: i64,
    pub(super) values: Vec<Value>,
}

/// Steps after which the pass lets others have their turn, where a row is far: buckets may be short and ranges long.
const STEPS_AT_ONCE: usize = 100_000;

/// The state of the pass.
#[derive(Debug)]
pub(super) struct SeriesPass {
    level: Arc<Level>,
    /// What stands in a row, if each is a bucket.
    reduction: Option<Arc<Reduction>>,
    /// The first and the last instant that any call reads.
    read_bounds: (i64, i64),
    series: Option<Series>,
    /// Whether the last search for a row was broken off.
    is_paused: bool,
    /// How many series have answered.
    series_count: u64,
}

#[derive(Debug)]
struct Series {
    tags: Arc<[Value]>,
    pipelines: Vec<Pipeline>,
    /// Rows of a query without calls that were not taken yet.
    plain: VecDeque<(i64, Arc<[Value]>)>,
    /// What each call and slot said last.
    calls: Vec<Value>,
    slots: Vec<Value>,
    row_count: u64,
    has_ended: bool,
    /// Its number among those that answered, once it does.
    number: Option<u64>,
}

impl SeriesPass {
    /// Rows are those of the sources, or those of a reduction.
    pub(super) fn new(level: Arc<Level>, reduction: Option<Arc<Reduction>>) -> Self {
        let read_bounds = read_bounds(&level);
        Self { level, reduction, read_bounds, series: None, is_paused: false, series_count: 0 }
    }

    /// Whether a row can be taken: no series is open, or its own. If not, [`SeriesPass::end_series`] comes first.
    pub(super) fn accepts(&self, slots: &[Value]) -> bool {
        let groups = self.level.groups.len();
        self.series.as_ref().is_none_or(|series| series.tags[..] == slots[..groups])
    }

    /// Whether a series is open.
    pub(super) fn has_series(&self) -> bool {
        self.series.is_some()
    }

    /// Whether nothing more of the open series is needed.
    pub(super) fn is_full(&self) -> bool {
        self.series.as_ref().is_some_and(|series| series.is_full(&self.level))
    }

    /// Whether the last [`SeriesPass::next_row`] found nothing because it looked long enough; it goes on when called again.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether nothing more is needed at all.
    pub(super) fn is_done(&self) -> bool {
        let (limit, offset) = (self.level.series_limit, self.level.series_offset);
        let is_after = |number: u64| limit > 0 && number >= offset.saturating_add(limit);
        if self.level.groups.is_empty() && self.is_full() {
            return true;
        }
        match self.series.as_ref().and_then(|series| series.number) {
            Some(number) => is_after(number),
            None => self.series.is_none() && is_after(self.series_count),
        }
    }

    /// About how many bytes are kept.
    pub(super) fn bytes(&self) -> usize {
        let Some(series) = &self.series else { return 0 };
        let point_bytes = size_of::<Point>() + self.level.slots.len() * size_of::<Value>();
        let sum = |sum: usize, pipeline: &Pipeline| {
            let (points, text_bytes) = pipeline.kept();
            sum + points * point_bytes + text_bytes
        };
        series.pipelines.iter().fold(series.plain.len() * point_bytes, sum)
    }

    /// How many buckets without a point one call has made of the open series, at most.
    pub(super) fn empty_buckets(&self) -> u64 {
        let pipelines = self.series.iter().flat_map(|series| &series.pipelines);
        pipelines.map(|pipeline| pipeline.empty_buckets).max().unwrap_or_default()
    }

    /// Takes a row that holds the condition, or one of the reduction and when its bucket begins.
    pub(super) fn push(&mut self, time: i64, slots: Vec<Value>) {
        let level = &self.level;
        let series = self.series.get_or_insert_with(|| Series::new(level, &slots));
        if let Some(reduction) = &self.reduction {
            for (number, (pipeline, call)) in series.pipelines.iter_mut().zip(&level.calls).enumerate() {
                let start = if level.window.is_none() { bucket_start(level, call, time) } else { time };
                pipeline.seen = start;
                pipeline.closed.extend(reduction.point(number, level, start, &slots));
            }
            return;
        }
        let slots: Arc<[Value]> = slots.into();
        if level.calls.is_empty() {
            series.plain.push_back((time, slots));
            return;
        }
        for (pipeline, call) in series.pipelines.iter_mut().zip(&level.calls) {
            if is_read(level, call, self.read_bounds, time) {
                pipeline.push(level, call, time, &slots);
            }
        }
    }

    /// The open series has no more rows.
    pub(super) fn end_series(&mut self) {
        if let Some(series) = &mut self.series {
            series.has_ended = true;
        }
    }

    /// The next row of the answer that is certain. Where there is none and the series has ended, it is closed.
    pub(super) fn next_row(&mut self) -> Option<Row> {
        self.is_paused = false;
        let series = self.series.as_mut()?;
        let mut steps = STEPS_AT_ONCE;
        loop {
            let next = if series.is_full(&self.level) { None } else { series.next_values(&self.level, &mut steps) };
            let Some((time, values)) = next else {
                self.is_paused = steps == 0;
                if series.has_ended && !self.is_paused {
                    self.series_count += u64::from(series.number.is_some());
                    self.series = None;
                }
                return None;
            };
            let number = *series.number.get_or_insert(self.series_count);
            let (limit, offset) = (self.level.series_limit, self.level.series_offset);
            if number < offset || limit > 0 && number >= offset.saturating_add(limit) {
                // A series that is not shown needs no second row.
                series.row_count = u64::MAX;
                continue;
            }
            series.row_count += 1;
            if series.row_count <= self.level.offset {
                continue;
            }
            return Some(Row { series: Arc::clone(&series.tags), time, values });
        }
    }
}

impl Series {
    fn new(level: &Level, slots: &[Value]) -> Self {
        Self {
            tags: slots[..level.groups.len()].into(),
            pipelines: level.calls.iter().map(|call| Pipeline::new(level, call)).collect(),
            plain: VecDeque::new(),
            calls: vec![Value::Null; level.calls.len()],
            slots: vec![Value::Null; level.slots.len()],
            row_count: 0,
            has_ended: false,
            number: None,
        }
    }

    fn is_full(&self, level: &Level) -> bool {
        self.row_count == u64::MAX || level.limit > 0 && self.row_count >= level.offset.saturating_add(level.limit)
    }

    /// `None` if there is nothing yet, or if there are no `steps` left.
    fn next_values(&mut self, level: &Level, steps: &mut usize) -> Option<(i64, Vec<Value>)> {
        *steps = steps.checked_sub(1)?;
        let time = if level.calls.is_empty() {
            let (time, slots) = self.plain.pop_front()?;
            self.see_slots(level, Some(&slots));
            time
        } else {
            self.meet(level, steps)?
        };
        let values = level.columns.iter().map(|column| column.node.value(&self.slots, &self.calls));
        Some((time, values.collect()))
    }

    /// Takes the next point of each pipeline that has one at the earliest time.
    fn meet(&mut self, level: &Level, steps: &mut usize) -> Option<i64> {
        let is_before = |a: i64, b: i64| if level.ascending { a < b } else { a > b };
        let mut earliest: Option<i64> = None;
        let mut certain_before: Option<i64> = None;
        for (pipeline, call) in self.pipelines.iter_mut().zip(&level.calls) {
            match pipeline.peek(level, call, self.has_ended, steps) {
                Next::Point(time) => {
                    if earliest.is_none_or(|known| is_before(time, known)) {
                        earliest = Some(time);
                    }
                }
                Next::NotBefore(time) => {
                    if certain_before.is_none_or(|known| is_before(time, known)) {
                        certain_before = Some(time);
                    }
                }
                Next::End => {}
                Next::Pause => return None,
            }
        }
        let time = earliest?;
        if certain_before.is_some_and(|certain| !is_before(time, certain)) {
            return None;
        }
        let mut row = None;
        for (n, (pipeline, call)) in self.pipelines.iter_mut().zip(&level.calls).enumerate() {
            let point = match pipeline.out.front() {
                Some(point) if point.time == time => pipeline.out.pop_front(),
                _ => None,
            };
            let value = point.as_ref().map_or(Value::Null, |point| point.value.clone());
            if let Some(value) = filled(level.fill, value, call.kind) {
                self.calls[n] = value;
            }
            row = row.or(point.and_then(|point| point.row));
        }
        self.see_slots(level, row.as_deref());
        Some(time)
    }

    /// Remembers the slots of a row; what is null there is what the fill says.
    fn see_slots(&mut self, level: &Level, row: Option<&[Value]>) {
        for (n, slot) in level.slots.iter().enumerate() {
            let value = row.map_or(Value::Null, |row| row[n].clone());
            // A tag that is absent is not a value that is missing.
            let fill = if slot.kind == Type::Tag { Fill::Null } else { level.fill };
            if let Some(value) = filled(fill, value, slot.kind) {
                self.slots[n] = value;
            }
        }
    }
}

/// What stands in the place of a value; `None` if what stood there before stays.
fn filled(fill: Fill, value: Value, kind: Type) -> Option<Value> {
    if !value.is_null() {
        return Some(value);
    }
    match fill {
        Fill::Null | Fill::None | Fill::Linear => Some(Value::Null),
        Fill::Previous => None,
        Fill::Integer(number) => Some(Value::Integer(number).fill_cast(kind)),
        Fill::Number(number) => Some(Value::Float(number).fill_cast(kind)),
    }
}

/// What a pipeline can say of its next point.
enum Next {
    /// It is at this time.
    Point(i64),
    /// It is not known yet, and not before this time.
    NotBefore(i64),
    /// There is none.
    End,
    /// It was looked for long enough.
    Pause,
}

/// The way of one call through one series.
#[derive(Debug)]
struct Pipeline {
    /// The open bucket: its beginning and what is kept of it.
    open: Option<(i64, State)>,
    /// Points of closed buckets.
    closed: VecDeque<Point>,
    /// The next bucket that is due, once the series has begun; with what was in the one before.
    due: Option<i64>,
    before: Option<Point>,
    machines: Vec<Machine>,
    out: VecDeque<Point>,
    /// No row comes before this time any more.
    seen: i64,
    /// Bytes of the texts of what is kept, at most.
    text_bytes: usize,
    /// Buckets without a point that were made.
    empty_buckets: u64,
}

impl Pipeline {
    fn new(level: &Level, call: &Call) -> Self {
        Self {
            open: None,
            closed: VecDeque::new(),
            due: None,
            before: None,
            machines: call.transforms.iter().map(super::transform::Transform::machine).collect(),
            out: VecDeque::new(),
            seen: if level.ascending { TIME_MIN } else { TIME_MAX },
            text_bytes: 0,
            empty_buckets: 0,
        }
    }

    /// Takes a row that the call reads.
    fn push(&mut self, level: &Level, call: &Call, time: i64, slots: &Arc<[Value]>) {
        self.seen = time;
        let start = bucket_start(level, call, time);
        if self.open.as_ref().is_some_and(|(open, _)| *open != start) && !carries_on(level, call) {
            self.close(level, call);
        }
        let value = &slots[call.slot];
        if value.is_null() {
            return;
        }
        let point = Point { time, value: value.clone(), row: Some(Arc::clone(slots)) };
        let Some(reducer) = &call.reducer else {
            self.closed.push_back(Point { row: None, ..point });
            return;
        };
        let bucket = Bucket { window: level.window.as_ref(), ascending: level.ascending };
        if self.open.is_none() && self.closed.is_empty() {
            self.text_bytes = 0;
        }
        let (open, state) = self.open.get_or_insert_with(|| (start, reducer.state()));
        *open = start;
        let kept = state.kept();
        self.closed.extend(state.add(reducer, point, bucket));
        if state.kept() > kept {
            let text = |value: &Value| if let Value::String(text) = value { text.len() } else { 0 };
            self.text_bytes += slots.iter().map(text).sum::<usize>();
        }
    }

    fn close(&mut self, level: &Level, call: &Call) {
        let (Some((start, state)), Some(reducer)) = (self.open.take(), &call.reducer) else { return };
        let bucket = Bucket { window: level.window.as_ref(), ascending: level.ascending };
        let keeps_times = reducer.keeps_times() || level.is_selector && level.window.is_none();
        let points = state.finish(reducer, start, bucket);
        self.closed.extend(points.into_iter().map(|point| {
            let time = if keeps_times { point.time } else { start };
            Point { time, row: point.row.filter(|_| level.is_selector), ..point }
        }));
    }

    /// Makes the next point, if it can be made.
    fn peek(&mut self, level: &Level, call: &Call, has_ended: bool, steps: &mut usize) -> Next {
        if has_ended && self.open.is_some() {
            self.close(level, call);
        }
        loop {
            if let Some(point) = self.out.front() {
                return Next::Point(point.time);
            }
            match steps.checked_sub(1) {
                Some(left) => *steps = left,
                None => return Next::Pause,
            }
            let Some(point) = self.next_bucket(level, call, has_ended) else {
                if !has_ended {
                    return Next::NotBefore(self.not_before(level, call));
                }
                if self.forecast(level, call, steps) {
                    continue;
                }
                return Next::End;
            };
            let mut point = Some(point);
            for (machine, transform) in self.machines.iter_mut().zip(&call.transforms) {
                point = point.and_then(|point| machine.next(transform, &point, level.ascending));
            }
            self.out.extend(point);
        }
    }

    /// Goes on with a forecast, once all points have come. Returns whether there is one to go on with.
    fn forecast(&mut self, level: &Level, call: &Call, steps: &mut usize) -> bool {
        let is_open = |machine: &Machine| machine.forecaster.as_ref().is_some_and(|forecaster| !forecaster.is_done());
        let Some(place) = self.machines.iter().position(is_open) else { return false };
        let Some(forecaster) = &mut self.machines[place].forecaster else { return false };
        // A move looks at every point some times.
        *steps = steps.saturating_sub(4 * forecaster.point_count());
        for point in forecaster.step().unwrap_or_default() {
            let mut point = Some(point);
            for (machine, transform) in self.machines.iter_mut().zip(&call.transforms).skip(place + 1) {
                point = point.and_then(|point| machine.next(transform, &point, level.ascending));
            }
            self.out.extend(point);
        }
        true
    }

    /// What is kept, in points; and in bytes of text.
    fn kept(&self) -> (usize, usize) {
        let open = self.open.as_ref().map_or(0, |(_, state)| state.kept());
        let forecasters = self.machines.iter().filter_map(|machine| machine.forecaster.as_ref());
        let forecast: usize = forecasters.map(|forecaster| forecaster.point_count()).sum();
        (open + self.closed.len() + self.out.len() + forecast, self.text_bytes)
    }

    /// The earliest time at which a point may still come.
    fn not_before(&self, level: &Level, call: &Call) -> i64 {
        if let Some(forecaster) = self.machines.iter().find_map(|machine| machine.forecaster.as_ref()) {
            // Its answer begins with its first point, or later.
            let none = if level.ascending { TIME_MIN } else { TIME_MAX };
            return forecaster.first_time().filter(|_| level.ascending).unwrap_or(none);
        }
        match (fills(level, call), self.due) {
            (true, Some(due)) => due,
            // It begins with the range.
            (true, None) => first_due(level, call, self.seen),
            (false, _) => match &self.open {
                Some((open, _)) => *open,
                None => bucket_start(level, call, self.seen),
            },
        }
    }

    /// The next bucket that has a point or gets one.
    fn next_bucket(&mut self, level: &Level, call: &Call, has_ended: bool) -> Option<Point> {
        let window = match level.window {
            Some(window) if fills(level, call) => window,
            _ => return self.closed.pop_front(),
        };
        let is_before = |a: i64, b: i64| if level.ascending { a < b } else { a > b };
        let next = self.closed.front().map(|point| point.time);
        let due = match self.due {
            Some(due) => due,
            None => first_due(level, call, next?),
        };
        let point = match next {
            Some(time) if !is_before(due, time) => {
                let point = self.closed.pop_front()?;
                self.before = Some(point.clone());
                point
            }
            None if !has_ended => return None,
            None if is_before(last_due(level, call), due) || self.due.is_none() => return None,
            next => {
                self.empty_buckets += 1;
                let after = next.and(self.closed.front());
                Point { time: due, value: self.value_between(level, call, due, after), row: None }
            }
        };
        self.due = Some(window.next(due, level.ascending));
        // The last bucket there can be has none behind it.
        if self.due == Some(due) {
            self.due = Some(if level.ascending { i64::MAX } else { i64::MIN });
        }
        Some(point)
    }

    /// What an empty bucket gets.
    fn value_between(&self, level: &Level, call: &Call, due: i64, after: Option<&Point>) -> Value {
        let before = self.before.as_ref();
        match level.fill {
            Fill::Null if counts(call) => Value::Integer(0),
            Fill::Null | Fill::None => Value::Null,
            Fill::Previous => before.map_or(Value::Null, |before| before.value.clone()),
            Fill::Integer(number) => Value::Integer(number).fill_cast(call.reduced),
            Fill::Number(number) => Value::Float(number).fill_cast(call.reduced),
            Fill::Linear => match (before, after, level.window) {
                (Some(before), Some(after), Some(window)) => between(before, after, due, window.interval),
                _ => Value::Null,
            },
        }
    }
}

/// The value on the line between two buckets, counted in buckets; whole numbers are cut.
fn between(before: &Point, after: &Point, due: i64, interval: i64) -> Value {
    let (from, to, at) = (before.time / interval, after.time / interval, due / interval);
    let (Some(low), Some(high)) = (before.value.as_f64(), after.value.as_f64()) else { return Value::Null };
    let slope = (high - low) / (to - from) as f64;
    Value::Float(low + slope * (at - from) as f64).cast(before.value.data_type())
}

/// Whether empty buckets of the call are told.
fn fills(level: &Level, call: &Call) -> bool {
    let has_value = match level.fill {
        Fill::None => false,
        // A transformation passes over what is empty.
        Fill::Null => call.transforms.is_empty() || counts(call),
        _ => true,
    };
    level.window.is_some() && has_value && call.reducer.as_ref().is_some_and(Reducer::can_be_filled)
}

/// Whether an empty bucket says 0.
fn counts(call: &Call) -> bool {
    matches!(call.reducer, Some(Reducer::Count | Reducer::CountDistinct))
}

/// Whether a row is one of those that the call reads: all calls of the level together, which read within `all`, may read more.
fn is_read(level: &Level, call: &Call, all: (i64, i64), time: i64) -> bool {
    let (min, max) = call.bounds;
    if !level.reads_levels() {
        return (min..=max).contains(&time);
    }
    // A level below has read its own range and says the beginnings of buckets, which may lie before it.
    let reads_all = all.0 >= min && all.1 <= max;
    reads_all || level.window.is_none_or(|window| (window.start(min)..=max).contains(&time))
}

/// Whether a function goes on from bucket to bucket by itself.
fn carries_on(level: &Level, call: &Call) -> bool {
    level.window.is_some() && matches!(call.reducer, Some(Reducer::Integral(_)))
}

/// When the bucket of an instant begins; without buckets, when the range does, or 1970.
pub(super) fn bucket_start(level: &Level, call: &Call, time: i64) -> i64 {
    match level.window {
        _ if call.reducer.is_none() => time,
        Some(window) => window.start(time),
        None if level.bounds.0 == TIME_MIN => 0,
        None => level.bounds.0,
    }
}

/// The first bucket of a series whose first point is in the bucket at `first`.
fn first_due(level: &Level, call: &Call, first: i64) -> i64 {
    let (min, max) = call.bounds;
    let Some(window) = level.window else { return first };
    match level.ascending {
        true if min > TIME_MIN => window.start(min),
        false if max < TIME_MAX => window.start(max),
        _ => window.start(first),
    }
}

fn last_due(level: &Level, call: &Call) -> i64 {
    let (min, max) = call.bounds;
    let Some(window) = level.window else { return max };
    match level.ascending {
        true => window.start(max),
        false if min > TIME_MIN => window.start(min),
        // Going back there is no first bucket to go to.
        false => TIME_MAX,
    }
}
