//! Functions that make one point, or a few, of the rows of a bucket.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::datatypes::Float64Type;

use super::collected;
use super::estimate::{self, Estimate, Random};
use super::value::{Type, Value};
use super::window::Window;
use crate::syntax::influxql::Expression;

/// A row as a function sees it: when, what, and the rest of it.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) time: i64,
    /// Null where a bucket is empty.
    pub(super) value: Value,
    /// The row that was selected, with all its slots.
    pub(super) row: Option<Arc<[Value]>>,
}

/// Which function.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reducer {
    Count,
    CountDistinct,
    Sum,
    Mean,
    Median,
    Mode,
    Spread,
    Stddev,
    Distinct,
    First,
    Last,
    Min,
    Max,
    /// The rank in percent.
    Percentile(f64),
    Top {
        count: usize,
        tags: Vec<usize>,
    },
    Bottom {
        count: usize,
        tags: Vec<usize>,
    },
    /// Area below the line; the unit of time in nanoseconds.
    Integral(i64),
    /// So many points by chance.
    Sample(usize),
    /// About how many different values.
    CountHll,
}

impl Reducer {
    /// The function of this name and the column that it is made of.
    ///
    /// # Errors
    /// If there is no such function.
    pub(super) fn of<'a>(
        name: &str,
        arguments: &'a [Expression],
        mut slot: impl FnMut(&Expression) -> usize,
    ) -> Result<(&'a Expression, Self), String> {
        let Some(first) = arguments.first() else { return Err(format!("{name}() needs an argument")) };
        let reducer = match (name, arguments) {
            ("count", [Expression::Call { name, arguments }]) if name == "distinct" && !arguments.is_empty() => {
                return Ok((&arguments[0], Self::CountDistinct));
            }
            ("count", _) => Self::Count,
            ("sum", _) => Self::Sum,
            ("mean", _) => Self::Mean,
            ("median", _) => Self::Median,
            ("mode", _) => Self::Mode,
            ("spread", _) => Self::Spread,
            ("stddev", _) => Self::Stddev,
            ("distinct", _) => Self::Distinct,
            ("first", _) => Self::First,
            ("last", _) => Self::Last,
            ("min", _) => Self::Min,
            ("max", _) => Self::Max,
            ("percentile", [_, Expression::Number(rank)]) => Self::Percentile(*rank),
            ("percentile", [_, Expression::Integer(rank)]) => Self::Percentile(*rank as f64),
            ("top" | "bottom", [_, tags @ .., Expression::Integer(count)]) => {
                let tags = tags.iter().map(&mut slot).collect();
                let count = usize::try_from(*count).unwrap_or_default();
                if name == "top" { Self::Top { count, tags } } else { Self::Bottom { count, tags } }
            }
            ("sample", [_, Expression::Integer(count)]) => Self::Sample(usize::try_from(*count).unwrap_or_default()),
            ("count_hll", [Expression::Call { arguments, .. }]) if !arguments.is_empty() => {
                return Ok((&arguments[0], Self::CountHll));
            }
            ("integral", [_, Expression::Duration(unit)]) => Self::Integral(*unit),
            ("integral", _) => Self::Integral(1_000_000_000),
            _ => return Err(format!("the function {name}() is not supported yet")),
        };
        Ok((first, reducer))
    }

    /// Whether it chooses points that there are.
    pub(super) fn is_selector(&self) -> bool {
        matches!(
            self,
            Self::First
                | Self::Last
                | Self::Min
                | Self::Max
                | Self::Percentile(_)
                | Self::Top { .. }
                | Self::Bottom { .. }
                | Self::Sample(_)
        )
    }

    /// Whether its points keep their times and empty buckets get none.
    pub(super) fn keeps_times(&self) -> bool {
        matches!(self, Self::Top { .. } | Self::Bottom { .. } | Self::Sample(_))
    }

    /// Whether an empty bucket can get a value.
    pub(super) fn can_be_filled(&self) -> bool {
        !self.keeps_times() && !matches!(self, Self::Distinct | Self::Integral(_))
    }

    /// How it is called where it can't be made of a type.
    pub(super) fn refuses(&self, kind: Type) -> Option<&'static str> {
        let name = match self {
            Self::Count
            | Self::CountDistinct
            | Self::CountHll
            | Self::First
            | Self::Last
            | Self::Distinct
            | Self::Mode
            | Self::Sample(_) => return None,
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Median => "median",
            Self::Spread => "spread",
            Self::Stddev => "stddev",
            Self::Min => "min",
            Self::Max => "max",
            Self::Percentile(_) => "percentile",
            Self::Top { .. } => "top",
            Self::Bottom { .. } => "bottom",
            Self::Integral(_) => "integral",
        };
        match kind {
            Type::Boolean if matches!(self, Self::Min | Self::Max) => None,
            Type::String | Type::Boolean => Some(name),
            _ => None,
        }
    }

    pub(super) fn kind(&self, argument: Type) -> Type {
        match self {
            Self::Count | Self::CountDistinct | Self::CountHll => Type::Integer,
            Self::Mean | Self::Median | Self::Stddev | Self::Integral(_) => Type::Float,
            _ => argument,
        }
    }

    pub(super) fn state(&self) -> State {
        match self {
            Self::Count => State::Count(0),
            Self::Sum => State::Sum(None),
            Self::Mean => State::Mean { sum: None, count: 0 },
            Self::Spread => State::Spread(None),
            Self::First | Self::Last | Self::Min | Self::Max => State::Selected(None),
            Self::CountDistinct | Self::Distinct | Self::Mode => State::Values(BTreeMap::new()),
            Self::Top { tags, .. } | Self::Bottom { tags, .. } if !tags.is_empty() => {
                State::BestOfEach(BTreeMap::new())
            }
            Self::Top { .. } | Self::Bottom { .. } => State::Best(Vec::new()),
            Self::Sample(_) => State::Sample { points: Vec::new(), seen: 0, random: Random::default() },
            Self::CountHll => State::Estimate(Box::default()),
            Self::Median | Self::Stddev | Self::Percentile(_) => State::Points(Vec::new()),
            Self::Integral(_) => State::Area { previous: None, sum: 0.0 },
        }
    }
}

