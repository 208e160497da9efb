//! `to_timestamp` as InfluxDB has it: a whole number is of nanoseconds, as all its times are.
//!
//! DataFusion takes seconds. All else is DataFusion's: texts, floats (seconds), and `to_timestamp_seconds`, `_millis`, `_micros`
//! and `_nanos`, which say what they take.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// The function that counts nanoseconds.
pub(super) const NAME: &str = "to_timestamp";

/// `inner`, but whole numbers are of nanoseconds.
pub(super) fn of_nanoseconds(inner: Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::new_from_impl(ToTimestamp { inner })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        match args.args.as_slice() {
            [number] if number.data_type().is_integer() => {
                // By way of a signed number, so that one that is too large is an error.
                number.cast_to(&DataType::Int64, None)?.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, None), None)
            }
            _ => self.inner.invoke_with_args(args),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
