//! Parameters of a statement: what its text asks for, and the values that take their places.
//!
//! A value is brought to the type that the text settles, as if it had been written there: a text becomes a time where a time is
//! wanted. Numbers only where that keeps the value: `count > 1.5` must not become `count > 1`.
//!
//! Where a column is compared with a parameter, and nothing else is done with it, one plan serves all its values ([`for_others`]).

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::{Between, Cast, Expr, LogicalPlan, Operator};

use super::error::QueryError;
use super::stand_ins::StandIns;
use super::{Query, statement, wire};

/// A value for a `$name` in the text.
#[derive(Debug, Clone)]
pub enum Parameter {
    /// No value, of whatever type is wanted.
    Null,
    /// True or false.
    Boolean(bool),
    /// 64-bit signed.
    Integer(i64),
    /// 64-bit unsigned.
    Unsigned(u64),
    /// 64-bit floating point.
    Float(f64),
    /// UTF-8 text.
    String(String),
    /// A value of any type that Arrow has: an array of one element.
    Arrow(ArrayRef),
}

/// A parameter that a text uses.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedParameter {
    /// The name without the `$`.
    pub name: String,
    /// What it is compared with or assigned to, as on the wire; `None` if the text doesn't say.
    pub data_type: Option<DataType>,
    /// The type of its place in the plan, which may be a dictionary.
    pub(super) place: Option<DataType>,
    /// How often columns are compared with it, if that is all that it is there for.
    compared: Option<usize>,
}

/// Values for a plan that is kept for other values of the same parameters.
#[derive(Debug)]
pub(super) struct ValuesForOthers {
    /// What the plan is found by: no text of a statement, though it begins with one.
    pub(super) key: String,
    /// Those that are planned with, as stand-ins where they are exchanged.
    pub(super) planned_with: ParamValues,
    /// What is meant by these.
    pub(super) stand_ins: StandIns,
}

/// The parameters of a plan: numbered ones in order, then named ones by name.
pub(super) fn planned(plan: &LogicalPlan) -> Result<Vec<PlannedParameter>, QueryError> {
    let mut types = plan.get_parameter_types()?;
    // The planner settles types by what a parameter is compared with or assigned to; how many rows are wanted is neither, nor is
    // what it is cast to.
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for count in [&limit.skip, &limit.fetch].into_iter().flatten() {
                if let Expr::Placeholder(placeholder) = count.as_ref() {
                    types.insert(placeholder.id.clone(), Some(DataType::Int64));
                }
            }
        }
        node.apply_expressions(|expression| expression.apply(|part| cast_of_parameter(part, &mut types)))
    })?;
    let compared = compared(plan)?;
    let parameter = |name: String| {
        let id = format!("${name}");
        let data_type = types.get(&id).cloned().flatten();
        let compared = compared.get(&id).copied();
        PlannedParameter { name, data_type: data_type.as_ref().map(wire::wire_type), place: data_type, compared }
    };
    Ok(statement::parameter_names(plan)?.into_iter().map(parameter).collect())
}

/// The parameters that columns of tables are compared with wherever they are, and how often that is.
fn compared(plan: &LogicalPlan) -> DataFusionResult<HashMap<String, usize>> {
    let (mut compared, mut all) = (HashMap::<String, usize>::new(), HashMap::<String, usize>::new());
    plan.apply_with_subqueries(|node| {
        let is_filter = matches!(node, LogicalPlan::Filter(filter) if is_of_rows(&filter.input));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::Placeholder(placeholder) = part {
                    *all.entry(placeholder.id.clone()).or_default() += 1;
                }
                for other in others(part).into_iter().filter(|_| is_filter) {
                    if let Expr::Placeholder(placeholder) = other {
                        *compared.entry(placeholder.id.clone()).or_default() += 1;
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    compared.retain(|id, times| all.get(id) == Some(times));
    Ok(compared)
}

/// Whether the rows of a plan are those of a table: a filter on them comes down to it.
fn is_of_rows(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Filter(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().into_iter().all(is_of_rows)
        }
        _ => false,
    }
}

/// What a column is compared with.
fn others(expr: &Expr) -> Vec<&Expr> {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let (column, others) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right }) => {
            (left, vec![right.as_ref()])
        }
        Expr::InList(InList { expr, list, .. }) => (expr, list.iter().collect()),
        Expr::Between(Between { expr, low, high, .. }) => (expr, vec![low.as_ref(), high.as_ref()]),
        _ => return Vec::new(),
    };
    if matches!(column.as_ref(), Expr::Column(_)) { others } else { Vec::new() }
}