/// A value as a key: of one type, in their order.
#[derive(Debug, Clone)]
pub(super) struct Key(Value);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.order(&other.0)
    }
}

/// A combination of tags: of each whether it is absent, and what it is.
type Combination = Vec<(bool, Key)>;

/// What is kept of a bucket while its rows come.
#[derive(Debug, Clone)]
pub(super) enum State {
    Count(i64),
    Sum(Option<Value>),
    Mean {
        sum: Option<Value>,
        count: u64,
    },
    /// The least and the greatest.
    Spread(Option<(Value, Value)>),
    Selected(Option<Point>),
    /// How often each value came, and when first.
    Values(BTreeMap<Key, (u64, i64)>),
    /// The best points so far, the best first.
    Best(Vec<Point>),
    /// The best point of each combination of tags; which of them are the best of all is known at the end only.
    BestOfEach(BTreeMap<Combination, Point>),
    Points(Vec<Point>),
    /// A choice of all points so far, each with the same chance.
    Sample {
        points: Vec<Point>,
        seen: u64,
        random: Random,
    },
    Estimate(Box<Estimate>),
    Area {
        previous: Option<(i64, f64)>,
        sum: f64,
    },
}

/// Where a bucket is, for functions that look at its edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket<'a> {
    pub(super) window: Option<&'a Window>,
    pub(super) ascending: bool,
}

impl State {
    /// Takes a row; rows come in the order of the query. Returns points that are ready before their bucket ends.
    pub(super) fn add(&mut self, reducer: &Reducer, point: Point, bucket: Bucket<'_>) -> Vec<Point> {
        use super::value::binary;
        use crate::syntax::influxql::Operator::Add;
        match self {
            Self::Count(count) => *count += 1,
            Self::Sum(sum) => {
                *sum = Some(sum.take().map_or(point.value.clone(), |sum| binary(Add, &sum, &point.value)))
            }
            Self::Mean { sum, count } => {
                *sum = Some(sum.take().map_or(point.value.clone(), |sum| binary(Add, &sum, &point.value)));
                *count += 1;
            }
            Self::Spread(extremes) => {
                let (least, greatest) = extremes.get_or_insert_with(|| (point.value.clone(), point.value.clone()));
                if point.value.order(least) == Ordering::Less {
                    *least = point.value.clone();
                }
                if point.value.order(greatest) == Ordering::Greater {
                    *greatest = point.value;
                }
            }
            Self::Selected(selected) => {
                if selected.as_ref().is_none_or(|selected| is_better(reducer, &point, selected)) {
                    *selected = Some(point);
                }
            }
            Self::Values(values) => {
                let (count, first) = values.entry(Key(point.value)).or_insert((0, point.time));
                *count += 1;
                *first = (*first).min(point.time);
            }
            Self::Best(best) => add_best(reducer, best, point),
            Self::BestOfEach(best) => add_best_of_each(reducer, best, point),
            Self::Sample { points, seen, random } => {
                let Reducer::Sample(count) = reducer else { return Vec::new() };
                *seen += 1;
                if points.len() < *count {
                    points.push(point);
                } else if let Some(place) = usize::try_from(random.below(*seen)).ok().filter(|place| place < count) {
                    points[place] = point;
                }
            }
            Self::Estimate(estimate) => estimate.add(&point.value),
            Self::Points(points) => points.push(Point { row: keep_row(reducer, point.row), ..point }),
            Self::Area { previous, sum } => return add_area(reducer, previous, sum, &point, bucket),
        }
        Vec::new()
    }

