//! The part of a level that DataFusion's aggregation does: one row for each series and bucket, with what calls make of its rows.
//!
//! That are the functions for which the order of rows does not matter: `count`, `sum`, `mean`, `spread`, `median`, `stddev`,
//! `count(distinct())`, `percentile` where only its value is seen, and the selectors
//! `first`, `last`, `min`, `max` with the columns of the row that they choose. Empty buckets, transformations, arithmetic and
//! limits are then left to the pass over series, which sees a row for a bucket instead of all of its rows.
//!
//! Always true: what comes out is what the pass makes of all rows, but for the order in which floats are added.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Projection, cast, lit};

use super::buckets;
use super::collected::{self, Collected};
use super::filters::{self, column, table_column};
use super::level::{Call, From, Input, Level, Node, SlotSource};
use super::reduce::{Point, Reducer};
use super::resolve::Table;
use super::value::{self, Value};
use super::{extremes, plan::slot_name};
use crate::model::TIME_COLUMN;
use crate::syntax::influxql::Operator;
use arrow::datatypes::DataType;

/// What is computed of the rows of a bucket, and where calls find it.
#[derive(Debug, Clone)]
pub(super) struct Reduction {
    columns: Vec<Column>,
    /// Where each of the columns is.
    places: HashMap<Column, usize>,
    /// The slots that are seen of the rows which selectors choose.
    seen: Vec<usize>,
    calls: Vec<Reduced>,
}

