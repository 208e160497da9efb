//! A `SELECT` over one measurement, ready to run: which columns a row has, which calls are made of them, what comes out.
//!
//! Subqueries are levels below a level. Each measurement that a statement reads becomes a level of its own, so that its columns
//! keep their types.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::compile::{Compiled, DATE_PART};
use super::date_part::DatePart;
use super::reduce::Reducer;
use super::resolve::{Query, Source, Table, extra_columns, type_of, type_of_column};
use super::time::{TIME_MAX, TIME_MIN};
use super::transform::Transform;
use super::value::{self, Math, Type, Value};
use super::window::Window;
use crate::model::TIME_COLUMN;
use crate::syntax::influxql::{Cast, Expression, Fill, Operator, Regex};

type Result<T> = std::result::Result<T, String>;

/// One `SELECT` over one measurement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level {
    pub(super) inputs: Vec<Input>,
    /// The columns of a row as this level reads it. The first are those of `groups`.
    pub(super) slots: Vec<Slot>,
    /// The tags that series are told apart by, in the order of the names.
    pub(super) groups: Vec<String>,
    pub(super) condition: Option<Node>,
    /// The first and the last instant that is asked for.
    pub(super) bounds: (i64, i64),
    pub(super) window: Option<Window>,
    pub(super) ascending: bool,
    pub(super) fill: Fill,
    pub(super) calls: Vec<Call>,
    /// Whether the one call there is says when it happened, not when its bucket began.
    pub(super) is_selector: bool,
    pub(super) columns: Vec<Column>,
    pub(super) limit: u64,
    pub(super) offset: u64,
    pub(super) series_limit: u64,
    pub(super) series_offset: u64,
}

/// A column of a row that is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) cast: Option<Cast>,
    pub(super) kind: Type,
    /// For conditions: a tag that is absent is the empty text.
    pub(super) blank: bool,
}

impl Slot {
    /// The time of the row in nanoseconds. Nothing else of that name is an integer without being cast to one.
    fn time() -> Self {
        Self { name: TIME_COLUMN.to_owned(), cast: None, kind: Type::Integer, blank: true }
    }

    fn is_time(&self) -> bool {
        *self == Self::time()
    }
}

/// Where rows come from, and what of theirs goes where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    pub(super) from: From,
    /// For each slot of the level.
    pub(super) slots: Vec<SlotSource>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum From {
    Table(Table),
    Level(Box<Level>),
}

/// Where the value of a slot comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SlotSource {
    /// There is no such column.
    Missing,
    Tag(String),
    Field(String),
    /// A tag of the series of the level below.
    Group(usize),
    /// A column of the level below.
    Output(usize),
    /// The time of the row, in nanoseconds.
    Time,
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) node: Node,
    pub(super) kind: Type,
}

/// A function of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// What of a row it is made of.
    pub(super) slot: usize,
    /// `None`: each row by itself.
    pub(super) reducer: Option<Reducer>,
    /// From row to row, the innermost first.
    pub(super) transforms: Vec<Transform>,
    /// The type of what comes out.
    pub(super) kind: Type,
    /// The type of what the reducer makes.
    pub(super) reduced: Type,
    /// The rows that it reads: a transformation looks a bucket further back.
    pub(super) bounds: (i64, i64),
}

impl Level {
    /// Whether rows come from subqueries.
    pub(super) fn reads_levels(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.from, From::Level(_)))
    }
}

/// A value to be computed of a row and of calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Slot(usize),
    Call(usize),
    Literal(Value),
    Binary {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
    },
    Matches {
        value: Box<Node>,
        regex: Regex,
        wanted: bool,
    },
    Math {
        function: Math,
        arguments: Vec<Node>,
    },
    /// Of a time in nanoseconds.
    DatePart {
        part: DatePart,
        time: Box<Node>,
    },
}