    /// How many values or points are kept.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Count(_) | Self::Sum(_) | Self::Mean { .. } | Self::Spread(_) | Self::Area { .. } => 0,
            Self::Selected(selected) => usize::from(selected.is_some()),
            Self::Values(values) => values.len(),
            Self::Best(points) | Self::Points(points) | Self::Sample { points, .. } => points.len(),
            Self::BestOfEach(best) => best.len(),
            // As much as so many points take.
            Self::Estimate(_) => estimate::REGISTERS / size_of::<Point>(),
        }
    }

    /// The points of the bucket, in the order of the query; `start` is when it begins.
    pub(super) fn finish(self, reducer: &Reducer, start: i64, bucket: Bucket<'_>) -> Vec<Point> {
        let one = |value: Value| vec![Point { time: start, value, row: None }];
        match self {
            Self::Count(count) => one(Value::Integer(count)),
            Self::Sum(sum) => sum.map_or_else(Vec::new, one),
            Self::Mean { sum, count } => match sum.and_then(|sum| sum.as_f64()) {
                Some(sum) => one(Value::Float(sum / count as f64)),
                None => Vec::new(),
            },
            Self::Spread(extremes) => match extremes {
                Some((least, greatest)) => {
                    one(super::value::binary(crate::syntax::influxql::Operator::Subtract, &greatest, &least))
                }
                None => Vec::new(),
            },
            Self::Selected(selected) => selected.into_iter().collect(),
            Self::Values(values) => finish_values(reducer, values, start, bucket.ascending),
            Self::Best(best) => in_order(best, bucket.ascending),
            Self::BestOfEach(best) => {
                let mut best: Vec<_> = best.into_values().collect();
                best.sort_by(|a, b| rank(reducer, a, b));
                if let Reducer::Top { count, .. } | Reducer::Bottom { count, .. } = reducer {
                    best.truncate(*count);
                }
                in_order(best, bucket.ascending)
            }
            Self::Sample { points, .. } => in_order(points, bucket.ascending),
            Self::Estimate(estimate) => one(Value::Integer(estimate.count())),
            Self::Points(points) => finish_points(reducer, points, start),
            Self::Area { previous, sum } => match previous {
                // Nothing lies before a bucket's first instant.
                Some((time, _)) if bucket.window.is_none() || time != start => one(Value::Float(sum)),
                _ => Vec::new(),
            },
        }
    }
}

/// Only `percentile` shows the row that it finds.
fn keep_row(reducer: &Reducer, row: Option<Arc<[Value]>>) -> Option<Arc<[Value]>> {
    row.filter(|_| matches!(reducer, Reducer::Percentile(_)))
}

fn is_better(reducer: &Reducer, new: &Point, old: &Point) -> bool {
    let values = new.value.order(&old.value);
    match reducer {
        Reducer::First => new.time < old.time || new.time == old.time && values == Ordering::Greater,
        Reducer::Last => new.time > old.time || new.time == old.time && values == Ordering::Greater,
        Reducer::Min => values == Ordering::Less || values == Ordering::Equal && new.time < old.time,
        _ => values == Ordering::Greater || values == Ordering::Equal && new.time < old.time,
    }
}

/// The order of `top` and `bottom`: the best first, of equal ones the earlier.
fn rank(reducer: &Reducer, a: &Point, b: &Point) -> Ordering {
    let values = a.value.order(&b.value);
    let values = if matches!(reducer, Reducer::Top { .. }) { values.reverse() } else { values };
    values.then(a.time.cmp(&b.time))
}

fn add_best(reducer: &Reducer, best: &mut Vec<Point>, point: Point) {
    let (Reducer::Top { count, .. } | Reducer::Bottom { count, .. }) = reducer else { return };
    let place = best.partition_point(|known| rank(reducer, known, &point) != Ordering::Greater);
    best.insert(place, point);
    best.truncate(*count);
}

