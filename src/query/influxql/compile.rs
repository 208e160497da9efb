//! What a `SELECT` asks for, checked as far as that goes without knowing what there is.
//!
//! The rules which calls go together, and the words for those that don't, are InfluxDB 1's.

use super::arguments::{self, count, count_exactly, go_type, period, warm_up};
use super::fold::{is_literal, reduce};
use super::time::{self, Bounds, Now, TIME_MAX, TIME_MIN};
use super::value::math_arguments;
use super::window::Window;
use crate::syntax::influxql::{Expression, Field, Fill, Measurement, Order, Regex, Select, Source};

type Result<T> = std::result::Result<T, String>;

/// The function of a part of the time.
pub(super) const DATE_PART: &str = "date_part";

/// A `SELECT` whose form is right.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    /// What is asked for, without `time`, `DISTINCT x` as `distinct(x)`, constants computed.
    pub(super) fields: Vec<Field>,
    /// How the column of the times is called.
    pub(super) time_name: String,
    pub(super) sources: Vec<CompiledSource>,
    /// On rows: what of the `WHERE` is not on time.
    pub(super) condition: Option<Expression>,
    /// The first and the last instant that it asks for; a subquery reads no more than the query around it.
    pub(super) bounds: (i64, i64),
    pub(super) dimensions: Vec<Dimension>,
    pub(super) window: Option<Window>,
    pub(super) fill: Fill,
    pub(super) ascending: bool,
    pub(super) limit: u64,
    pub(super) offset: u64,
    pub(super) series_limit: u64,
    pub(super) series_offset: u64,
}

#[derive(Debug, Clone)]
pub(super) enum CompiledSource {
    Measurement(Measurement),
    Subquery(Box<Compiled>),
}

/// What series are told apart by.
#[derive(Debug, Clone)]
pub(super) enum Dimension {
    Name(String),
    Matching(Regex),
    All,
}

/// What a subquery takes over from the query around it.
#[derive(Debug, Clone, Copy)]
struct Outer {
    window: Option<Window>,
    ascending: bool,
}

/// Checks a statement.
///
/// # Errors
/// What is wrong, in the words of InfluxDB.
pub(super) fn compile(select: &Select, now: i64) -> Result<Compiled> {
    compile_inside(select, now, None)
}

fn compile_inside(select: &Select, now: i64, outer: Option<Outer>) -> Result<Compiled> {
    let mut ascending = select.order != Some(Order::Descending);
    let when = Now { nanos: now, zone: select.zone };
    let (condition, own) = match &select.condition {
        Some(condition) => time::split(condition, when)?,
        None => (None, Bounds::default()),
    };
    if let Some(condition) = &condition {
        check_condition(condition)?;
    }
    let (dimensions, own_window) = dimensions(select, when)?;
    // A query by time does not run into the future unless it is asked to.
    let last = if own_window.is_some() { now } else { TIME_MAX };
    let mut bounds = (own.min.unwrap_or(TIME_MIN), own.max.unwrap_or(last));
    let (mut window, mut fill) = (own_window, select.fill);
    if let Some(outer) = outer {
        if select.order.is_some() && ascending != outer.ascending {
            return Err("subqueries must be ordered in the same direction as the query itself".to_owned());
        }
        ascending = outer.ascending;
        window = window.or(outer.window);
        if window.is_some() && bounds.1 == TIME_MAX {
            bounds.1 = now;
        }
        // Nobody sees an empty bucket of a subquery, unless something is put into it.
        if fill == Fill::Null {
            fill = Fill::None;
        }
    }
    let mut checks = Checks {
        has_window: window.is_some(),
        window_is_inherited: own_window.is_none() && window.is_some(),
        limit: select.limit,
        ..Checks::default()
    };
    let (fields, time_name) = checks.fields(select)?;
    checks.together(select.fill)?;

    let inner = Outer { window, ascending };
    let sources = select.sources.iter().map(|source| match source {
        Source::Measurement(measurement) => Ok(CompiledSource::Measurement(measurement.clone())),
        Source::Subquery(select) => Ok(CompiledSource::Subquery(Box::new(compile_inside(select, now, Some(inner))?))),
    });
    Ok(Compiled {
        fields,
        time_name,
        sources: sources.collect::<Result<_>>()?,
        condition,
        bounds,
        dimensions,
        window,
        fill,
        ascending,
        limit: select.limit,
        offset: select.offset,
        series_limit: select.series_limit,
        series_offset: select.series_offset,
    })
}