impl Node {
    pub(super) fn value(&self, slots: &[Value], calls: &[Value]) -> Value {
        match self {
            Self::Slot(slot) => slots.get(*slot).cloned().unwrap_or(Value::Null),
            Self::Call(call) => calls.get(*call).cloned().unwrap_or(Value::Null),
            Self::Literal(value) => value.clone(),
            Self::Binary { operator, left, right } => {
                value::binary(*operator, &left.value(slots, calls), &right.value(slots, calls))
            }
            Self::Matches { value, regex, wanted } => value::matches(&value.value(slots, calls), regex, *wanted),
            Self::Math { function, arguments } => {
                let arguments: Vec<_> = arguments.iter().map(|argument| argument.value(slots, calls)).collect();
                function.call(&arguments)
            }
            Self::DatePart { part, time } => match time.value(slots, calls) {
                Value::Integer(nanos) => Value::Integer(part.of(nanos)),
                _ => Value::Null,
            },
        }
    }

    /// Whether it is true of a row.
    pub(super) fn holds(&self, slots: &[Value]) -> bool {
        self.value(slots, &[]) == Value::Boolean(true)
    }
}

/// The query as a level for each measurement that it reads, by their names.
///
/// # Errors
/// In the words of InfluxDB: functions of types that they don't take.
pub(super) fn levels(query: &Query) -> Result<Vec<(String, Level)>> {
    let mut levels = Vec::new();
    for measurement in query.measurements() {
        let restricted = restrict(query, &measurement);
        let level = Lowering::new(&restricted).level(&BTreeSet::new(), (TIME_MIN, TIME_MAX))?;
        if let Some(level) = level {
            levels.push((measurement, level));
        }
    }
    if !query.compiled.ascending {
        levels.reverse();
    }
    Ok(levels)
}

/// The query with those sources alone that rows of one measurement come from.
fn restrict(query: &Query, measurement: &str) -> Query {
    let sources = query.sources.iter().filter_map(|source| match source {
        Source::Table(table) => (table.name == measurement).then(|| Source::Table(table.clone())),
        Source::Query(inner) => {
            inner.measurements().contains(measurement).then(|| Source::Query(Box::new(restrict(inner, measurement))))
        }
    });
    query.of_sources(sources.collect())
}

struct Lowering<'a> {
    query: &'a Query,
    compiled: &'a Compiled,
    slots: Vec<Slot>,
    /// Where each of the slots is.
    places: HashMap<Slot, usize>,
    calls: Vec<(Expression, Call)>,
    /// The calls by what they look like written.
    calls_by_text: HashMap<String, Vec<usize>>,
    bounds: (i64, i64),
}

impl<'a> Lowering<'a> {
    fn new(query: &'a Query) -> Self {
        let compiled = &query.compiled;
        Self {
            query,
            compiled,
            slots: Vec::new(),
            places: HashMap::new(),
            calls: Vec::new(),
            calls_by_text: HashMap::new(),
            bounds: compiled.bounds,
        }
    }