fn add_best_of_each(reducer: &Reducer, best: &mut BTreeMap<Combination, Point>, point: Point) {
    let (Reducer::Top { tags, .. } | Reducer::Bottom { tags, .. }) = reducer else { return };
    let Some(row) = &point.row else { return };
    let key = tags.iter().map(|tag| (row[*tag].is_null(), Key(row[*tag].clone()))).collect();
    match best.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(point);
        }
        Entry::Occupied(mut entry) if rank(reducer, &point, entry.get()) == Ordering::Less => {
            entry.insert(point);
        }
        Entry::Occupied(_) => {}
    }
}

fn in_order(mut points: Vec<Point>, ascending: bool) -> Vec<Point> {
    points.sort_by_key(|point| point.time);
    if !ascending {
        points.reverse();
    }
    points
}

/// Trapezoids from point to point, cut at the edges of buckets.
fn add_area(
    reducer: &Reducer,
    previous: &mut Option<(i64, f64)>,
    sum: &mut f64,
    point: &Point,
    bucket: Bucket<'_>,
) -> Vec<Point> {
    let (Reducer::Integral(unit), Some(value)) = (reducer, point.value.as_f64()) else { return Vec::new() };
    let mut points = Vec::new();
    if let Some((mut from, mut from_value)) = *previous {
        let area = |from: i64, from_value: f64, to: i64, to_value: f64| {
            0.5 * (from_value + to_value) * ((to - from) as f64 / *unit as f64)
        };
        let (first, first_value) = (from, from_value);
        while let Some(window) = bucket.window {
            let (start, end) = window.around(if bucket.ascending { from } else { from.saturating_sub(1) });
            let edge = if bucket.ascending { end } else { start };
            let is_inside = if bucket.ascending { point.time < edge } else { point.time > edge };
            if is_inside {
                break;
            }
            let part = (edge - first) as f64 / (point.time - first) as f64;
            let edge_value = first_value + (value - first_value) * part;
            *sum += area(from, from_value, edge, edge_value);
            points.push(Point { time: start, value: Value::Float(*sum), row: None });
            (from, from_value, *sum) = (edge, edge_value, 0.0);
        }
        *sum += area(from, from_value, point.time, value);
    }
    *previous = Some((point.time, value));
    points
}

fn finish_values(reducer: &Reducer, values: BTreeMap<Key, (u64, i64)>, start: i64, ascending: bool) -> Vec<Point> {
    match reducer {
        Reducer::CountDistinct => {
            vec![Point { time: start, value: Value::Integer(values.len() as i64), row: None }]
        }
        Reducer::Distinct => {
            let mut found: Vec<_> = values.into_iter().map(|(Key(value), (_, first))| (first, value)).collect();
            found.sort_by(|(a, _), (b, _)| if ascending { a.cmp(b) } else { b.cmp(a) });
            found.into_iter().map(|(_, value)| Point { time: start, value, row: None }).collect()
        }
        _ => {
            let value = most_frequent(values);
            value.map(|value| Point { time: start, value, row: None }).into_iter().collect()
        }
    }
}

/// The most frequent value, of equally frequent ones that which came first; the least, if each came once.
fn most_frequent(values: BTreeMap<Key, (u64, i64)>) -> Option<Value> {
    let is_once = values.values().all(|(count, _)| *count == 1);
    let best = |a: &(Key, (u64, i64)), b: &(Key, (u64, i64))| {
        let ((a_count, a_first), (b_count, b_first)) = (a.1, b.1);
        if is_once { b.0.cmp(&a.0) } else { a_count.cmp(&b_count).then(b_first.cmp(&a_first)).then(b.0.cmp(&a.0)) }
    };
    values.into_iter().max_by(best).map(|(Key(value), _)| value)
}

fn finish_points(reducer: &Reducer, mut points: Vec<Point>, start: i64) -> Vec<Point> {
    let one = |value: Option<f64>| {
        let point = |value| Point { time: start, value: Value::Float(value), row: None };
        value.map(point).into_iter().collect()
    };
    let floats = || points.iter().map(|point| point.value.as_f64().unwrap_or(f64::NAN)).collect::<Vec<f64>>();
    match reducer {
        Reducer::Median => one(collected::median::<Float64Type>(&mut floats())),
        Reducer::Stddev => one(collected::stddev::<Float64Type>(&floats())),
        Reducer::Percentile(rank) => {
            // A point that there is, or none.
            let Some(place) = collected::place(points.len(), *rank) else { return Vec::new() };
            points.sort_by(|a, b| a.value.order(&b.value).then(a.time.cmp(&b.time)));
            vec![points.swap_remove(place)]
        }
        _ => Vec::new(),
    }
}