fn dimensions(select: &Select, now: Now) -> Result<(Vec<Dimension>, Option<Window>)> {
    let mut dimensions = Vec::new();
    let mut window: Option<Window> = None;
    let mut has_interval = false;
    for dimension in &select.dimensions {
        match &reduce(dimension) {
            Expression::Column { name, .. } if name.eq_ignore_ascii_case("time") => {
                return Err("time() is a function and expects at least one argument".to_owned());
            }
            Expression::Column { name, .. } => dimensions.push(Dimension::Name(name.clone())),
            Expression::Wildcard(_) => dimensions.push(Dimension::All),
            Expression::Regex(regex) => dimensions.push(Dimension::Matching(regex.clone())),
            Expression::Call { name, arguments } => {
                if name != "time" {
                    return Err("only time() calls allowed in dimensions".to_owned());
                }
                if arguments.is_empty() || arguments.len() > 2 {
                    return Err("time dimension expected 1 or 2 arguments".to_owned());
                }
                let Expression::Duration(interval) = arguments[0] else {
                    return Err("time dimension must have duration argument".to_owned());
                };
                if has_interval {
                    return Err("multiple time dimensions not allowed".to_owned());
                }
                if interval < 0 {
                    return Err(time::not_positive(interval));
                }
                // An interval of nothing cuts nothing.
                if interval > 0 {
                    has_interval = true;
                    let offset = arguments.get(1).map_or(Ok(0), |offset| window_offset(offset, interval, now))?;
                    window = Some(Window { interval, offset, zone: select.zone });
                }
            }
            _ => return Err("only time and tag dimensions allowed".to_owned()),
        }
    }
    Ok((dimensions, window))
}

fn window_offset(offset: &Expression, interval: i64, now: Now) -> Result<i64> {
    const WRONG: &str = "time dimension offset must be duration or now()";
    match offset {
        Expression::Duration(nanos) => Ok(nanos % interval),
        Expression::Call { name, .. } if name != "now" => {
            Err("time dimension offset function must be now()".to_owned())
        }
        Expression::Call { arguments, .. } if !arguments.is_empty() => {
            Err("time dimension offset now() function requires no arguments".to_owned())
        }
        Expression::Call { .. } => Ok(now.nanos.rem_euclid(interval)),
        Expression::String(text) => {
            let time = time::offset_of_text(text, now.zone).ok_or(WRONG)??;
            Ok(time.rem_euclid(i128::from(interval)) as i64)
        }
        _ => Err(WRONG.to_owned()),
    }
}

/// A condition holds functions of numbers, and no others.
fn check_condition(condition: &Expression) -> Result<()> {
    match condition {
        Expression::Binary { left, right, .. } => {
            check_condition(left)?;
            check_condition(right)
        }
        Expression::Parenthesis(inner) | Expression::Signed { operand: inner, .. } => check_condition(inner),
        Expression::Call { name, arguments } if name == DATE_PART => arguments::date_part(arguments),
        Expression::Call { name, arguments } => match math_arguments(name) {
            None => Err(format!("invalid function call in condition: {condition}")),
            Some(count) if count != arguments.len() => {
                Err(format!("invalid number of arguments for {name}, expected {count}, got {}", arguments.len()))
            }
            Some(_) => arguments.iter().try_for_each(check_condition),
        },
        _ => Ok(()),
    }
}

/// What is known of the calls of one statement.
#[derive(Debug)]
struct Checks {
    has_window: bool,
    window_is_inherited: bool,
    limit: u64,
    calls: usize,
    only_selectors: bool,
    has_distinct: bool,
    /// Whether columns are asked for that no call is made of.
    has_plain_columns: bool,
    top_or_bottom: Option<String>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            has_window: false,
            window_is_inherited: false,
            limit: 0,
            calls: 0,
            only_selectors: true,
            has_distinct: false,
            has_plain_columns: false,
            top_or_bottom: None,
        }
    }
}