    /// `None` if no row can come out.
    fn level(mut self, outer_groups: &BTreeSet<String>, outer_bounds: (i64, i64)) -> Result<Option<Level>> {
        self.bounds = (self.bounds.0.max(outer_bounds.0), self.bounds.1.min(outer_bounds.1));
        let groups: BTreeSet<String> = self.query.dimensions.iter().chain(outer_groups).cloned().collect();
        for group in &groups {
            self.place(Slot { name: group.clone(), cast: Some(Cast::Tag), kind: Type::Tag, blank: true });
        }
        let mut columns = Vec::new();
        for field in &self.query.fields {
            let name = |n: usize| self.query.columns[n].clone();
            let (node, kind) = (self.node(&field.expression)?, self.kind(&field.expression));
            columns.push(Column { name: name(columns.len()), node, kind });
            for extra in extra_columns(&field.expression) {
                let (node, kind) = (self.node(extra)?, self.kind(extra));
                columns.push(Column { name: self.query.columns[columns.len()].clone(), node, kind });
            }
        }
        let plain: Vec<usize> = (groups.len()..self.slots.len()).collect();
        let condition = self.compiled.condition.as_ref().map(|condition| self.condition(condition)).transpose()?;

        let is_known = |slot: &usize| self.slots[*slot].kind != Type::Unknown && !self.slots[*slot].is_time();
        let can_answer = match self.calls.is_empty() {
            true => plain.iter().any(is_known),
            false => self.calls.iter().any(|(_, call)| self.makes_points(call)),
        };
        if !can_answer {
            return Ok(None);
        }
        let mut inputs = Vec::new();
        for source in &self.query.sources {
            inputs.extend(self.input(source, &groups, &plain)?);
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        let is_selector = self.calls.len() == 1
            && self.calls[0].1.transforms.is_empty()
            && self.calls[0].1.reducer.as_ref().is_some_and(Reducer::is_selector);
        let compiled = self.compiled;
        Ok(Some(Level {
            inputs,
            slots: self.slots,
            groups: groups.into_iter().collect(),
            condition,
            bounds: self.bounds,
            window: compiled.window,
            ascending: compiled.ascending,
            fill: compiled.fill,
            calls: self.calls.into_iter().map(|(_, call)| call).collect(),
            is_selector,
            columns,
            limit: compiled.limit,
            offset: compiled.offset,
            series_limit: compiled.series_limit,
            series_offset: compiled.series_offset,
        }))
    }

    fn makes_points(&self, call: &Call) -> bool {
        match self.slots[call.slot].kind {
            Type::Unknown => false,
            Type::Tag => self.reads_queries(),
            _ => true,
        }
    }

    /// Whether rows come from subqueries: their tags are texts like others.
    fn reads_queries(&self) -> bool {
        self.query.sources.iter().any(|source| matches!(source, Source::Query(_)))
    }

    fn kind(&self, expression: &Expression) -> Type {
        type_of(expression, &self.query.sources).unwrap_or(Type::Unknown)
    }

    fn slot(&mut self, name: &str, cast: Option<Cast>, blank: bool) -> usize {
        let kind = type_of_column(name, cast, &self.query.sources);
        self.place(Slot { name: name.to_owned(), cast, kind, blank })
    }

    /// Where the slot is. Those of the groups come first and stand for themselves.
    fn place(&mut self, slot: Slot) -> usize {
        match self.places.get(&slot) {
            Some(place) => *place,
            None => {
                self.places.insert(slot.clone(), self.slots.len());
                self.slots.push(slot);
                self.slots.len() - 1
            }
        }
    }

    fn node(&mut self, expression: &Expression) -> Result<Node> {
        Ok(match expression {
            Expression::Column { name, cast } => Node::Slot(self.slot(name, *cast, false)),
            Expression::Call { name, arguments } if name == DATE_PART => self.date_part(arguments)?,
            Expression::Call { name, arguments } => match Math::named(name) {
                Some(function) => {
                    let arguments = arguments.iter().map(|argument| self.node(argument)).collect::<Result<_>>()?;
                    Node::Math { function, arguments }
                }
                None => Node::Call(self.call(expression)?),
            },
            Expression::Binary { operator, left, right } => Node::Binary {
                operator: *operator,
                left: Box::new(self.node(left)?),
                right: Box::new(self.node(right)?),
            },
            other => self.other(other, Self::node)?,
        })
    }

    /// What nodes of fields and of conditions have in common.
    fn other(
        &mut self,
        expression: &Expression,
        node: impl Fn(&mut Self, &Expression) -> Result<Node>,
    ) -> Result<Node> {
        Ok(match expression {
            Expression::Parenthesis(inner) => node(self, inner)?,
            Expression::Signed { negative, operand } => {
                let one = Node::Literal(Value::Integer(if *negative { -1 } else { 1 }));
                let right = Box::new(node(self, operand)?);
                Node::Binary { operator: Operator::Multiply, left: Box::new(one), right }
            }
            Expression::String(text) => Node::Literal(Value::String(Arc::from(text.as_str()))),
            Expression::Number(value) => Node::Literal(Value::Float(*value)),
            Expression::Integer(value) => Node::Literal(Value::Integer(*value)),
            Expression::Unsigned(value) => Node::Literal(Value::Unsigned(*value)),
            Expression::Boolean(value) => Node::Literal(Value::Boolean(*value)),
            // A duration is compared with nothing.
            _ => Node::Literal(Value::Null),
        })
    }

    fn condition(&mut self, expression: &Expression) -> Result<Node> {
        Ok(match expression {
            Expression::Column { name, cast } => Node::Slot(self.slot(name, *cast, true)),
            Expression::Binary { operator: operator @ (Operator::Matches | Operator::MatchesNot), left, right } => {
                let Expression::Regex(regex) = &**right else { return Ok(Node::Literal(Value::Boolean(false))) };
                let value = Box::new(self.condition(left)?);
                Node::Matches { value, regex: regex.clone(), wanted: *operator == Operator::Matches }
            }
            Expression::Binary { operator, left, right } => {
                let (left, right) = (self.condition(left)?, self.condition(right)?);
                Node::Binary { operator: *operator, left: Box::new(left), right: Box::new(right) }
            }
            Expression::Call { name, arguments } if name == DATE_PART => self.date_part(arguments)?,
            Expression::Call { name, arguments } => {
                let function =
                    Math::named(name).ok_or_else(|| format!("invalid function call in condition: {expression}"))?;
                let arguments = arguments.iter().map(|argument| self.condition(argument)).collect::<Result<_>>()?;
                Node::Math { function, arguments }
            }
            other => self.other(other, Self::condition)?,
        })
    }

    fn date_part(&mut self, arguments: &[Expression]) -> Result<Node> {
        let [Expression::String(part), _] = arguments else { return Ok(Node::Literal(Value::Null)) };
        let place = self.place(Slot::time());
        Ok(Node::DatePart { part: DatePart::named(part)?, time: Box::new(Node::Slot(place)) })
    }

    fn call(&mut self, expression: &Expression) -> Result<usize> {
        let text = expression.to_string();
        let alike = self.calls_by_text.get(&text).map(Vec::as_slice).unwrap_or_default();
        if let Some(place) = alike.iter().find(|place| self.calls[**place].0 == *expression) {
            return Ok(*place);
        }
        let call = self.new_call(expression)?;
        self.calls_by_text.entry(text).or_default().push(self.calls.len());
        self.calls.push((expression.clone(), call));
        Ok(self.calls.len() - 1)
    }

    fn new_call(&mut self, expression: &Expression) -> Result<Call> {
        let Expression::Call { name, arguments } = expression else {
            return Err(format!("expected a function call, found {expression}"));
        };
        let interval = self.compiled.window.map(|window| window.interval);
        if let Some(transform) = Transform::of(name, arguments, interval) {
            let mut inner = match &arguments[0] {
                call @ Expression::Call { .. } => self.new_call(call)?,
                argument => self.plain_call(argument),
            };
            if let Some(what) = transform.refuses(inner.kind) {
                return Err(unsupported(what, inner.kind));
            }
            inner.kind = transform.kind(inner.kind);
            if transform.looks_back() {
                self.look_back(&mut inner, interval.unwrap_or(0));
            }
            inner.transforms.push(transform);
            return Ok(inner);
        }
        let (column, reducer) = Reducer::of(name, arguments, |tag| match tag {
            Expression::Column { name, cast } => self.slot(name, *cast, false),
            _ => 0,
        })?;
        let mut call = self.plain_call(column);
        if let Some(what) = reducer.refuses(call.kind) {
            let text = unsupported(what, call.kind);
            return Err(match &reducer {
                // InfluxDB chooses the best of each combination of tags in an iterator of its own.
                Reducer::Top { tags, .. } | Reducer::Bottom { tags, .. } if !tags.is_empty() => {
                    let kind = call.kind.name();
                    if call.kind == Type::String {
                        return Err(unsupported(if what == "top" { "max" } else { "min" }, call.kind));
                    }
                    let upper = kind[..1].to_uppercase() + &kind[1..];
                    text.replace("InterruptIterator", &format!("Reduce{upper}Iterator"))
                }
                _ => text,
            });
        }
        call.kind = reducer.kind(call.kind);
        call.reduced = call.kind;
        call.reducer = Some(reducer);
        Ok(call)
    }

    fn plain_call(&mut self, argument: &Expression) -> Call {
        // Nothing is made of a tag, except of one that a subquery brings as a column.
        let is_tag = self.kind(argument) == Type::Tag && !self.reads_queries();
        let slot = match argument {
            Expression::Column { name, cast } if !is_tag => self.slot(name, *cast, false),
            _ => self.slot("", Some(Cast::Field), false),
        };
        let kind = match self.slots[slot].kind {
            Type::Tag if self.reads_queries() => Type::String,
            kind => kind,
        };
        Call { slot, reducer: None, transforms: Vec::new(), kind, reduced: kind, bounds: self.bounds }
    }

    fn look_back(&self, call: &mut Call, interval: i64) {
        if self.compiled.ascending {
            if call.bounds.0 > TIME_MIN {
                call.bounds.0 = call.bounds.0.saturating_sub(interval).max(TIME_MIN);
            }
        } else if call.bounds.1 < TIME_MAX {
            call.bounds.1 = call.bounds.1.saturating_add(interval).min(TIME_MAX);
        }
    }

    /// The first and the last instant that any call reads.
    fn read_bounds(&self) -> (i64, i64) {
        let mut bounds = self.bounds;
        for (_, call) in &self.calls {
            bounds = (bounds.0.min(call.bounds.0), bounds.1.max(call.bounds.1));
        }
        bounds
    }

    fn input(&self, source: &Source, groups: &BTreeSet<String>, plain: &[usize]) -> Result<Option<Input>> {
        match source {
            Source::Table(table) => {
                let slots: Vec<_> = self.slots.iter().map(|slot| table_slot(slot, table)).collect();
                // A row is one that has a field that is asked for; tags alone make none.
                let has_field = plain.iter().any(|slot| matches!(slots[*slot], SlotSource::Field(_)));
                Ok(has_field.then(|| Input { from: From::Table(table.clone()), slots }))
            }
            Source::Query(query) => {
                let Some(level) = Lowering::new(query).level(groups, self.read_bounds())? else { return Ok(None) };
                let below = Below::of(&level);
                let slots = self.slots.iter().map(|slot| below.slot(slot)).collect();
                Ok(Some(Input { from: From::Level(Box::new(level)), slots }))
            }
        }
    }
}

fn table_slot(slot: &Slot, table: &Table) -> SlotSource {
    if slot.is_time() {
        return SlotSource::Time;
    }
    let native = table.measured.type_of(&slot.name);
    let fits = match slot.cast {
        None => true,
        Some(Cast::Tag) => native == Type::Tag,
        Some(Cast::Field) => native != Type::Tag,
        Some(Cast::Float | Cast::Integer | Cast::Unsigned) => native.is_number(),
        Some(Cast::String) => native == Type::String,
        Some(Cast::Boolean) => native == Type::Boolean,
    };
    match native {
        Type::Unknown => SlotSource::Missing,
        _ if !fits => SlotSource::Missing,
        Type::Tag => SlotSource::Tag(slot.name.clone()),
        _ => SlotSource::Field(slot.name.clone()),
    }
}

/// What a level brings, by name.
struct Below<'a> {
    groups: HashMap<&'a str, usize>,
    outputs: HashMap<&'a str, usize>,
}

impl<'a> Below<'a> {
    fn of(level: &'a Level) -> Self {
        // Of those with one name the first is meant.
        let outputs = level.columns.iter().enumerate().rev().map(|(n, column)| (column.name.as_str(), n));
        let groups = level.groups.iter().enumerate().map(|(n, group)| (group.as_str(), n));
        Self { groups: groups.collect(), outputs: outputs.collect() }
    }

    fn slot(&self, slot: &Slot) -> SlotSource {
        let name = slot.name.as_str();
        let group = || self.groups.get(name).map(|group| SlotSource::Group(*group));
        let output = || self.outputs.get(name).map(|output| SlotSource::Output(*output));
        let found = match (slot.cast, slot.blank) {
            _ if slot.is_time() => Some(SlotSource::Time),
            // The tags of a series are those that the level below tells apart, first.
            (Some(Cast::Tag), true) => group(),
            _ => output().or_else(group),
        };
        found.unwrap_or(SlotSource::Missing)
    }
}

fn unsupported(what: &str, kind: Type) -> String {
    format!("unsupported {what} iterator type: *query.{}InterruptIterator", kind.name())
}