/// Settles the type of a parameter that is cast, if nothing else did: `CAST($1 AS BIGINT)` wants a BIGINT. `TRY_CAST` settles
/// nothing: it is there for values that don't fit.
fn cast_of_parameter(
    part: &Expr,
    types: &mut HashMap<String, Option<DataType>>,
) -> DataFusionResult<TreeNodeRecursion> {
    if let Expr::Cast(Cast { expr, field }) = part
        && let Expr::Placeholder(placeholder) = expr.as_ref()
        && let Some(unsettled @ None) = types.get_mut(&placeholder.id)
    {
        *unsettled = Some(field.data_type().clone());
    }
    Ok(TreeNodeRecursion::Continue)
}

/// The first parameter without a value.
pub(super) fn missing(parameters: &[PlannedParameter], query: &Query) -> Option<String> {
    let has_value = |parameter: &&PlannedParameter| query.parameters.iter().any(|(name, _)| *name == parameter.name);
    parameters.iter().find(|parameter| !has_value(parameter)).map(|parameter| parameter.name.clone())
}

/// How exactly values take the types of their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// In comparisons: a number that would lose something stays as it is, and the planner brings the two together.
    Loose,
    /// In rows that are written: what can't be of the column's type is an error.
    Exact,
}

/// The plan with values in the places of its parameters, each of which has one.
///
/// # Errors
/// `ParameterType` if a value can't be what the text wants.
pub(super) fn bind(
    plan: LogicalPlan,
    wanted: &[PlannedParameter],
    given: &[(String, Parameter)],
    fit: Fit,
) -> Result<LogicalPlan, QueryError> {
    if wanted.is_empty() {
        return Ok(plan);
    }
    let mut values = Vec::with_capacity(wanted.len());
    for PlannedParameter { name, data_type, place, .. } in wanted {
        let Some((_, value)) = given.iter().find(|(given, _)| given == name) else { continue };
        let wanted = if fit == Fit::Exact { place } else { data_type };
        values.push((name.clone(), fitted(name, scalar_value(value)?, wanted.as_ref(), fit)?));
    }
    Ok(plan.with_param_values(values)?)
}

/// The values with which a text is planned for others too. Of some nothing but the type matters then.
///
/// # Errors
/// `ParameterType` if a value can't be what the text wants.
pub(super) fn for_others(
    text: &str,
    wanted: &[PlannedParameter],
    given: &[(String, Parameter)],
) -> Result<ValuesForOthers, QueryError> {
    let (mut key, mut planned_with, mut meant) = (format!("{text}\0"), HashMap::new(), Vec::new());
    for PlannedParameter { name, data_type, compared, .. } in wanted {
        let Some((_, value)) = given.iter().find(|(given, _)| given == name) else { continue };
        let value = fitted(name, scalar_value(value)?, data_type.as_ref(), Fit::Loose)?;
        let value = match compared {
            Some(times) if !value.is_null() => {
                key.push_str(&format!("{}\0", value.data_type()));
                let stand_in = StandIns::value(meant.len(), &value);
                meant.push((value, *times));
                stand_in
            }
            _ => {
                key.push_str(&format!("={value:?}\0"));
                value.into()
            }
        };
        planned_with.insert(name.clone(), value);
    }
    Ok(ValuesForOthers { key, planned_with: ParamValues::Map(planned_with), stand_ins: StandIns::of_values(meant) })
}

/// The plan with nulls of the wanted types in the places of its parameters: it has the columns that it will have with values.
pub(super) fn bind_nulls(plan: LogicalPlan, wanted: &[PlannedParameter]) -> Result<LogicalPlan, QueryError> {
    let null = |parameter: &PlannedParameter| {
        let null = parameter.data_type.as_ref().map_or(Ok(ScalarValue::Null), ScalarValue::try_from);
        null.map(|null| (parameter.name.clone(), null))
    };
    Ok(plan.with_param_values(wanted.iter().map(null).collect::<Result<Vec<_>, _>>()?)?)
}