impl Checks {
    fn fields(&mut self, select: &Select) -> Result<(Vec<Field>, String)> {
        let mut fields = Vec::new();
        let mut time_name = "time".to_owned();
        for field in &select.fields {
            match &field.expression {
                Expression::Column { name, .. } if name == "time" => {
                    time_name = field.alias.clone().unwrap_or(time_name);
                }
                expression => {
                    let expression = reduce(expression);
                    self.expression(&expression, true)?;
                    fields.push(Field { expression, alias: field.alias.clone() });
                }
            }
        }
        match fields.is_empty() {
            true => Err("at least 1 non-time field must be queried".to_owned()),
            false => Ok((fields, time_name)),
        }
    }

    /// Whether the calls go together.
    fn together(&self, fill: Fill) -> Result<()> {
        if let (Some(name), true) = (&self.top_or_bottom, self.calls > 1) {
            return Err(format!("selector function {name}() cannot be combined with other functions"));
        }
        if self.calls == 0 {
            match fill {
                Fill::None => return Err("fill(none) must be used with a function".to_owned()),
                Fill::Linear => return Err("fill(linear) must be used with a function".to_owned()),
                _ => {}
            }
            if self.has_window && !self.window_is_inherited {
                return Err("GROUP BY requires at least one aggregate function".to_owned());
            }
        }
        if self.has_distinct && (self.calls != 1 || self.has_plain_columns) {
            let message = "aggregate function distinct() cannot be combined with other functions or fields";
            return Err(message.to_owned());
        }
        if self.has_plain_columns && !self.only_selectors {
            return Err("mixing aggregate and non-aggregate queries is not supported".to_owned());
        }
        if self.has_plain_columns && self.calls > 1 {
            return Err("mixing multiple selector functions with tags or fields is not supported".to_owned());
        }
        Ok(())
    }

    fn expression(&mut self, expression: &Expression, may_be_wildcard: bool) -> Result<()> {
        match expression {
            Expression::Column { .. } => {
                self.has_plain_columns = true;
                Ok(())
            }
            Expression::Wildcard(_) | Expression::Regex(_) if !may_be_wildcard => {
                let what = if matches!(expression, Expression::Regex(_)) { "regex" } else { "wildcard" };
                Err(format!("unable to use {what} in a binary expression"))
            }
            Expression::Wildcard(_) | Expression::Regex(_) => {
                self.has_plain_columns = true;
                Ok(())
            }
            Expression::Call { name, arguments } => match math_arguments(name) {
                Some(count) if count != arguments.len() => {
                    Err(format!("invalid number of arguments for {name}, expected {count}, got {}", arguments.len()))
                }
                Some(_) => arguments
                    .iter()
                    .filter(|argument| !is_literal(argument) || matches!(argument, Expression::Regex(_)))
                    .try_for_each(|argument| self.expression(argument, may_be_wildcard)),
                None if name == DATE_PART => {
                    self.has_plain_columns = true;
                    arguments::date_part(arguments)
                }
                None => {
                    self.calls += 1;
                    self.call(name, arguments, may_be_wildcard)
                }
            },
            Expression::Binary { left, right, .. } => match (is_literal(left), is_literal(right)) {
                (true, true) => Err("cannot perform a binary expression on two literals".to_owned()),
                (true, false) => self.expression(right, false),
                (false, true) => self.expression(left, false),
                (false, false) => {
                    self.expression(left, false)?;
                    self.expression(right, false)
                }
            },
            Expression::Signed { operand, .. } => self.expression(operand, false),
            Expression::Parenthesis(inner) => self.expression(inner, may_be_wildcard),
            _ => Err("field must contain at least one variable".to_owned()),
        }
    }