/// A column of an aggregation: an aggregate, or a part of one that answers with a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Column {
    /// The call whose rows count and whose slot is read.
    slot: usize,
    bounds: (i64, i64),
    aggregate: Aggregate,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Aggregate {
    Count,
    CountDistinct,
    Sum,
    Least,
    Greatest,
    /// What is made of all values at once.
    Collected(Collected),
    /// A part of the row that a selector chooses.
    Chosen {
        selector: &'static str,
        part: Part,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Value,
    Time,
    /// Of the slots that are seen the one of this number.
    Seen(usize),
}

/// Where what a call made of a bucket is, as numbers of columns.
#[derive(Debug, Clone)]
enum Reduced {
    Count(usize),
    Value(usize),
    Mean {
        sum: usize,
        count: usize,
    },
    Spread {
        least: usize,
        greatest: usize,
    },
    /// With the slots of the chosen row.
    Chosen {
        value: usize,
        time: usize,
        slots: Vec<(usize, usize)>,
    },
}

impl Reduction {
    /// `None` if rows have to be seen one by one.
    pub(super) fn of(level: &Level) -> Option<Self> {
        let [Input { from: From::Table(_), slots }] = level.inputs.as_slice() else { return None };
        let mut shown = slots_of(level.columns.iter().map(|column| &column.node));
        shown.retain(|slot| *slot >= level.groups.len());
        if level.calls.is_empty() || !shown.is_empty() && !level.is_selector {
            return None;
        }
        // Which row it was is asked for by its time or by its columns.
        let is_row_seen = level.is_selector && (level.window.is_none() || !shown.is_empty());
        let mut reduction = Self { columns: Vec::new(), places: HashMap::new(), seen: shown, calls: Vec::new() };
        for call in &level.calls {
            if !matches!(slots[call.slot], SlotSource::Field(_)) {
                return None;
            }
            let reduced = reduction.call(call, is_row_seen)?;
            reduction.calls.push(reduced);
        }
        Some(reduction)
    }

    fn place(&mut self, column: Column) -> usize {
        match self.places.get(&column) {
            Some(place) => *place,
            None => {
                self.places.insert(column.clone(), self.columns.len());
                self.columns.push(column);
                self.columns.len() - 1
            }
        }
    }

    fn call(&mut self, call: &Call, is_row_seen: bool) -> Option<Reduced> {
        let seen_count = self.seen.len();
        let mut place = |aggregate: Aggregate| self.place(Column { slot: call.slot, bounds: call.bounds, aggregate });
        let selector = match call.reducer.as_ref()? {
            Reducer::Count => return Some(Reduced::Count(place(Aggregate::Count))),
            Reducer::CountDistinct => return Some(Reduced::Count(place(Aggregate::CountDistinct))),
            Reducer::Median => return Some(Reduced::Value(place(Aggregate::Collected(Collected::Median)))),
            Reducer::Stddev => return Some(Reduced::Value(place(Aggregate::Collected(Collected::Stddev)))),
            Reducer::Percentile(rank) if !is_row_seen => {
                return Some(Reduced::Value(place(Aggregate::Collected(Collected::Percentile(*rank)))));
            }
            Reducer::Sum => return Some(Reduced::Value(place(Aggregate::Sum))),
            Reducer::Mean => {
                return Some(Reduced::Mean { sum: place(Aggregate::Sum), count: place(Aggregate::Count) });
            }
            Reducer::Spread => {
                return Some(Reduced::Spread { least: place(Aggregate::Least), greatest: place(Aggregate::Greatest) });
            }
            Reducer::Min if !is_row_seen => return Some(Reduced::Value(place(Aggregate::Least))),
            Reducer::Max if !is_row_seen => return Some(Reduced::Value(place(Aggregate::Greatest))),
            Reducer::Min => "selector_min",
            Reducer::Max => "selector_max",
            Reducer::First => "selector_first",
            Reducer::Last => "selector_last",
            _ => return None,
        };
        let mut part = |part: Part| place(Aggregate::Chosen { selector, part });
        let value = part(Part::Value);
        if !is_row_seen {
            return Some(Reduced::Value(value));
        }
        let time = part(Part::Time);
        let places: Vec<usize> = (0..seen_count).map(|n| part(Part::Seen(n))).collect();
        Some(Reduced::Chosen { value, time, slots: self.seen.iter().copied().zip(places).collect() })
    }

    /// How many columns stand between the groups and the time.
    pub(super) fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// What the call of this number made of the bucket that begins at `start`; `None` if it saw no value there. `row` is the groups
    /// and the columns.
    pub(super) fn point(&self, call: usize, level: &Level, start: i64, row: &[Value]) -> Option<Point> {
        let groups = level.groups.len();
        let at = |place: usize| &row[groups + place];
        let value = match &self.calls[call] {
            Reduced::Count(count) => match at(*count) {
                Value::Integer(0) => Value::Null,
                count => count.clone(),
            },
            Reduced::Value(value) | Reduced::Chosen { value, .. } => at(*value).clone(),
            Reduced::Mean { sum, count } => match (at(*sum).as_f64(), at(*count).as_f64()) {
                (Some(sum), Some(count)) if count > 0.0 => Value::Float(sum / count),
                _ => Value::Null,
            },
            Reduced::Spread { least, greatest } => value::binary(Operator::Subtract, at(*greatest), at(*least)),
        };
        if value.is_null() {
            return None;
        }
        let Reduced::Chosen { time, slots, .. } = &self.calls[call] else {
            return Some(Point { time: start, value, row: None });
        };
        let time = match at(*time) {
            Value::Integer(nanos) if level.window.is_none() => *nanos,
            _ => start,
        };
        let mut chosen = vec![Value::Null; level.slots.len()];
        chosen[..groups].clone_from_slice(&row[..groups]);
        for (slot, place) in slots {
            chosen[*slot] = at(*place).clone();
        }
        Some(Point { time, value, row: Some(Arc::from(chosen)) })
    }

    /// The aggregation over the rows of `builder`: the groups, the columns, the time at which the bucket begins.
    pub(super) fn aggregate(
        &self,
        builder: LogicalPlanBuilder,
        level: &Level,
        input: &Input,
        table: &Table,
        session: &SessionState,
    ) -> DataFusionResult<LogicalPlan> {
        let mut keys = Vec::new();
        let mut shown = Vec::new();
        for (n, source) in input.slots[..level.groups.len()].iter().enumerate() {
            shown.push(match source {
                SlotSource::Tag(tag) => {
                    keys.push(column(tag).alias(slot_name(n)));
                    filters::text_or_blank(column(&slot_name(n))).alias(slot_name(n))
                }
                _ => lit("").alias(slot_name(n)),
            });
        }
        let mut aggregates = Vec::new();
        let read = filters::read_bounds(level);
        let (mut names, mut alike) = (HashMap::<Column, String>::new(), HashMap::<Expr, String>::new());
        for (n, wanted) in self.columns.iter().enumerate() {
            // Parts of one chosen row are parts of one aggregate.
            let whole = wanted.whole();
            let name = match names.get(&whole) {
                Some(name) => name.clone(),
                None => {
                    let aggregate = self.expression(wanted, read, level, input, table, session)?;
                    // One field may be in several slots.
                    let name = match alike.get(&aggregate) {
                        Some(name) => name.clone(),
                        None => {
                            let name = format!("b{n}");
                            aggregates.push(aggregate.clone().alias(&name));
                            alike.insert(aggregate, name.clone());
                            name
                        }
                    };
                    names.insert(whole, name.clone());
                    name
                }
            };
            shown.push(self.part(wanted, column(&name), level, input).alias(format!("a{n}")));
        }
        let start = match level.window {
            Some(window) => {
                keys.push(buckets::of(window).call(vec![column(TIME_COLUMN)]).alias(TIME_COLUMN));
                column(TIME_COLUMN)
            }
            // The pass knows when the only bucket begins.
            None => lit(ScalarValue::TimestampNanosecond(Some(0), None)).alias(TIME_COLUMN),
        };
        shown.push(start);
        // All names are those of the aggregation: the builder would look each of them up in all of it.
        let reduced = Arc::new(builder.aggregate(keys, aggregates)?.build()?);
        Ok(LogicalPlan::Projection(Projection::try_new(shown, reduced)?))
    }

    /// An aggregate of the rows; `read` is the first and the last instant that any call reads.
    fn expression(
        &self,
        wanted: &Column,
        read: (i64, i64),
        level: &Level,
        input: &Input,
        table: &Table,
        session: &SessionState,
    ) -> DataFusionResult<Expr> {
        let slot = |slot: usize| match &input.slots[slot] {
            // Brought as it is kept, and made a text when it is known which rows are chosen.
            SlotSource::Tag(tag) => column(tag),
            source => table_column(&level.slots[slot], source, table),
        };
        let value = slot(wanted.slot);
        let aggregate = match &wanted.aggregate {
            Aggregate::Count => count(value),
            Aggregate::CountDistinct => count_distinct(value),
            Aggregate::Collected(what) => collected::aggregate(*what).call(vec![value]),
            Aggregate::Sum => sum(value),
            Aggregate::Least => extremes::least().call(vec![value]),
            Aggregate::Greatest => extremes::greatest().call(vec![value]),
            Aggregate::Chosen { selector, .. } => {
                let others = self.seen.iter().map(|other| slot(*other));
                session.udaf(selector)?.call([value, column(TIME_COLUMN)].into_iter().chain(others).collect())
            }
        };
        match wanted.bounds == read {
            true => Ok(aggregate),
            // Another call reads more.
            false => match filters::within(wanted.bounds).into_iter().reduce(Expr::and) {
                // What is built forgets that it was about different values.
                Some(bounds) if wanted.aggregate == Aggregate::CountDistinct => {
                    aggregate.filter(bounds).distinct().build()
                }
                Some(bounds) => aggregate.filter(bounds).build(),
                None => Ok(aggregate),
            },
        }
    }

    /// This column of what the aggregate of the name answers.
    fn part(&self, wanted: &Column, aggregate: Expr, level: &Level, input: &Input) -> Expr {
        let Aggregate::Chosen { part, .. } = &wanted.aggregate else { return aggregate };
        match part {
            Part::Value => get_field(aggregate, "value"),
            Part::Time => cast(get_field(aggregate, "time"), DataType::Int64),
            Part::Seen(place) => {
                let slot = self.seen[*place];
                let value = get_field(aggregate, format!("other_{}", place + 1));
                match &input.slots[slot] {
                    SlotSource::Tag(_) if level.slots[slot].blank => filters::text_or_blank(value),
                    SlotSource::Tag(_) => cast(value, DataType::Utf8),
                    _ => value,
                }
            }
        }
    }
}

impl Column {
    /// Of the parts of one chosen row the same one.
    fn whole(&self) -> Self {
        let aggregate = match &self.aggregate {
            Aggregate::Chosen { selector, .. } => Aggregate::Chosen { selector, part: Part::Value },
            other => other.clone(),
        };
        Self { aggregate, ..self.clone() }
    }
}

/// The slots that values are computed of, each once, in the order in which they come.
pub(super) fn slots_of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<usize> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    nodes.into_iter().for_each(|node| slots_in(node, &mut all));
    all.retain(|slot| seen.insert(*slot));
    all
}

fn slots_in(node: &Node, slots: &mut Vec<usize>) {
    match node {
        Node::Slot(slot) => slots.push(*slot),
        Node::Call(_) | Node::Literal(_) => {}
        Node::Binary { left, right, .. } => [left, right].into_iter().for_each(|side| slots_in(side, slots)),
        Node::Matches { value, .. } => slots_in(value, slots),
        Node::Math { arguments, .. } => arguments.iter().for_each(|argument| slots_in(argument, slots)),
        Node::DatePart { time, .. } => slots_in(time, slots),
    }
}
