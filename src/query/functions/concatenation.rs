//! `||` with a bound.
//!
//! A chain of `s || s` doubles with every step, and DataFusion computes it as an operator that no function stands
//! for. This planner makes a function of it: the same result, the same column name, and a check before
//! bytes are written.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue, exec_err};
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

impl ConcatenationPlanner {
    pub(super) fn new(bytes_max: usize) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { function: Arc::new(ScalarUDF::new_from_impl(Concatenation { signature, bytes_max })) }
    }
}

impl ExprPlanner for ConcatenationPlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        let is_list = |expr: &Expr| Ok::<_, datafusion::error::DataFusionError>(expr.get_type(schema)?.is_list());
        if is_list(&expr.left)? || is_list(&expr.right)? {
            return Ok(PlannerResult::Original(expr));
        }
        let call = ScalarFunction::new_udf(Arc::clone(&self.function), vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// Two texts joined; null where one is null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concatenation {
    signature: Signature,
    bytes_max: usize,
}

impl ScalarUDFImpl for Concatenation {
    fn name(&self) -> &str {
        "||"
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
        if let [left, right] = arg_types {
            BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_input_types()?;
        }
        Ok(vec![DataType::Utf8; arg_types.len()])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return exec_err!("|| joins two texts") };
        let is_constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let (bytes_left, bytes_right) = (bytes(left, rows), bytes(right, rows));
        let joined = bytes_left.saturating_add(bytes_right);
        let bytes_max = if is_constant { constant_bytes_max(self.bytes_max) } else { self.bytes_max };
        if joined > bytes_max {
            return Err(too_large(self.name(), joined, "bytes", bytes_max));
        }
        let left = cast(&left.to_array(rows)?, &DataType::Utf8)?;
        let right = cast(&right.to_array(rows)?, &DataType::Utf8)?;
        let joined = concat_elements_utf8(left.as_string::<i32>(), right.as_string::<i32>())?;
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(joined))),
        }
    }
}

/// Bytes of the texts of all rows, found before a constant is written out for each of them.
fn bytes(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Scalar(constant) => {
            constant.try_as_str().flatten().map_or(0, str::len).saturating_mul(rows)
        }
        ColumnarValue::Array(texts) => texts.as_string_opt::<i32>().map_or_else(
            || texts.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
            |texts| {
                let offsets = texts.value_offsets();
                (offsets[texts.len()] - offsets[0]) as usize
            },
        ),
    }
}