    /// A call that is part of a transformation.
    fn nested(&mut self, call: &Expression, may_be_wildcard: bool) -> Result<()> {
        match call {
            Expression::Call { name, arguments } if name == "distinct" => self.distinct(arguments, true),
            _ => self.expression(call, may_be_wildcard),
        }
    }

    fn call(&mut self, name: &str, arguments: &[Expression], may_be_wildcard: bool) -> Result<()> {
        match name {
            "percentile" => {
                count(name, arguments, 2, 2)?;
                if !matches!(arguments[1], Expression::Integer(_) | Expression::Number(_)) {
                    return Err("expected float argument in percentile()".to_owned());
                }
                self.symbol(name, &arguments[0], may_be_wildcard)
            }
            "sample" => {
                count(name, arguments, 2, 2)?;
                match arguments[1] {
                    Expression::Integer(size) if size <= 0 => {
                        Err(format!("sample window must be greater than 1, got {size}"))
                    }
                    Expression::Integer(_) => self.symbol(name, &arguments[0], may_be_wildcard),
                    _ => Err("expected integer argument in sample()".to_owned()),
                }
            }
            "count_hll" => {
                count_exactly(name, arguments, 1)?;
                self.only_selectors = false;
                match &arguments[0] {
                    Expression::Call { name, arguments } if name == "sum_hll" => {
                        count_exactly(name, arguments, 1)?;
                        self.symbol(name, &arguments[0], may_be_wildcard)
                    }
                    _ => Err("count_hll() counts what sum_hll() has seen: count_hll(sum_hll(field))".to_owned()),
                }
            }
            "sum_hll" => Err("sum_hll() is told by count_hll() alone: count_hll(sum_hll(field))".to_owned()),
            "distinct" => self.distinct(arguments, false),
            "top" | "bottom" => self.top_or_bottom(name, arguments),
            "derivative" | "non_negative_derivative" | "elapsed" => {
                count(name, arguments, 1, 2)?;
                arguments::unit(name, arguments.get(1))?;
                self.transformation(name, &arguments[0], may_be_wildcard)
            }
            "difference" | "non_negative_difference" | "cumulative_sum" => {
                count_exactly(name, arguments, 1)?;
                self.transformation(name, &arguments[0], may_be_wildcard)
            }
            "moving_average" => {
                count_exactly(name, arguments, 2)?;
                match &arguments[1] {
                    Expression::Integer(window) if *window > 1 => {}
                    Expression::Integer(window) => {
                        return Err(format!("moving_average window must be greater than 1, got {window}"));
                    }
                    other => {
                        let kind = go_type(other);
                        return Err(format!(
                            "second argument for moving_average must be an integer, got *influxql.{kind}"
                        ));
                    }
                }
                self.transformation(name, &arguments[0], may_be_wildcard)
            }
            "exponential_moving_average"
            | "double_exponential_moving_average"
            | "triple_exponential_moving_average"
            | "relative_strength_index"
            | "triple_exponential_derivative" => {
                count(name, arguments, 2, 4)?;
                period(name, arguments)?;
                warm_up(name, arguments, &["exponential", "simple"])?;
                self.transformation(name, &arguments[0], may_be_wildcard)
            }
            "kaufmans_efficiency_ratio" | "kaufmans_adaptive_moving_average" => {
                count(name, arguments, 2, 3)?;
                period(name, arguments)?;
                self.transformation(name, &arguments[0], may_be_wildcard)
            }
            "chande_momentum_oscillator" => {
                count(name, arguments, 2, 4)?;
                period(name, arguments)?;
                warm_up(name, arguments, &["none", "exponential", "simple"])?;
                self.transformation(name, &arguments[0], may_be_wildcard)
            }
            "integral" => {
                count(name, arguments, 1, 2)?;
                arguments::unit(name, arguments.get(1))?;
                self.only_selectors = false;
                self.symbol(name, &arguments[0], may_be_wildcard)
            }
            "holt_winters" | "holt_winters_with_fit" => self.holt_winters(name, arguments, may_be_wildcard),
            _ => self.function(name, arguments, may_be_wildcard),
        }
    }

