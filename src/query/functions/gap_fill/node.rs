//! The node of a plan that fills gaps.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue, TableReference, internal_err, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, UserDefinedLogicalNodeCore};

use super::range::Source;
use super::{INTERPOLATE, LOCF};

/// How rows that are made get the value of a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::query) enum Fill {
    /// This one; rows that are there keep theirs, also nulls.
    Value(ScalarValue),
    /// The last one before that is not null; also where a row is there and has none.
    Previous,
    /// That on the line between the last before and the first after that are not null; also where a row is there and has none.
    Linear,
}

/// A column of a node that fills gaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OutputColumn {
    /// The time.
    Time,
    /// What a series has in common; a column of the input.
    Series(usize),
    /// A column of the input, filled.
    Filled(usize, Fill),
}

/// Which bins there should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BinCall {
    pub(super) is_wall_clock: bool,
    /// Without columns.
    pub(super) interval: Expr,
    /// Without columns.
    pub(super) origin: Option<Expr>,
    /// What is binned.
    pub(super) source: Source,
}

/// Rows for every bin of every series of an aggregation.
///
/// Nothing of it is an expression to DataFusion's rules: they would look for columns in the input that only the tables below have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GapFill {
    /// Rows by series and bin, with the columns of the aggregation first.
    pub(super) input: Arc<LogicalPlan>,
    /// Which column of the input is the time.
    pub(super) time: usize,
    pub(super) bin: BinCall,
    pub(super) columns: Vec<OutputColumn>,
    schema: DFSchemaRef,
}

/// A call of `locf` or `interpolate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FillCall {
    pub(super) function: String,
    pub(super) argument: Expr,
    /// How the call is named in a plan.
    pub(super) name: String,
}

impl GapFill {
    /// Fills the gaps of an aggregation whose first `groups` columns are what it groups by; `fills` are those of the others.
    pub(super) fn new(
        input: LogicalPlan,
        time: usize,
        groups: usize,
        fills: Vec<ScalarValue>,
        bin: BinCall,
    ) -> DataFusionResult<Self> {
        let group = |n| if n == time { OutputColumn::Time } else { OutputColumn::Series(n) };
        let filled =
            fills.into_iter().enumerate().map(|(n, value)| OutputColumn::Filled(groups + n, Fill::Value(value)));
        let columns: Vec<OutputColumn> = (0..groups).map(group).chain(filled).collect();
        let fields = input.schema().iter().zip(&columns).map(|((relation, field), column)| {
            let is_nullable = match column {
                OutputColumn::Filled(_, Fill::Value(value)) => field.is_nullable() || value.is_null(),
                _ => field.is_nullable(),
            };
            (relation.cloned(), Arc::new(field.as_ref().clone().with_nullable(is_nullable)))
        });
        let schema = DFSchema::new_with_metadata(fields.collect(), input.schema().metadata().clone())?;
        Ok(Self { input: Arc::new(input), time, bin, columns, schema: Arc::new(schema) })
    }

    /// The node with a column for each of these calls, named as they are.
    ///
    /// # Errors
    /// If a call is not over an aggregate, or interpolates what has no values between two others.
    pub(super) fn with_fills(mut self, calls: &[FillCall]) -> DataFusionResult<Self> {
        for call in calls {
            if self.schema.has_column_with_unqualified_name(&call.name) {
                continue; // asked for by an expression above too
            }
            let source = self.place_of(call)?;
            let (data_type, fill) = {
                let data_type = self.input.schema().field(source).data_type().clone();
                match call.function.as_str() {
                    INTERPOLATE if !can_be_interpolated(&data_type) => {
                        return plan_err!(
                            "{INTERPOLATE} works on numbers and on selectors of numbers; {} is {data_type}",
                            call.argument
                        );
                    }
                    INTERPOLATE => (data_type, Fill::Linear),
                    _ => (data_type, Fill::Previous),
                }
            };
            self.columns.push(OutputColumn::Filled(source, fill));
            let new = (None, Arc::new(Field::new(&call.name, data_type, true)));
            let mut fields: Vec<(Option<TableReference>, FieldRef)> =
                self.schema.iter().map(|(relation, field)| (relation.cloned(), Arc::clone(field))).collect();
            fields.push(new);
            self.schema = Arc::new(DFSchema::new_with_metadata(fields, self.schema.metadata().clone())?);
        }
        Ok(self)
    }

    /// The column of the input that has the argument of a call; where it is more than an aggregate, one is made below.
    fn place_of(&mut self, call: &FillCall) -> DataFusionResult<usize> {
        let argument = call.argument.clone().unalias_nested().data;
        let mut is_of_aggregate = false;
        for column in argument.column_refs() {
            match &self.columns[self.schema.index_of_column(column)?] {
                OutputColumn::Filled(source, Fill::Value(_)) => {
                    if let Expr::Column(_) = argument {
                        return Ok(*source);
                    }
                    is_of_aggregate = true;
                }
                OutputColumn::Filled(..) => return plan_err!("{LOCF} and {INTERPOLATE} can't be nested"),
                OutputColumn::Time | OutputColumn::Series(_) => {}
            }
        }
        if !is_of_aggregate {
            return plan_err!("{} must be called on an aggregate column in a gap-filling query", call.function);
        }
        let place = self.input.schema().fields().len();
        let mut expressions: Vec<Expr> =
            (0..place).map(|n| Expr::Column(Column::from(self.input.schema().qualified_field(n)))).collect();
        expressions.push(argument.alias(format!("{} of {}", call.function, call.name)));
        self.input = Arc::new(LogicalPlan::Projection(Projection::try_new(expressions, Arc::clone(&self.input))?));
        Ok(place)
    }

    /// The columns of the input that make a series.
    pub(super) fn series(&self) -> Vec<usize> {
        let of_series = |column: &OutputColumn| match column {
            OutputColumn::Series(place) => Some(*place),
            _ => None,
        };
        self.columns.iter().filter_map(of_series).collect()
    }
}

/// Whether there are values between two of a type.
fn can_be_interpolated(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            let has_value = fields.iter().any(|field| field.name() == "value" && field.data_type().is_numeric());
            has_value && fields.iter().all(|field| field.is_nullable())
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        other => other.is_integer(),
    }
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// What a series has in common can be filtered below: a series comes and goes as a whole.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let columns = self.columns.iter().zip(self.schema.fields());
        let others = columns.filter(|(column, _)| !matches!(column, OutputColumn::Series(_)));
        others.map(|(_, field)| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let BinCall { is_wall_clock, interval, source, .. } = &self.bin;
        let kind = if *is_wall_clock { " by wall clock" } else { "" };
        write!(f, "GapFill: bins=[{interval} of {}{kind}]", source.time)?;
        let name = |n: usize| self.schema.field(n).name();
        let filled = self.columns.iter().enumerate().filter_map(|(n, column)| match column {
            OutputColumn::Filled(_, Fill::Previous) => Some(format!("previous {}", name(n))),
            OutputColumn::Filled(_, Fill::Linear) => Some(format!("linear {}", name(n))),
            _ => None,
        });
        write!(f, ", fill=[{}]", filled.collect::<Vec<_>>().join(", "))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input: Arc::new(input), ..self.clone() }),
            _ => internal_err!("GapFill has one input"),
        }
    }
}