fn scalar_value(parameter: &Parameter) -> Result<ScalarValue, QueryError> {
    Ok(match parameter {
        Parameter::Null => ScalarValue::Null,
        Parameter::Boolean(value) => ScalarValue::Boolean(Some(*value)),
        Parameter::Integer(value) => ScalarValue::Int64(Some(*value)),
        Parameter::Unsigned(value) => ScalarValue::UInt64(Some(*value)),
        Parameter::Float(value) => ScalarValue::Float64(Some(*value)),
        Parameter::String(value) => ScalarValue::Utf8(Some(value.clone())),
        Parameter::Arrow(value) => {
            // Go sends values of unknown type as unions.
            let value = match value.data_type() {
                DataType::Union(_, _) => value.as_union().value(0),
                _ => ArrayRef::clone(value),
            };
            let plain = cast(&value, &wire::wire_type(value.data_type()))?;
            ScalarValue::try_from_array(&plain, 0)?
        }
    })
}

/// The value in the wanted type.
fn fitted(name: &str, value: ScalarValue, wanted: Option<&DataType>, fit: Fit) -> Result<ScalarValue, QueryError> {
    let Some(wanted) = wanted else { return Ok(value) };
    if value.is_null() {
        return Ok(ScalarValue::try_from(wanted)?);
    }
    let (given, array) = (value.data_type(), value.to_array()?);
    if given == *wanted {
        return Ok(value);
    }
    let refused = || QueryError::ParameterType {
        name: name.to_owned(),
        given: format!("{value} ({given})"),
        wanted: wanted.to_string(),
    };
    if given.is_numeric() && wanted.is_numeric() {
        let there = cast(&array, wanted);
        let and_back = there.as_ref().ok().and_then(|there| cast(there, &given).ok());
        return match (there, and_back) {
            (Ok(there), Some(back)) if *back == *array => Ok(ScalarValue::try_from_array(&there, 0)?),
            _ if fit == Fit::Loose => Ok(value),
            _ => Err(refused()),
        };
    }
    let there = cast(&array, wanted).map_err(|_| refused())?;
    Ok(ScalarValue::try_from_array(&there, 0)?)
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError> {
    if array.data_type() == to {
        return Ok(ArrayRef::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options).map_err(datafusion::error::DataFusionError::from)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int32Array, StringViewArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Int32Type, TimeUnit};

    use super::*;

    fn fit_loosely(value: &Parameter, wanted: &DataType) -> Result<ScalarValue, String> {
        let value = scalar_value(value).map_err(|error| error.to_string())?;
        fitted("1", value, Some(wanted), Fit::Loose).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_takes_the_wanted_type_where_that_keeps_it() {
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let second = ScalarValue::TimestampNanosecond(Some(1_000_000_000), None);
        assert_eq!(fit_loosely(&Parameter::Integer(7), &DataType::Float64), Ok(ScalarValue::Float64(Some(7.0))));
        assert_eq!(fit_loosely(&Parameter::Float(7.0), &DataType::Int64), Ok(ScalarValue::Int64(Some(7))));
        assert_eq!(fit_loosely(&Parameter::Float(1.5), &DataType::Int64), Ok(ScalarValue::Float64(Some(1.5))));
        assert_eq!(fit_loosely(&Parameter::Integer(-1), &DataType::UInt64), Ok(ScalarValue::Int64(Some(-1))));
        assert_eq!(fit_loosely(&Parameter::String("1970-01-01T00:00:01".into()), &nanos), Ok(second.clone()));
        let aware = TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("UTC");
        assert_eq!(fit_loosely(&Parameter::Arrow(Arc::new(aware)), &nanos), Ok(second));
        assert_eq!(fit_loosely(&Parameter::Null, &DataType::Utf8), Ok(ScalarValue::Utf8(None)));
        let exact = fitted("1", ScalarValue::from(1.5), Some(&DataType::Int64), Fit::Exact).unwrap_err();
        assert_eq!(exact.to_string(), "the parameter $1 is 1.5 (Float64), which can't be Int64");
        let refused = fit_loosely(&Parameter::String("soon".into()), &nanos).unwrap_err();
        assert_eq!(refused, "the parameter $1 is soon (Utf8), which can't be Timestamp(ns)");
    }

    #[test]
    fn dictionaries_and_views_are_their_values() {
        let dictionary: DictionaryArray<Int32Type> = ["a"].into_iter().collect();
        for value in [Arc::new(dictionary) as ArrayRef, Arc::new(StringViewArray::from(vec!["a"]))] {
            assert_eq!(scalar_value(&Parameter::Arrow(value)).unwrap(), ScalarValue::from("a"));
        }
        let small: ArrayRef = Arc::new(Int32Array::from(vec![3]));
        assert_eq!(fit_loosely(&Parameter::Arrow(small), &DataType::Int64), Ok(ScalarValue::Int64(Some(3))));
    }
}