    fn function(&mut self, name: &str, arguments: &[Expression], may_be_wildcard: bool) -> Result<()> {
        match name {
            "max" | "min" | "first" | "last" => {}
            "count" | "sum" | "mean" | "median" | "mode" | "stddev" | "spread" => self.only_selectors = false,
            _ => return Err(format!("undefined function {name}()")),
        }
        count(name, arguments, 1, 1)?;
        match &arguments[0] {
            Expression::Call { name: inner, arguments } if name == "count" && inner == "distinct" => {
                self.distinct(arguments, true)
            }
            argument => self.symbol(name, argument, may_be_wildcard),
        }
    }

    fn symbol(&mut self, name: &str, argument: &Expression, may_be_wildcard: bool) -> Result<()> {
        let what = match argument {
            Expression::Column { .. } => return Ok(()),
            Expression::Wildcard(_) => "wildcard",
            Expression::Regex(_) => "regex field",
            _ => return Err(format!("expected field argument in {name}()")),
        };
        if !may_be_wildcard {
            return Err(format!("unsupported expression with {what}: {name}()"));
        }
        self.only_selectors = false;
        Ok(())
    }

    /// A function from row to row: of a call under `GROUP BY time()`, of a column without it.
    fn transformation(&mut self, name: &str, argument: &Expression, may_be_wildcard: bool) -> Result<()> {
        self.only_selectors = false;
        if matches!(argument, Expression::Call { .. }) {
            if !self.has_window {
                return Err(format!("{name} aggregate requires a GROUP BY interval"));
            }
            return self.nested(argument, may_be_wildcard);
        }
        if self.has_window && !self.window_is_inherited {
            return Err(format!("aggregate function required inside the call to {name}"));
        }
        self.symbol(name, argument, may_be_wildcard)
    }

    fn distinct(&mut self, arguments: &[Expression], is_nested: bool) -> Result<()> {
        match arguments {
            [] => return Err("distinct function requires at least one argument".to_owned()),
            [Expression::Column { .. }] => {}
            [_] => return Err("expected field argument in distinct()".to_owned()),
            _ => return Err("distinct function can only have one argument".to_owned()),
        }
        self.has_distinct |= !is_nested;
        self.only_selectors = false;
        Ok(())
    }

    fn top_or_bottom(&mut self, name: &str, arguments: &[Expression]) -> Result<()> {
        if let Some(other) = &self.top_or_bottom {
            return Err(format!("selector function {other}() cannot be combined with other functions"));
        }
        let [first, tags @ .., last] = arguments else {
            let got = arguments.len();
            return Err(format!("invalid number of arguments for {name}, expected at least 2, got {got}"));
        };
        match last {
            Expression::Integer(count) if *count <= 0 => {
                return Err(format!("limit ({count}) in {name} function must be at least 1"));
            }
            Expression::Integer(count) if self.limit > 0 && *count as u64 > self.limit => {
                return Err(format!(
                    "limit ({count}) in {name} function can not be larger than the LIMIT ({}) in the select statement",
                    self.limit
                ));
            }
            Expression::Integer(_) => {}
            other => return Err(format!("expected integer as last argument in {name}(), found {other}")),
        }
        if !matches!(first, Expression::Column { .. }) {
            return Err(format!("expected first argument to be a field in {name}(), found {first}"));
        }
        for tag in tags {
            if !matches!(tag, Expression::Column { .. }) {
                return Err(format!("only fields or tags are allowed in {name}(), found {tag}"));
            }
            self.has_plain_columns = true;
        }
        self.top_or_bottom = Some(name.to_owned());
        Ok(())
    }

    fn holt_winters(&mut self, name: &str, arguments: &[Expression], may_be_wildcard: bool) -> Result<()> {
        arguments::holt_winters(name, arguments)?;
        self.only_selectors = false;
        if !matches!(arguments[0], Expression::Call { .. }) {
            return Err(format!("must use aggregate function with {name}"));
        }
        if !self.has_window {
            return Err(format!("{name} aggregate requires a GROUP BY interval"));
        }
        self.nested(&arguments[0], may_be_wildcard)
    }
}
