//! `||` with a bound.
//!
//! `s || s` doubles `s`, and DataFusion computes it as an operator that no function stands for. This planner
//! makes a function of it: the same result, the same column name, and a check before bytes are written. A
//! chain becomes one call, however long it is: no text is copied twice, and no tree grows deep.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::compute::kernels::concat_elements::concat_elements_utf8_many;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::bounded::{constant_bytes_max, too_large};

/// Plans `||` between texts as a call of [`Concatenation`].
#[derive(Debug)]
pub(super) struct ConcatenationPlanner {
    function: Arc<ScalarUDF>,
}

/// What a call is named; also how the planner knows its own calls again.
const NAME: &str = "||";

impl ConcatenationPlanner {
    pub(super) fn new(bytes_max: usize) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { function: Arc::new(ScalarUDF::new_from_impl(Concatenation { signature, bytes_max })) }
    }
}

impl ExprPlanner for ConcatenationPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        let mut texts = match expr.left {
            Expr::ScalarFunction(call) if call.func.name() == NAME => call.args,
            left if left.get_type(schema)?.is_list() => {
                return Ok(PlannerResult::Original(RawBinaryExpr { left, ..expr }));
            }
            left => vec![left],
        };
        if expr.right.get_type(schema)?.is_list() {
            let left = if texts.len() == 1 { texts.remove(0) } else { self.call(texts) };
            return Ok(PlannerResult::Original(RawBinaryExpr { left, ..expr }));
        }
        texts.push(expr.right);
        Ok(PlannerResult::Planned(self.call(texts)))
    }
}

impl ConcatenationPlanner {
    fn call(&self, texts: Vec<Expr>) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.function), texts))
    }
}

/// Texts joined; null where one is null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concatenation {
    signature: Signature,
    bytes_max: usize,
}

impl ScalarUDFImpl for Concatenation {
    fn name(&self) -> &str {
        NAME
    }

    /// The name that the column of an operator has.
    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    /// What may be joined is what the operator takes; it comes as text.
    fn coerce_types(&self, arg_types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        for data_type in arg_types {
            BinaryTypeCoercer::new(&DataType::Utf8, &Operator::StringConcat, data_type).get_input_types()?;
        }
        Ok(vec![DataType::Utf8; arg_types.len()])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let joined = args.args.iter().map(|arg| bytes(arg, rows)).fold(0, usize::saturating_add);
        let bytes_max = if is_constant { constant_bytes_max(self.bytes_max) } else { self.bytes_max };
        if joined > bytes_max {
            return Err(too_large(self.name(), joined, "bytes", bytes_max));
        }
        let texts = args.args.iter().map(|arg| Ok(cast(&arg.to_array(rows)?, &DataType::Utf8)?));
        let texts = texts.collect::<DataFusionResult<Vec<_>>>()?;
        let texts: Vec<&StringArray> = texts.iter().map(|text| text.as_string::<i32>()).collect();
        let joined = concat_elements_utf8_many(&texts)?;
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(joined))),
        }
    }
}

/// Bytes of the texts of all rows, found before a constant is written out for each of them.
fn bytes(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Scalar(constant) => constant.try_as_str().flatten().map_or(0, str::len).saturating_mul(rows),
        ColumnarValue::Array(texts) => texts.as_string_opt::<i32>().map_or_else(
            || texts.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
            |texts| {
                let offsets = texts.value_offsets();
                (offsets[texts.len()] - offsets[0]) as usize
            },
        ),
    }
}
