//! That a row has a value in one of several columns.
//!
//! Of a few columns `a IS NOT NULL OR b IS NOT NULL` says so: statistics of files can decide it. Of many it would be a tree as deep as
//! there are columns, of which each look takes time for each level; there one function of all of them says it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

/// The most columns that are looked at one by one.
const COMPARED_MAX: usize = 8;

const NAME: &str = "any_present";

/// Whether a row has a value in one of the columns; of no column it has none.
pub(in crate::query) fn any_present<'a>(names: impl IntoIterator<Item = &'a String>) -> Expr {
    let columns: Vec<Expr> =
        names.into_iter().map(|name| Expr::Column(Column::new_unqualified(name.as_str()))).collect();
    if columns.len() > COMPARED_MAX {
        let signature = Signature::variadic_any(Volatility::Immutable);
        return ScalarUDF::new_from_impl(AnyPresent { signature }).call(columns);
    }
    columns.into_iter().map(Expr::is_not_null).reduce(Expr::or).unwrap_or_else(|| lit(false))
}

/// The columns of which a filter says that a row has a value in one, if it says nothing else.
pub(in crate::query) fn present_columns(filter: &Expr) -> Option<BTreeSet<&str>> {
    let mut columns = BTreeSet::new();
    add_present(filter, &mut columns).then_some(columns)
}

fn add_present<'a>(filter: &'a Expr, columns: &mut BTreeSet<&'a str>) -> bool {
    let mut add = |expr: &'a Expr| match expr {
        Expr::Column(column) => {
            columns.insert(&column.name);
            true
        }
        _ => false,
    };
    match filter {
        Expr::IsNotNull(column) => add(column.as_ref()),
        Expr::ScalarFunction(function) if function.func.name() == NAME => function.args.iter().all(add),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            add_present(left, columns) && add_present(right, columns)
        }
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AnyPresent {
    signature: Signature,
}

impl ScalarUDFImpl for AnyPresent {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let count = args.number_rows;
        let mut present = BooleanBuffer::new_unset(count);
        for column in &args.args {
            match column {
                ColumnarValue::Scalar(value) if value.is_null() => {}
                ColumnarValue::Scalar(_) => present = BooleanBuffer::new_set(count),
                ColumnarValue::Array(values) => match values.logical_nulls() {
                    Some(nulls) => present = &present | nulls.inner(),
                    None => present = BooleanBuffer::new_set(count),
                },
            }
            if present.count_set_bits() == count {
                break;
            }
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(present, None))))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, NullArray, StringArray};
    use arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;

    use super::*;

    fn answer(columns: Vec<ColumnarValue>, count: usize) -> Vec<bool> {
        let function = AnyPresent { signature: Signature::variadic_any(Volatility::Immutable) };
        let arg_fields =
            columns.iter().map(|column| Arc::new(Field::new("x", column.data_type(), true))).collect::<Vec<_>>();
        let answer = function.invoke_with_args(ScalarFunctionArgs {
            args: columns,
            arg_fields,
            number_rows: count,
            return_field: Arc::new(Field::new("present", DataType::Boolean, true)),
            config_options: Arc::new(ConfigOptions::default()),
        });
        let answer = answer.unwrap().into_array(count).unwrap();
        let truths = answer.as_any().downcast_ref::<BooleanArray>().unwrap();
        assert_eq!(truths.null_count(), 0);
        truths.values().iter().collect()
    }

    #[test]
    fn a_value_in_any_column_is_enough() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::NAN), None, None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, None, Some("x")]));
        let nothing: ArrayRef = Arc::new(NullArray::new(4));
        let column = |values: &ArrayRef| ColumnarValue::Array(Arc::clone(values));
        let null = ColumnarValue::Scalar(ScalarValue::Float64(None));
        assert_eq!(answer(vec![column(&numbers), column(&nothing), column(&texts)], 4), [true, true, false, true]);
        assert_eq!(answer(vec![null.clone(), column(&numbers)], 4), [false, true, false, false]);
        assert_eq!(answer(vec![null.clone(), ColumnarValue::Scalar(ScalarValue::from(1.0))], 2), [true, true]);
        assert_eq!(answer(vec![null], 2), [false, false]);
        let full: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 4]));
        assert_eq!(answer(vec![column(&texts), column(&full)], 4), [true; 4]);
    }

    #[test]
    fn what_a_filter_looks_at_is_known_again() {
        for count in [1, 2, COMPARED_MAX, COMPARED_MAX + 1, 100] {
            let names: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
            let filter = any_present(&names);
            assert_eq!(present_columns(&filter), Some(names.iter().map(String::as_str).collect()), "{filter}");
            assert_eq!(present_columns(&filter.and(lit(true))), None);
        }
        assert_eq!(any_present(&[]), lit(false));
    }
}
